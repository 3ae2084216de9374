"""Batch normalisation with an activation behind it: both in the pass that writes the result, and the slope
of the activation in the pass that adds up.

Traffic: x read three times, y written once; for the gradient dy and x read twice and dx written once, or for a
dear function dy read once, x twice and dx written twice and read once.
"""

from __future__ import annotations

from gpucnn.dispatch.op import kernel
from gpucnn.ops.batchnorm_activation import batchnorm_activation, batchnorm_activation_grad

from ..shared.batchnorm_njit import gradients, normalize, supports, workspace
from ..shared.epilogue_njit import end, slope_at

_CHEAP = {"relu", "relu6", "leaky_relu", "hard_sigmoid", "hard_tanh", "hard_shrink", "soft_shrink", "hard_silu"}
"""Functions whose slope is computed faster than dy times it is written and read again."""


@kernel(batchnorm_activation, "two_pass", "njit", supports=supports, workspace=workspace, compiled=True)
def launch(y, mean, variance, x, gamma, beta, sums=None, numbers=None, *, epsilon, function, alpha):
    """The statistics, then y."""
    normalize(y, mean, variance, x, gamma, beta, sums, numbers, epsilon, end(function), alpha)


@kernel(batchnorm_activation_grad, "two_pass", "njit", supports=supports, workspace=workspace, compiled=True)
def launch_grad(
    dx, dgamma, dbeta, dy, x, gamma, beta, mean, variance, sums=None, numbers=None, *, epsilon, function, alpha
):
    """The two sums over the batch, then dx."""
    gradients(
        True, dx, dgamma, dbeta, dy, x, gamma, beta, mean, variance, sums, numbers, epsilon, slope_at(function), alpha,
        once=function not in _CHEAP,
    )  # fmt: skip
