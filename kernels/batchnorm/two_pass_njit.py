"""Batch normalisation in two passes over x for the statistics and one for the result; its gradient
in one and one.

Each slice of the batch has its own sums, in float64, and they are added in order: the same bits on
any number of threads, and no rounding to speak of. Traffic: x read three times, y written once; for
the gradient dy and x read twice, dx written once. The channels of a row are neighbours, so every
loop over them is one over vectors.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.njit import njit
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.batchnorm import batchnorm, batchnorm_grad

_SMALL = 1 << 16
"""Below this many values a second thread costs more than it brings."""

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def _supports(x: Spec, *_: object, **__: object) -> bool:
    return x.dtype == _FLOAT32


def _workspace(x: Spec, *_: object, **__: object) -> Spec:
    return Spec((2, len(threads.slices(x.shape[0])), x.shape[-1]), _FLOAT64)


def _over_slices(x: np.ndarray, task: Callable[[int, int, int], None]) -> None:
    """Call task(i, first, last) for the rows of each slice of the batch; a row has one value of
    each channel."""
    rows = x.size // x.shape[-1] // len(x)
    slices = threads.slices(len(x))

    def run(i: int) -> None:
        task(i, slices[i].start * rows, slices[i].stop * rows)

    threads.run(run, len(slices), parallel=x.size > _SMALL)


@kernel(batchnorm, "two_pass", "njit", supports=_supports, workspace=_workspace)
def launch(y, mean, variance, x, gamma, beta, sums, *, epsilon):
    """Mean, then variance, then y."""
    flat, out, count = x.reshape(-1), y.reshape(-1), x.size // x.shape[-1]
    nothing = np.zeros(x.shape[-1])
    _over_slices(x, lambda i, first, last: _sum(sums[0, i], flat, first, last))
    centre = np.add.reduce(sums[0], axis=0) / count
    _over_slices(x, lambda i, first, last: _sum_squares(sums[1, i], flat, centre, first, last))
    spread = np.add.reduce(sums[1], axis=0) / count
    mean[...], variance[...] = centre, spread
    slope = (1.0 if gamma is None else gamma) / np.sqrt(spread + epsilon)
    numbers = [a.astype(np.float32) for a in (centre, slope, nothing if beta is None else beta)]
    _over_slices(x, lambda i, first, last: _shift(out, flat, *numbers, first, last))


@kernel(batchnorm_grad, "two_pass", "njit", supports=_supports, workspace=_workspace)
def launch_grad(dx, dgamma, dbeta, dy, x, gamma, mean, variance, sums, *, epsilon):
    """The two sums over the batch, then dx."""
    flat_x, flat_dy, out, count = x.reshape(-1), dy.reshape(-1), dx.reshape(-1), x.size // x.shape[-1]
    centre = mean.astype(np.float64)
    _over_slices(x, lambda i, first, last: _sum_products(sums[0, i], sums[1, i], flat_dy, flat_x, centre, first, last))
    scale = 1.0 / np.sqrt(variance.astype(np.float64) + epsilon)
    plain, product = np.add.reduce(sums[0], axis=0), np.add.reduce(sums[1], axis=0) * scale
    dbeta[...], dgamma[...] = plain, product
    slope = scale * (1.0 if gamma is None else gamma)
    numbers = [a.astype(np.float32) for a in (centre, plain / count, product / count * scale, slope)]
    _over_slices(x, lambda i, first, last: _shift_back(out, flat_dy, flat_x, *numbers, first, last))


@njit(nogil=True, cache=True, error_model="numpy")
def _sum(sums, x, first, last):
    c = sums.shape[0]
    sums[:] = 0.0
    for row in range(first, last):
        values = x[row * c : row * c + c]
        for k in range(c):
            sums[k] += np.float64(values[k])


@njit(nogil=True, cache=True, error_model="numpy")
def _sum_squares(sums, x, mean, first, last):
    c = sums.shape[0]
    sums[:] = 0.0
    for row in range(first, last):
        values = x[row * c : row * c + c]
        for k in range(c):
            centred = np.float64(values[k]) - mean[k]
            sums[k] += centred * centred


@njit(nogil=True, cache=True, error_model="numpy")
def _shift(y, x, mean, slope, beta, first, last):
    c = mean.shape[0]
    for row in range(first, last):
        values, results = x[row * c : row * c + c], y[row * c : row * c + c]
        for k in range(c):
            results[k] = (values[k] - mean[k]) * slope[k] + beta[k]


@njit(nogil=True, cache=True, error_model="numpy")
def _sum_products(plain, product, dy, x, mean, first, last):
    c = plain.shape[0]
    plain[:] = 0.0
    product[:] = 0.0
    for row in range(first, last):
        values, slopes = x[row * c : row * c + c], dy[row * c : row * c + c]
        for k in range(c):
            g = np.float64(slopes[k])
            plain[k] += g
            product[k] += g * (np.float64(values[k]) - mean[k])


@njit(nogil=True, cache=True, error_model="numpy")
def _shift_back(dx, dy, x, mean, level, tilt, slope, first, last):
    c = mean.shape[0]
    for row in range(first, last):
        part = slice(row * c, row * c + c)
        values, slopes, results = x[part], dy[part], dx[part]
        for k in range(c):
            results[k] = (slopes[k] - level[k] - (values[k] - mean[k]) * tilt[k]) * slope[k]
