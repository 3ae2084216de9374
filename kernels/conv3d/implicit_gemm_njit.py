"""Implicit GEMM over volumes: patches times filters in register tiles, with no copy of the patches.

This is the fastest convolution on the CPU. Two tables of offsets say where a patch lies
(`shared/patches_njit.py`); `shared/implicit_gemm_njit.py` holds the product and what it costs, and
`shared/convolution_njit.py` makes the ops of it.
"""

from gpucnn.ops.conv3d import conv3d, conv3d_bias_activation, conv3d_grad_input, conv3d_grad_weight

from ..shared.convolution_njit import ended, register

register(__file__, conv3d, conv3d_grad_input, conv3d_grad_weight)
ended(__file__, conv3d_bias_activation)
