"""im2col: copy every patch of the images into a matrix, then multiply once. The second rung after
`direct`.

The FLOPs are those of `direct`, but done by the tiled product of `matmul/warptiled`, in which 64 to
128 filters and pixels share what they fetch. The price is the matrix: R S times as large as x at
stride 1, written once and read once for each tile of filters. That is 8 bytes for each 2 K FLOPs,
which bounds a layer with few filters K. The matrix is built by slices of the batch that fit into
the L2 cache. `implicit_gemm` computes the same product without the matrix.

`shared/im2col_launch.py` launches it and `shared/im2col_cuda.cu` holds the kernels, both for all
families of convolutions.
"""

from gpucnn.ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight

from ..shared.im2col_launch import register

register(__file__, conv2d, conv2d_grad_input, conv2d_grad_weight)
