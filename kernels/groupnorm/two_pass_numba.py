"""Group normalisation by trees in shared memory: a few threads for a short group, a block for a long
one.

A group of P positions has P · (C / groups) values, in runs of C / groups. Its mean comes first, then
the squares around it, which keeps all digits of the variance where the mean is large; only the first
time is it read from beyond the cache. The gradient with respect to gamma is a column sum in slices.

grid: blocks of (threads of a group, groups) threads. Threads of a group that does not exist go
without values: the barriers need them.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from gpucnn.devices.numba_cuda import cuda, numba_device, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.groupnorm import groupnorm, groupnorm_grad, groupnorm_grad_gamma

from ..shared.column_sums_numba import add_lanes, share_of_thread, sum_rows, sums_of_slices
from ..shared.rows_launch import MOST_THREADS, over_rows
from ..shared.rows_numba import row_of_thread, row_sum

ZERO, ONE = np.float32(0), np.float32(1)


@numba_device
def place(row, j, x, groups):
    """Image, position and channel of value j of a group."""
    width = x.shape[2] // groups
    return row // groups, j // width, row % groups * width + j % width


@numba_device
def length_of(row, x, groups):
    """The number of values of a group; 0 beyond the last one."""
    return x.shape[1] * (x.shape[2] // groups) if row < x.shape[0] * groups else 0


@numba_function
def groupnorm_rows(y, mean, variance, x, gamma, beta, groups, epsilon, has_gamma, has_beta):
    partials = cuda.shared.array(MOST_THREADS, numba.float32)
    row = row_of_thread()
    length = length_of(row, x, groups)
    count = np.float32(x.shape[1] * (x.shape[2] // groups))
    total = ZERO
    for j in range(cuda.threadIdx.x, length, cuda.blockDim.x):
        n, p, c = place(row, j, x, groups)
        total += x[n, p, c]
    centre = row_sum(total, partials) / count

    squares = ZERO
    for j in range(cuda.threadIdx.x, length, cuda.blockDim.x):
        n, p, c = place(row, j, x, groups)
        centred = x[n, p, c] - centre
        squares += centred * centred
    spread = row_sum(squares, partials) / count
    scale = ONE / math.sqrt(spread + epsilon)

    for j in range(cuda.threadIdx.x, length, cuda.blockDim.x):
        n, p, c = place(row, j, x, groups)
        slope = scale * gamma[c] if has_gamma else scale
        result = (x[n, p, c] - centre) * slope
        y[n, p, c] = result + beta[c] if has_beta else result
    if cuda.threadIdx.x == 0 and length > 0:
        mean[row] = centre
        variance[row] = spread


@numba_function
def groupnorm_grad_rows(dx, dy, x, gamma, mean, variance, groups, epsilon, has_gamma):
    partials = cuda.shared.array(MOST_THREADS, numba.float32)
    row = row_of_thread()
    length = length_of(row, x, groups)
    count = np.float32(x.shape[1] * (x.shape[2] // groups))
    centre = mean[row] if length > 0 else ZERO
    scale = ONE / math.sqrt(variance[row] + epsilon) if length > 0 else ZERO

    plain, along = ZERO, ZERO
    for j in range(cuda.threadIdx.x, length, cuda.blockDim.x):
        n, p, c = place(row, j, x, groups)
        slope = dy[n, p, c] * gamma[c] if has_gamma else dy[n, p, c]
        plain += slope
        along += slope * ((x[n, p, c] - centre) * scale)
    level = row_sum(plain, partials) / count
    tilt = row_sum(along, partials) / count

    for j in range(cuda.threadIdx.x, length, cuda.blockDim.x):
        n, p, c = place(row, j, x, groups)
        slope = dy[n, p, c] * gamma[c] if has_gamma else dy[n, p, c]
        dx[n, p, c] = (slope - level - (x[n, p, c] - centre) * scale * tilt) * scale


@numba_function
def groupnorm_grad_gamma_rows(sums, dy, x, mean, variance, positions, groups, epsilon, width):
    """sums[slice, c] = Σ dy[i, c] · normal over the rows i of the slice."""
    first, end, step, c = share_of_thread(sums.shape[0], dy.shape[0], dy.shape[1], width)
    value = ZERO
    for i in range(first, end, step):
        group = i // positions * groups + c // (dy.shape[1] // groups)
        value += dy[i, c] * (x[i, c] - mean[group]) / math.sqrt(variance[group] + epsilon)
    add_lanes(sums, value, width)


@kernel(groupnorm, "two_pass", "numba")
def launch(y, mean, variance, x, gamma, beta, *, groups, epsilon):
    N, P, C = x.shape
    scales = x.reshape(-1) if gamma is None else gamma
    shifts = x.reshape(-1) if beta is None else beta
    numbers = groups, float(epsilon), gamma is not None, beta is not None
    groupnorm_rows[over_rows(N * groups, P * C // groups)](
        y, mean.reshape(-1), variance.reshape(-1), x, scales, shifts, *numbers
    )


@kernel(groupnorm_grad, "two_pass", "numba")
def launch_grad(dx, dy, x, gamma, mean, variance, *, groups, epsilon):
    N, P, C = x.shape
    scales = x.reshape(-1) if gamma is None else gamma
    numbers = groups, float(epsilon), gamma is not None
    groupnorm_grad_rows[over_rows(N * groups, P * C // groups)](
        dx, dy, x, scales, mean.reshape(-1), variance.reshape(-1), *numbers
    )


@kernel(groupnorm_grad_gamma, "two_pass", "numba", workspace=lambda dy, *_, **__: sums_of_slices(dy))
def launch_grad_gamma(dgamma, dy, x, mean, variance, sums=None, *, groups, epsilon):
    end = mean.reshape(-1), variance.reshape(-1), x.shape[1], groups, float(epsilon)
    sum_rows(groupnorm_grad_gamma_rows, dgamma, sums, dy, x, end=end)
