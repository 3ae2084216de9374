"""Batch normalisation in two passes over x for the statistics and one for the result; its gradient
in one and one.

Traffic: x read three times, y written once; for the gradient dy and x read twice, dx written once.
"""

from __future__ import annotations

from gpucnn.dispatch.op import kernel
from gpucnn.ops.batchnorm import batchnorm, batchnorm_grad, batchnorm_inference, batchnorm_inference_grad

from ..shared.batchnorm_njit import gradients, normalize, shift_rows, supports, workspace
from ..shared.columns_njit import width
from ..shared.slices_launch import in_slices


@kernel(batchnorm, "two_pass", "njit", supports=supports, workspace=workspace, compiled=True)
def launch(y, mean, variance, x, gamma, beta, sums=None, numbers=None, *, epsilon):
    """The statistics, then y."""
    normalize(y, mean, variance, x, gamma, beta, sums, numbers, epsilon)


@kernel(batchnorm_inference, "two_pass", "njit", supports=supports, compiled=True)
def launch_inference(y, x, gamma, beta, mean, variance, *, epsilon):
    """The last of the three passes."""
    columns = mean.size
    rows = y.reshape(-1, columns), x.reshape(-1, columns)
    in_slices(shift_rows, rows, mean, variance, gamma, beta, width(x.size, columns), epsilon)


@kernel(batchnorm_grad, "two_pass", "njit", supports=supports, workspace=workspace, compiled=True)
def launch_grad(dx, dgamma, dbeta, dy, x, gamma, mean, variance, sums=None, numbers=None, *, epsilon):
    """The two sums over the batch, then dx."""
    gradients(True, dx, dgamma, dbeta, dy, x, gamma, None, mean, variance, sums, numbers, epsilon)


@kernel(batchnorm_inference_grad, "two_pass", "njit", supports=supports, workspace=workspace, compiled=True)
def launch_inference_grad(dx, dgamma, dbeta, dy, x, gamma, mean, variance, sums=None, numbers=None, *, epsilon):
    """The same where mean and variance do not depend on x: dx is dy times the slope."""
    gradients(False, dx, dgamma, dbeta, dy, x, gamma, None, mean, variance, sums, numbers, epsilon)
