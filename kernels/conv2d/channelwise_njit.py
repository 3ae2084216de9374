"""Convolution of images in small groups, vectorised over channels: depthwise convolution above all.

`shared/channelwise_njit.py` holds the three ops and what they cost.
"""

from gpucnn.ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight

from ..shared.channelwise_njit import register

register(__file__, conv2d, conv2d_grad_input, conv2d_grad_weight)
