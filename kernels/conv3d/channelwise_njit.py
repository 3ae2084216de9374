"""Convolution of volumes in small groups, vectorised over channels: depthwise convolution above all.

`shared/channelwise_njit.py` holds the three ops and what they cost.
"""

from gpucnn.ops.conv3d import conv3d, conv3d_grad_input, conv3d_grad_weight

from ..shared.channelwise_njit import register

register(__file__, conv3d, conv3d_grad_input, conv3d_grad_weight)
