"""Batch normalisation in two passes over x for the statistics and one for the result; its gradient
in one and one.

Each slice of the rows has its own sums, in float64, and they are added in order: the same bits on
any number of threads, and no rounding to speak of. Rows are taken side by side, so that few channels
fill vectors too. Traffic: x read three times, y written once; for the gradient dy and x read twice,
dx written once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.njit import njit
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.batchnorm import batchnorm, batchnorm_grad, batchnorm_inference, batchnorm_inference_grad

from ..shared.columns_njit import column_sums, fold, repeat, row_slices, width

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def _supports(x: Spec, *_: object, **__: object) -> bool:
    return x.dtype == _FLOAT32


def _workspace(x: Spec, *_: object, **__: object) -> tuple[Spec, Spec]:
    """Two sums for each slice, and the numbers of the channels, repeated."""
    columns = x.shape[-1]
    wide = width(columns)
    return Spec((2, len(row_slices(math.prod(x.shape), columns)), wide), _FLOAT64), Spec((4, wide), _FLOAT32)


def _over_slices(x: np.ndarray, task: Callable[[int, slice], Any]) -> None:
    """Call task(i, slice) for each slice of the flat rows."""
    slices = row_slices(x.size, x.shape[-1])
    threads.run(lambda i: task(i, slices[i]), len(slices))


@kernel(batchnorm, "two_pass", "njit", supports=_supports, workspace=_workspace)
def launch(y, mean, variance, x, gamma, beta, sums, numbers, *, epsilon):
    """Mean, then variance, then y."""
    flat, out = x.reshape(-1), y.reshape(-1)
    centre, spread = np.empty((2, mean.size))
    _over_slices(x, lambda i, part: column_sums(sums[0, i], flat[part]))
    _means(centre, sums[0], x.size)
    _over_slices(x, lambda i, part: _sum_squares(sums[1, i], flat[part], centre))
    _means(spread, sums[1], x.size)
    mean[...], variance[...] = centre, spread
    _prepare(numbers, centre, spread, gamma, beta, epsilon)
    _over_slices(x, lambda i, part: _shift(out[part], flat[part], numbers))


@kernel(batchnorm_inference, "two_pass", "njit", supports=_supports, workspace=_workspace)
def launch_inference(y, x, gamma, beta, mean, variance, sums, numbers, *, epsilon):
    """The last of the three passes."""
    flat, out = x.reshape(-1), y.reshape(-1)
    _prepare(numbers, mean, variance, gamma, beta, epsilon)
    _over_slices(x, lambda i, part: _shift(out[part], flat[part], numbers))


@kernel(batchnorm_grad, "two_pass", "njit", supports=_supports, workspace=_workspace)
def launch_grad(dx, dgamma, dbeta, dy, x, gamma, mean, variance, sums, numbers, *, epsilon):
    """The two sums over the batch, then dx."""
    flat_x, flat_dy, out = x.reshape(-1), dy.reshape(-1), dx.reshape(-1)
    _over_slices(x, lambda i, part: _sum_products(sums[0, i], sums[1, i], flat_dy[part], flat_x[part], mean))
    _prepare_grad(numbers, dgamma, dbeta, sums, gamma, mean, variance, epsilon, x.size)
    _over_slices(x, lambda i, part: _shift_back(out[part], flat_dy[part], flat_x[part], numbers))


@kernel(batchnorm_inference_grad, "two_pass", "njit", supports=_supports, workspace=_workspace)
def launch_inference_grad(dx, dgamma, dbeta, dy, x, gamma, mean, variance, sums, numbers, *, epsilon):
    """The same where mean and variance do not depend on x."""
    flat_x, flat_dy, out = x.reshape(-1), dy.reshape(-1), dx.reshape(-1)
    _over_slices(x, lambda i, part: _sum_products(sums[0, i], sums[1, i], flat_dy[part], flat_x[part], mean))
    _prepare_grad(numbers, dgamma, dbeta, sums, gamma, mean, variance, epsilon, x.size)
    _over_slices(x, lambda i, part: _scale(out[part], flat_dy[part], numbers[3]))


@njit(nogil=True, cache=True, error_model="numpy")
def _means(means, sums, size):
    fold(means, sums)
    for k in range(len(means)):
        means[k] /= size // len(means)


@njit(nogil=True, cache=True, error_model="numpy")
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


@njit(nogil=True, cache=True, error_model="numpy")
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


@njit(nogil=True, cache=True, error_model="numpy")
def _shift(y, x, numbers):
    wide = numbers.shape[1]
    mean, slope, beta = numbers[0], numbers[1], numbers[2]
    for start in range(0, len(x), wide):
        values, results = x[start : start + wide], y[start : start + wide]
        for j in range(len(values)):
            results[j] = (values[j] - mean[j]) * slope[j] + beta[j]


@njit(nogil=True, cache=True, error_model="numpy")
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


@njit(nogil=True, cache=True, error_model="numpy")
def _prepare_grad(numbers, dgamma, dbeta, sums, gamma, mean, variance, epsilon, size):
    """dgamma and dbeta; and mean, level, tilt and slope of each channel, repeated."""
    columns = len(mean)
    count = size // columns
    plain, product = np.empty(columns), np.empty(columns)
    fold(plain, sums[0])
    fold(product, sums[1])
    for k in range(columns):
        scale = 1.0 / np.sqrt(np.float64(variance[k]) + epsilon)
        dbeta[k], dgamma[k] = plain[k], product[k] * scale
        numbers[0, k], numbers[1, k] = mean[k], plain[k] / count
        numbers[2, k], numbers[3, k] = product[k] * scale / count * scale, scale
        if gamma is not None:
            numbers[3, k] = scale * gamma[k]
    for i in range(4):
        repeat(numbers[i], numbers[i, :columns].copy())


@njit(nogil=True, cache=True, error_model="numpy")
def _shift_back(dx, dy, x, numbers):
    wide = numbers.shape[1]
    mean, level, tilt, slope = numbers[0], numbers[1], numbers[2], numbers[3]
    for start in range(0, len(x), wide):
        part = slice(start, start + wide)
        values, slopes, results = x[part], dy[part], dx[part]
        for j in range(len(values)):
            results[j] = (slopes[j] - level[j] - (values[j] - mean[j]) * tilt[j]) * slope[j]


@njit(nogil=True, cache=True, error_model="numpy")
def _scale(dx, dy, slope):
    wide = len(slope)
    for start in range(0, len(dy), wide):
        slopes, results = dy[start : start + wide], dx[start : start + wide]
        for j in range(len(slopes)):
            results[j] = slopes[j] * slope[j]
