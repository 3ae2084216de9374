"""Group normalisation in one launch, a few lanes or a block for each group: its mean first, then the
squares around it, which keeps all digits of the variance where the mean is large."""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.groupnorm import groupnorm, groupnorm_grad, groupnorm_grad_gamma

from ..shared.column_sums_launch import DEFINES, column_totals, sums_of_slices
from ..shared.rows_launch import over_rows

groupnorm_rows = cuda_function(__file__, "groupnorm_rows", **DEFINES)
groupnorm_grad_rows = cuda_function(__file__, "groupnorm_grad_rows", **DEFINES)
groupnorm_grad_gamma_rows = cuda_function(__file__, "groupnorm_grad_gamma_rows", **DEFINES)


def _shape(x, groups):
    N, P, C = x.shape
    return over_rows(N * groups, P * C // groups), (N, P, C)


@kernel(groupnorm, "two_pass", "cuda")
def launch(y, mean, variance, x, gamma, beta, *, groups, epsilon):
    grid, extents = _shape(x, groups)
    groupnorm_rows[grid](y, mean, variance, x, gamma, beta, *extents, groups, epsilon)


@kernel(groupnorm_grad, "two_pass", "cuda")
def launch_grad(dx, dy, x, gamma, mean, variance, *, groups, epsilon):
    grid, extents = _shape(x, groups)
    groupnorm_grad_rows[grid](dx, dy, x, gamma, mean, variance, *extents, groups, epsilon)


@kernel(groupnorm_grad_gamma, "two_pass", "cuda", workspace=lambda dy, *_, **__: sums_of_slices(dy))
def launch_grad_gamma(dgamma, dy, x, mean, variance, sums=None, *, groups, epsilon):
    arrays, end = (dy, x, mean, variance), (x.shape[1], groups, epsilon)
    column_totals(groupnorm_grad_gamma_rows, dgamma, sums, dy.size // dgamma.size, *arrays, end=end)
