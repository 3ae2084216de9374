"""im2col: copy the patches of volumes into a matrix, then one matrix product. The second rung after `direct`.

The FLOPs are those of `direct`, but done by the tiled product of `matmul/warptiled`, in which 64 to 128 filters and
pixels share what they fetch. The price is the matrix: T R S times as large as x at stride 1, written once and read once
for each tile of filters: 8 bytes for each 2 K FLOPs, which bounds a layer with few filters K. It is made by slices of
the batch that fit into the L2 cache. `implicit_gemm` makes the same product without the matrix. The work is in
`shared/im2col_launch.py`.
"""

from gpucnn.ops.conv3d import conv3d, conv3d_grad_input, conv3d_grad_weight
from gpucnn.registry import kernel

from ..shared.im2col_launch import (
    Im2col,
    supports,
    supports_grad_weight,
    workspace,
    workspace_grad_input,
    workspace_grad_weight,
)

im2col = Im2col(__file__)


@kernel(conv3d, "im2col", "cuda", supports=supports, workspace=workspace)
def launch(y, x, weight, columns, parts=None, **window):
    """y = columns · weight."""
    im2col.forward(y, x, weight, columns, parts, **window)


@kernel(conv3d_grad_input, "im2col", "cuda", supports=supports, workspace=workspace_grad_input)
def launch_grad_input(dx, dy, weight, columns, **window):
    """dx = col2im of dy · weightᵀ."""
    im2col.grad_input(dx, dy, weight, columns, **window)


@kernel(conv3d_grad_weight, "im2col", "cuda", supports=supports_grad_weight, workspace=workspace_grad_weight)
def launch_grad_weight(dweight, dy, x, columns, parts=None, **window):
    """dweight = columnsᵀ · dy."""
    im2col.grad_weight(dweight, dy, x, columns, parts, **window)
