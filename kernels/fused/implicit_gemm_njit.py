"""Implicit GEMM that finishes each tile while it is in registers, and each block of tiles while it is
in the first-level cache: bias, activation and, for pooling, the largest of four.

The four patches of a tile are one pooling window, so a pooled convolution writes a quarter of the
values and one byte for each of them. Bias and activation come after the maximum: both keep its
place.
"""

from __future__ import annotations

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import conv2d_bias_activation, conv2d_bias_activation_maxpool

from ..shared.convolution_njit import ended, supports
from ..shared.epilogue_njit import end
from ..shared.implicit_gemm_njit import POOL, RELU, filters_of, product, workspace
from ..shared.patches_njit import Patches, pooled_patches

ended(__file__, conv2d_bias_activation)


def _pooled(x: Spec, weight: Spec, strides, padding, dilation) -> Patches:
    return pooled_patches(x.shape[1:3], x.shape[-1], weight.shape[:2], strides, padding, dilation)


def _pool_workspace(x: Spec, weight: Spec, b: Spec, *, function, alpha, **window) -> tuple[Spec, Spec]:
    return workspace(x.shape[0], weight.shape[-1], _pooled(x, weight, **window))


@kernel(
    conv2d_bias_activation_maxpool,
    "implicit_gemm",
    "njit",
    supports=supports,
    workspace=_pool_workspace,
    compiled=True,
)
def launch_pooled(y, index, x, weight, b, panels, scratch, *, function, alpha, **window):
    """The largest of four, with the patches in the order of the pooling windows."""
    table, matrix = _pooled(x, weight, **window), filters_of(weight)
    if function == "relu":
        product(y, index, x, matrix, b, table, RELU | POOL, panels, scratch)
    else:
        product(y, index, x, matrix, b, table, POOL, panels, scratch, function=end(function), alpha=alpha)
