"""Group normalisation, one group after the other: its mean, the squares around it, the result, while
its values are in the cache. Sums are in float64.

Traffic: x read and y written once; in the gradient dy and x read, dx written. The gradient with
respect to gamma has sums of slices of the inputs, which are added in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.njit import inner
from gpucnn.devices.recorders import again
from gpucnn.devices.team import tasks
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.groupnorm import groupnorm, groupnorm_grad, groupnorm_grad_gamma

from ..shared.slices_launch import SMALLEST, apart, in_slices

_FLOAT64 = np.dtype(np.float64)


def _supports(x: Spec, *_: Spec | None, **__: Any) -> bool:
    return x.dtype == np.float32


@kernel(groupnorm, "two_pass", "njit", supports=_supports, compiled=True)
def launch(y, mean, variance, x, gamma, beta, *, groups, epsilon):
    ones, zeros = np.ones(x.shape[2], np.float32), np.zeros(x.shape[2], np.float32)
    scales, shifts = ones if gamma is None else gamma, zeros if beta is None else beta
    in_slices(_normalise, (y, mean, variance, x), scales, shifts, groups, float(epsilon))


@inner
def _normalise(y, mean, variance, x, gamma, beta, groups, epsilon):
    N, P, C = x.shape
    width = C // groups
    for n in range(N):
        for g in range(groups):
            first, last = g * width, (g + 1) * width
            total = 0.0
            for p in range(P):
                for c in range(first, last):
                    total += np.float64(x[n, p, c])
            centre = total / (P * width)
            squares = 0.0
            for p in range(P):
                for c in range(first, last):
                    centred = np.float64(x[n, p, c]) - centre
                    squares += centred * centred
            spread = squares / (P * width)
            mean[n, g], variance[n, g] = centre, spread
            scale, middle = np.float32(1.0 / np.sqrt(spread + epsilon)), np.float32(centre)
            for p in range(P):
                for c in range(first, last):
                    y[n, p, c] = (x[n, p, c] - middle) * (scale * gamma[c]) + beta[c]


@kernel(groupnorm_grad, "two_pass", "njit", supports=_supports, compiled=True)
def launch_grad(dx, dy, x, gamma, mean, variance, *, groups, epsilon):
    scales = np.ones(x.shape[2], np.float32) if gamma is None else gamma
    in_slices(_gradient, (dx, dy, x, mean, variance), scales, groups, float(epsilon))


@inner
def _gradient(dx, dy, x, mean, variance, gamma, groups, epsilon):
    N, P, C = x.shape
    width = C // groups
    for n in range(N):
        for g in range(groups):
            first, last = g * width, (g + 1) * width
            centre, scale = np.float64(mean[n, g]), 1.0 / np.sqrt(np.float64(variance[n, g]) + epsilon)
            plain = along = 0.0
            for p in range(P):
                for c in range(first, last):
                    slope = np.float64(dy[n, p, c]) * np.float64(gamma[c])
                    plain += slope
                    along += slope * (np.float64(x[n, p, c]) - centre)
            count = P * width
            level, tilt = np.float32(plain / count), np.float32(along * scale * scale / count)
            middle, factor = np.float32(centre), np.float32(scale)
            for p in range(P):
                for c in range(first, last):
                    dx[n, p, c] = (dy[n, p, c] * gamma[c] - level - (x[n, p, c] - middle) * tilt) * factor


def _bounds(shape: tuple[int, ...]) -> np.ndarray:
    """Those of slices of the inputs, each with sums of its own."""
    N, P, C = shape
    return threads.bounds(N, -(-SMALLEST // (P * C)))


def _sums(dy: Spec, *_: Spec, **__: Any) -> tuple[Spec, ...]:
    return (Spec((len(_bounds(dy.shape)) - 1, apart(dy.shape[2])), _FLOAT64),)


@kernel(groupnorm_grad_gamma, "two_pass", "njit", supports=_supports, workspace=_sums, compiled=True)
def launch_grad_gamma(dgamma, dy, x, mean, variance, sums, *, groups, epsilon):
    _products(len(sums), sums, dy, x, mean, variance, groups, float(epsilon), _bounds(dy.shape))
    again(_add_slices, dgamma, sums[:, : len(dgamma)])


def _add_slices(dgamma: np.ndarray, sums: np.ndarray) -> None:
    dgamma[:] = sums.sum(axis=0)


@tasks
def _products(part, sums, dy, x, mean, variance, groups, epsilon, bounds):
    _, P, C = x.shape
    width = C // groups
    sums[part] = 0.0
    for n in range(bounds[part], bounds[part + 1]):
        for p in range(P):
            for g in range(groups):
                centre, scale = np.float64(mean[n, g]), 1.0 / np.sqrt(np.float64(variance[n, g]) + epsilon)
                for c in range(g * width, (g + 1) * width):
                    sums[part, c] += np.float64(dy[n, p, c]) * (np.float64(x[n, p, c]) - centre) * scale
