"""Batch normalisation in two passes over x for the statistics and one for the result; its gradient
in one and one.

Each slice of the rows has its own sums, in float64, and they are added in order: the same bits on
any number of threads, and no rounding to speak of. Rows are taken side by side, so that few channels
fill vectors too. Traffic: x read three times, y written once; for the gradient dy and x read twice,
dx written once.
"""

from __future__ import annotations

import math

import numpy as np

from gpucnn.devices.njit import inner
from gpucnn.devices.team import tasks, whole
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.batchnorm import batchnorm, batchnorm_grad, batchnorm_inference, batchnorm_inference_grad

from ..shared.columns_njit import column_sums, fold, repeat, row_bounds, sums_of_slices, width
from ..shared.slices_launch import in_slices

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def _supports(x: Spec, *_: object, **__: object) -> bool:
    return x.dtype == _FLOAT32


def _numbers(x: Spec, *_: object, **__: object) -> Spec:
    """The numbers of the channels, repeated."""
    return Spec((4, width(math.prod(x.shape), x.shape[-1])), _FLOAT32)


def _workspace(x: Spec, *_: object, **__: object) -> tuple[Spec, ...]:
    """Two sums for each slice as well; nothing where there is one slice."""
    numbers = _numbers(x)
    count = len(row_bounds(math.prod(x.shape), x.shape[-1])) - 1
    return () if count == 1 else (Spec((2, count, numbers.shape[1]), _FLOAT64), numbers)


@kernel(batchnorm, "two_pass", "njit", supports=_supports, workspace=_workspace, compiled=True)
def launch(y, mean, variance, x, gamma, beta, sums=None, numbers=None, *, epsilon):
    """Mean, then variance, then y; in one call where there is one slice."""
    flat, out = x.reshape(-1), y.reshape(-1)
    if sums is None:
        _whole(out, mean, variance, flat, gamma, beta, width(x.size, mean.size), epsilon)
        return
    centre, spread = np.empty((2, mean.size))
    slices, bounds = sums.shape[1], row_bounds(x.size, mean.size)
    sums_of_slices(slices, sums[0], flat, bounds)
    _all_means(centre, mean, sums[0], x.size)
    _squares_of_slices(slices, sums[1], flat, centre, bounds)
    _all_means(spread, variance, sums[1], x.size)
    _prepare_all(numbers, centre, spread, gamma, beta, epsilon)
    _shift_slices(slices, out, flat, numbers, bounds)


@kernel(batchnorm_inference, "two_pass", "njit", supports=_supports, compiled=True)
def launch_inference(y, x, gamma, beta, mean, variance, *, epsilon):
    """The last of the three passes."""
    columns = mean.size
    rows = y.reshape(-1, columns), x.reshape(-1, columns)
    in_slices(_shift_rows, rows, mean, variance, gamma, beta, width(x.size, columns), epsilon)


@kernel(batchnorm_grad, "two_pass", "njit", supports=_supports, workspace=_workspace, compiled=True)
def launch_grad(dx, dgamma, dbeta, dy, x, gamma, mean, variance, sums=None, numbers=None, *, epsilon):
    """The two sums over the batch, then dx."""
    _gradients(True, dx, dgamma, dbeta, dy, x, gamma, mean, variance, sums, numbers, epsilon)


@kernel(batchnorm_inference_grad, "two_pass", "njit", supports=_supports, workspace=_workspace, compiled=True)
def launch_inference_grad(dx, dgamma, dbeta, dy, x, gamma, mean, variance, sums=None, numbers=None, *, epsilon):
    """The same where mean and variance do not depend on x: dx is dy times the slope."""
    _gradients(False, dx, dgamma, dbeta, dy, x, gamma, mean, variance, sums, numbers, epsilon)


def _gradients(training, dx, dgamma, dbeta, dy, x, gamma, mean, variance, sums, numbers, epsilon):
    """Both gradients; in one call where there is one slice."""
    flat_x, flat_dy, out = x.reshape(-1), dy.reshape(-1), dx.reshape(-1)
    if sums is None:
        wide = width(x.size, mean.size)
        _whole_grad(out, dgamma, dbeta, flat_dy, flat_x, gamma, mean, variance, wide, np.float32(training), epsilon)
        return
    slices, bounds = sums.shape[1], row_bounds(x.size, mean.size)
    _products_of_slices(slices, sums, flat_dy, flat_x, mean, bounds)
    _prepare_all_grad(numbers, dgamma, dbeta, sums, gamma, mean, variance, np.float32(training), epsilon, x.size)
    if training:
        _shift_slices_back(slices, out, flat_dy, flat_x, numbers, bounds)
    else:
        _scale_slices(slices, out, flat_dy, numbers[3], bounds)


@tasks
def _squares_of_slices(part, sums, x, mean, bounds):
    _sum_squares(sums[part], x[bounds[part] : bounds[part + 1]], mean)


@tasks
def _shift_slices(part, y, x, numbers, bounds):
    _shift(y[bounds[part] : bounds[part + 1]], x[bounds[part] : bounds[part + 1]], numbers)


@tasks
def _products_of_slices(part, sums, dy, x, mean, bounds):
    first, last = bounds[part], bounds[part + 1]
    _sum_products(sums[0, part], sums[1, part], dy[first:last], x[first:last], mean)


