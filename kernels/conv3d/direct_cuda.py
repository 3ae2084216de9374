"""Direct convolution of volumes, with a patch of results per thread in registers. The baseline to
beat.

This is `conv2d/direct_cuda` with one more axis; read that first. Each op costs
2 · N O P Q K · T R S C FLOPs.
"""

from gpucnn.ops.conv3d import conv3d, conv3d_grad_input, conv3d_grad_weight

from ..shared.direct_launch import register

register(__file__, conv3d, conv3d_grad_input, conv3d_grad_weight)
