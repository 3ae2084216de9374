"""Direct convolution of images, with a patch of results per thread in registers. The baseline to
beat.

Each op costs 2 · N P Q K · R S C FLOPs. One thread per value would load two floats for each
multiply-add; a patch of 4 × 4 results loads five times for sixteen. The kernel needs no matrix of
columns and no shared memory, and it takes every stride, dilation and number of groups. Use it where
matrix products are at their worst: few channels, depthwise filters.

`shared/direct_launch.py` launches it and `include/direct.cuh` holds the device code, both for all
families of convolutions.
"""

from gpucnn.ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight

from ..shared.direct_launch import register

register(__file__, conv2d, conv2d_grad_input, conv2d_grad_weight)