@tasks
def _shift_slices_back(part, dx, dy, x, numbers, bounds):
    first, last = bounds[part], bounds[part + 1]
    _shift_back(dx[first:last], dy[first:last], x[first:last], numbers)


@tasks
def _scale_slices(part, dx, dy, slope, bounds):
    _scale(dx[bounds[part] : bounds[part + 1]], dy[bounds[part] : bounds[part + 1]], slope)


@whole
def _whole(y, mean, variance, x, gamma, beta, wide, epsilon):
    means, sums, numbers = np.empty((2, len(mean))), np.empty((2, 1, wide)), np.empty((4, wide), np.float32)
    column_sums(sums[0, 0], x)
    _means(means[0], mean, sums[0], len(x))
    _sum_squares(sums[1, 0], x, means[0])
    _means(means[1], variance, sums[1], len(x))
    _prepare(numbers, means[0], means[1], gamma, beta, epsilon)
    _shift(y, x, numbers)


@whole
def _whole_grad(dx, dgamma, dbeta, dy, x, gamma, mean, variance, wide, training, epsilon):
    sums, numbers = np.empty((2, 1, wide)), np.empty((4, wide), np.float32)
    _sum_products(sums[0, 0], sums[1, 0], dy, x, mean)
    _prepare_grad(numbers, dgamma, dbeta, sums, gamma, mean, variance, training, epsilon, len(x))
    _shift_back(dx, dy, x, numbers)


@inner
def _means(means, rounded, sums, size):
    fold(means, sums)
    for k in range(len(means)):
        means[k] /= size // len(means)
        rounded[k] = means[k]


_all_means = whole(_means)


@inner
def _sum_squares(sums, x, mean):
    wide = len(sums)
    centre = np.empty(wide)
    repeat(centre, mean)
    sums[:] = 0.0
    for start in range(0, len(x), wide):
        values = x[start : start + wide]
        for j in range(len(values)):
            centred = np.float64(values[j]) - centre[j]
            sums[j] += centred * centred


@inner
def _prepare(numbers, mean, variance, gamma, beta, epsilon):
    """Mean, slope and beta of each channel, repeated."""
    columns = len(mean)
    for k in range(columns):
        slope = 1.0 / np.sqrt(np.float64(variance[k]) + epsilon)
        if gamma is not None:
            slope *= gamma[k]
        numbers[0, k], numbers[1, k], numbers[2, k] = mean[k], slope, 0.0
        if beta is not None:
            numbers[2, k] = beta[k]
    for i in range(3):
        repeat(numbers[i], numbers[i, :columns].copy())


_prepare_all = whole(_prepare)


@inner
def _shift(y, x, numbers):
    wide = numbers.shape[1]
    mean, slope, beta = numbers[0], numbers[1], numbers[2]
    for start in range(0, len(x), wide):
        values, results = x[start : start + wide], y[start : start + wide]
        for j in range(len(values)):
            results[j] = (values[j] - mean[j]) * slope[j] + beta[j]


@inner
def _shift_rows(y, x, mean, variance, gamma, beta, wide, epsilon):
    numbers = np.empty((4, wide), np.float32)
    _prepare(numbers, mean, variance, gamma, beta, epsilon)
    _shift(y.reshape(-1), x.reshape(-1), numbers)


@inner
def _sum_products(plain, product, dy, x, mean):
    wide = len(plain)
    centre = np.empty(wide)
    repeat(centre, mean)
    plain[:] = 0.0
    product[:] = 0.0
    for start in range(0, len(x), wide):
        values, slopes = x[start : start + wide], dy[start : start + wide]
        for j in range(len(values)):
            g = np.float64(slopes[j])
            plain[j] += g
            product[j] += g * (np.float64(values[j]) - centre[j])


@inner
def _prepare_grad(numbers, dgamma, dbeta, sums, gamma, mean, variance, training, epsilon, size):
    """dgamma and dbeta; and mean, level, tilt and slope of each channel, repeated. Level and tilt
    are 0 unless `training` is 1."""
    columns = len(mean)
    count = size // columns
    plain, product = np.empty(columns), np.empty(columns)
    fold(plain, sums[0])
    fold(product, sums[1])
    for k in range(columns):
        scale = 1.0 / np.sqrt(np.float64(variance[k]) + epsilon)
        dbeta[k], dgamma[k] = plain[k], product[k] * scale
        numbers[0, k], numbers[1, k] = mean[k], training * plain[k] / count
        numbers[2, k], numbers[3, k] = training * product[k] * scale / count * scale, scale
        if gamma is not None:
            numbers[3, k] = scale * gamma[k]
    for i in range(4):
        repeat(numbers[i], numbers[i, :columns].copy())


_prepare_all_grad = whole(_prepare_grad)


@inner
def _shift_back(dx, dy, x, numbers):
    wide = numbers.shape[1]
    mean, level, tilt, slope = numbers[0], numbers[1], numbers[2], numbers[3]
    for start in range(0, len(x), wide):
        part = slice(start, start + wide)
        values, slopes, results = x[part], dy[part], dx[part]
        for j in range(len(values)):
            results[j] = (slopes[j] - level[j] - (values[j] - mean[j]) * tilt[j]) * slope[j]


@inner
def _scale(dx, dy, slope):
    wide = len(slope)
    for start in range(0, len(dy), wide):
        slopes, results = dy[start : start + wide], dx[start : start + wide]
        for j in range(len(slopes)):
            results[j] = slopes[j] * slope[j]
