"""The passes of batch normalisation and of its gradient, with an activation behind it or without.

Each slice of the rows has its own sums, in float64, and they are added in order: the same bits on
any number of threads, and no rounding to speak of. Rows are taken side by side, so that few channels
fill vectors too; an activation is called by its address for each stretch of them, which is in the
first-level cache.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpucnn.devices.njit import inner
from gpucnn.devices.team import tasks, whole
from gpucnn.dispatch.case import Spec

from .columns_njit import column_sums, fold, repeat, row_bounds, sums_of_slices, width
from .epilogue_njit import call
from .simd_njit import copy

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

_FORWARD, _STRETCHES = 4, 7
"""Where the numbers of the forward pass begin, behind those of the gradient, and the stretch of each slice, which
holds dy times the slope of the activation."""


def supports(x: Spec, *_: object, **__: object) -> bool:
    """Float32."""
    return x.dtype == _FLOAT32


def workspace(x: Spec, *_: object, **__: object) -> tuple[Spec, ...]:
    """Two sums for each slice; the numbers of each channel, repeated, and a stretch for each slice. Nothing where
    there is one slice."""
    size, columns = math.prod(x.shape), x.shape[-1]
    count, wide = len(row_bounds(size, columns)) - 1, width(size, columns)
    return () if count == 1 else (Spec((2, count, wide), _FLOAT64), Spec((_STRETCHES + count, wide), _FLOAT32))


def normalize(
    y: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    x: np.ndarray,
    gamma: Any,
    beta: Any,
    sums: np.ndarray | None,
    numbers: np.ndarray | None,
    epsilon: float,
    function: int = 0,
    alpha: float = 0.0,
) -> None:
    """Mean, then variance, then y = f(normalised x); in one call where there is one slice. `function` is what
    `epilogue_njit.end` returns."""
    flat, out, alpha = x.reshape(-1), y.reshape(-1), np.float32(alpha)
    if sums is None:
        _whole(out, mean, variance, flat, gamma, beta, width(x.size, mean.size), epsilon, function, alpha)
        return
    assert numbers is not None
    centre = np.empty(mean.size)
    slices, bounds = sums.shape[1], row_bounds(x.size, mean.size)
    sums_of_slices(slices, sums[0], flat, bounds)
    _all_means(centre, mean, sums[0], x.size)
    _squares_of_slices(slices, sums[1], flat, centre, bounds)
    _all_means(np.empty_like(centre), variance, sums[1], x.size)
    _prepare_all(numbers, mean, variance, gamma, beta, epsilon)
    _shift_slices(slices, out, flat, numbers, bounds, function, alpha)


def gradients(
    training: bool,
    dx: np.ndarray,
    dgamma: np.ndarray,
    dbeta: np.ndarray,
    dy: np.ndarray,
    x: np.ndarray,
    gamma: Any,
    beta: Any,
    mean: np.ndarray,
    variance: np.ndarray,
    sums: np.ndarray | None,
    numbers: np.ndarray | None,
    epsilon: float,
    function: int = 0,
    alpha: float = 0.0,
    once: bool = False,
) -> None:
    """The two sums over the batch, then dx; in one call where there is one slice. `function` is what
    `epilogue_njit.slope_at` returns; in inference there is none. Its slopes are computed in both passes, or `once`,
    and dy times them is kept in dx in between."""
    flat_x, flat_dy, out, alpha = x.reshape(-1), dy.reshape(-1), dx.reshape(-1), np.float32(alpha)
    if sums is None:
        wide = width(x.size, mean.size)
        _whole_grad(
            out, dgamma, dbeta, flat_dy, flat_x, gamma, beta, mean, variance, wide, np.float32(training), epsilon,
            function, alpha, once,
        )  # fmt: skip
        return
    assert numbers is not None
    slices, bounds = sums.shape[1], row_bounds(x.size, mean.size)
    forward, stretches = numbers[_FORWARD:_STRETCHES], numbers[_STRETCHES:]
    if function:
        _prepare_all(forward, mean, variance, gamma, beta, epsilon)
    _products_of_slices(slices, sums, out, stretches, flat_dy, flat_x, mean, forward, bounds, function, alpha, once)
    _prepare_all_grad(numbers, dgamma, dbeta, sums, gamma, mean, variance, np.float32(training), epsilon, x.size)
    if training:
        _shift_slices_back(slices, out, stretches, flat_dy, flat_x, forward, numbers, bounds, function, alpha, once)
    else:
        _scale_slices(slices, out, flat_dy, numbers[3], bounds)


@tasks
def _squares_of_slices(part, sums, x, mean, bounds):
    _sum_squares(sums[part], x[bounds[part] : bounds[part + 1]], mean)


@tasks
def _shift_slices(part, y, x, numbers, bounds, function, alpha):
    first, last = bounds[part], bounds[part + 1]
    _shift(y[first:last], x[first:last], numbers, function, alpha)


@tasks
def _products_of_slices(part, sums, dz, stretches, dy, x, mean, forward, bounds, function, alpha, once):
    first, last = bounds[part], bounds[part + 1]
    _sum_products(
        sums[0, part], sums[1, part], dz[first:last], stretches[part], dy[first:last], x[first:last], mean, forward,
        function, alpha, once,
    )  # fmt: skip


@tasks
def _shift_slices_back(part, dx, stretches, dy, x, forward, numbers, bounds, function, alpha, once):
    first, last = bounds[part], bounds[part + 1]
    _shift_back(dx[first:last], stretches[part], dy[first:last], x[first:last], forward, numbers, function, alpha, once)


@tasks
def _scale_slices(part, dx, dy, slope, bounds):
    _scale(dx[bounds[part] : bounds[part + 1]], dy[bounds[part] : bounds[part + 1]], slope)


@whole
def _whole(y, mean, variance, x, gamma, beta, wide, epsilon, function, alpha):
    means, sums, numbers = np.empty((2, len(mean))), np.empty((2, 1, wide)), np.empty((4, wide), np.float32)
    column_sums(sums[0, 0], x)
    _means(means[0], mean, sums[0], len(x))
    _sum_squares(sums[1, 0], x, means[0])
    _means(means[1], variance, sums[1], len(x))
    _prepare(numbers, mean, variance, gamma, beta, epsilon)
    _shift(y, x, numbers, function, alpha)


@whole
def _whole_grad(dx, dgamma, dbeta, dy, x, gamma, beta, mean, variance, wide, training, epsilon, function, alpha, once):
    sums, numbers = np.empty((2, 1, wide)), np.empty((_STRETCHES + 1, wide), np.float32)
    forward, stretch = numbers[_FORWARD:_STRETCHES], numbers[_STRETCHES]
    if function:
        _prepare(forward, mean, variance, gamma, beta, epsilon)
    _sum_products(sums[0, 0], sums[1, 0], dx, stretch, dy, x, mean, forward, function, alpha, once)
    _prepare_grad(numbers, dgamma, dbeta, sums, gamma, mean, variance, training, epsilon, len(x))
    _shift_back(dx, stretch, dy, x, forward, numbers, function, alpha, once)


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
def _shift(y, x, numbers, function, alpha):
    wide = numbers.shape[1]
    for start in range(0, len(x), wide):
        values, results = x[start : start + wide], y[start : start + wide]
        _normalised(results, values, numbers)
        if function:
            call(function, results, 0, results, 0, results, 0, len(results), alpha)


@inner
def _normalised(results, values, numbers):
    mean, slope, beta = numbers[0], numbers[1], numbers[2]
    for j in range(len(values)):
        results[j] = (values[j] - mean[j]) * slope[j] + beta[j]


@inner
def shift_rows(y, x, mean, variance, gamma, beta, wide, epsilon):
    numbers = np.empty((4, wide), np.float32)
    _prepare(numbers, mean, variance, gamma, beta, epsilon)
    _shift(y.reshape(-1), x.reshape(-1), numbers, 0, np.float32(0))


@inner
def _sum_products(plain, product, dz, stretch, dy, x, mean, numbers, function, alpha, once):
    """The sums of dy, times the slope of an activation if there is one, and of its products with centred x."""
    wide = len(plain)
    centre = np.empty(wide)
    repeat(centre, mean)
    plain[:] = 0.0
    product[:] = 0.0
    for start in range(0, len(x), wide):
        values, slopes = x[start : start + wide], dy[start : start + wide]
        if function:
            _slopes(stretch, slopes, values, numbers, function, alpha)
            _add_products(plain, product, stretch, values, centre)
            if once:
                copy(dz, start, stretch, 0, len(values))
        else:
            _add_products(plain, product, slopes, values, centre)


@inner
def _slopes(dz, dy, x, numbers, function, alpha):
    """dz = dy times the slope of the activation, for a stretch of rows."""
    _normalised(dz, x, numbers)
    call(function, dz, 0, dy, 0, dz, 0, len(x), alpha)


@inner
def _add_products(plain, product, dy, x, centre):
    for j in range(len(x)):
        g = np.float64(dy[j])
        plain[j] += g
        product[j] += g * (np.float64(x[j]) - centre[j])


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
def _shift_back(dx, stretch, dy, x, forward, numbers, function, alpha, once):
    wide = numbers.shape[1]
    for start in range(0, len(x), wide):
        part = slice(start, start + wide)
        values, slopes, results = x[part], dy[part], dx[part]
        if function:
            if once:
                copy(stretch, 0, dx, start, len(values))
            else:
                _slopes(stretch, slopes, values, forward, function, alpha)
            _shift_stretch(results, stretch, values, numbers)
        else:
            _shift_stretch(results, slopes, values, numbers)


@inner
def _shift_stretch(dx, dy, x, numbers):
    mean, level, tilt, slope = numbers[0], numbers[1], numbers[2], numbers[3]
    for j in range(len(x)):
        dx[j] = (dy[j] - level[j] - (x[j] - mean[j]) * tilt[j]) * slope[j]


@inner
def _scale(dx, dy, slope):
    wide = len(slope)
    for start in range(0, len(dy), wide):
        slopes, results = dy[start : start + wide], dx[start : start + wide]
        for j in range(len(slopes)):
            results[j] = slopes[j] * slope[j]
