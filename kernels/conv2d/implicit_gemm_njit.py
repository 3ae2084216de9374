"""Implicit GEMM over images: patches times filters in register tiles, with no copy of the patches.

Two tables of offsets say where a patch lies (`shared/patches_njit.py`); what is done with it, and what that costs, stands
in `shared/implicit_gemm_njit.py`.
"""

from __future__ import annotations

from gpucnn.ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight
from gpucnn.registry import kernel

from ..shared.convolution_njit import (
    forward,
    forward_workspace,
    grad_input,
    grad_input_workspace,
    grad_weight,
    grad_weight_workspace,
    supports,
)


@kernel(conv2d, "implicit_gemm", "njit", supports=supports, workspace=forward_workspace)
def launch(y, x, weight, panels, scratch, **window):
    """y = patches of x times weight."""
    forward(y, x, weight, panels, scratch, **window)


@kernel(conv2d_grad_input, "implicit_gemm", "njit", supports=supports, workspace=grad_input_workspace)
def launch_grad_input(dx, dy, weight, panels, scratch, **window):
    """dx = patches of dy times the weight turned around."""
    grad_input(dx, dy, weight, panels, scratch, **window)


@kernel(conv2d_grad_weight, "implicit_gemm", "njit", supports=supports, workspace=grad_weight_workspace)
def launch_grad_weight(dweight, dy, x, sums, images, filled, **window):
    """dweight = transposed patches of x times dy."""
    grad_weight(dweight, dy, x, sums, images, filled, **window)
