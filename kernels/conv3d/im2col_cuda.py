"""im2col: copy every patch of the volumes into a matrix, then multiply once. The second rung after
`direct`.

This is `conv2d/im2col_cuda` with one more axis; read that first. The matrix is T R S times as large
as x at stride 1, 27 times for filters of 3 × 3 × 3.
"""

from gpucnn.ops.conv3d import conv3d, conv3d_grad_input, conv3d_grad_weight

from ..shared.im2col_launch import register

register(__file__, conv3d, conv3d_grad_input, conv3d_grad_weight)
