"""The parametric rectifier row by row, each a loop over vectors; rows are taken side by side, so that
few channels fill vectors too. The slope's gradient has sums of slices in float64, which are added in
order. Traffic: x read and y written once; in the gradients dy and x read, dx written."""

from __future__ import annotations

import math

import numpy as np

from gpucnn.devices.njit import inner
from gpucnn.devices.team import tasks
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.prelu import prelu, prelu_grad, prelu_grad_alpha

from ..shared.columns_njit import fold_all, repeat, row_bounds, width
from ..shared.slices_launch import in_slices
from ..shared.vector_math_njit import ZERO
from ..shared.vector_operators_njit import choose

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def _supports(x: Spec, *_: Spec) -> bool:
    return x.dtype == _FLOAT32


def _rows(columns: int, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(array.reshape(-1, columns) for array in arrays)


@kernel(prelu, "rows", "njit", supports=_supports, compiled=True)
def launch(y, x, alpha):
    in_slices(_rectify, _rows(alpha.size, y, x), alpha, width(x.size, alpha.size))


@inner
def _rectify(y, x, alpha, wide):
    slopes = np.empty(wide, np.float32)
    repeat(slopes, alpha)
    flat_x, flat_y = x.reshape(-1), y.reshape(-1)
    for start in range(0, len(flat_x), wide):
        values, results = flat_x[start : start + wide], flat_y[start : start + wide]
        for j in range(len(values)):
            results[j] = choose(values[j] > ZERO, values[j], slopes[j] * values[j])


@kernel(prelu_grad, "rows", "njit", supports=_supports, compiled=True)
def launch_grad(dx, dy, x, alpha):
    in_slices(_slope, _rows(alpha.size, dx, dy, x), alpha, width(x.size, alpha.size))


@inner
def _slope(dx, dy, x, alpha, wide):
    slopes = np.empty(wide, np.float32)
    repeat(slopes, alpha)
    flat_x, flat_dy, flat_dx = x.reshape(-1), dy.reshape(-1), dx.reshape(-1)
    for start in range(0, len(flat_x), wide):
        part = slice(start, start + wide)
        values, gradients, results = flat_x[part], flat_dy[part], flat_dx[part]
        for j in range(len(values)):
            below = choose(values[j] == ZERO, ZERO, slopes[j] * gradients[j])
            results[j] = choose(values[j] > ZERO, gradients[j], below)


def _sums(dy: Spec, x: Spec) -> tuple[Spec, ...]:
    """A sum for each slice of the rows."""
    size, columns = math.prod(dy.shape), dy.shape[-1]
    return (Spec((len(row_bounds(size, columns)) - 1, width(size, columns)), _FLOAT64),)


@kernel(prelu_grad_alpha, "rows", "njit", supports=_supports, workspace=_sums, compiled=True)
def launch_grad_alpha(dalpha, dy, x, sums):
    flat_dy, flat_x = dy.reshape(-1), x.reshape(-1)
    _products(len(sums), sums, flat_dy, flat_x, row_bounds(dy.size, dalpha.size))
    fold_all(dalpha, sums)


@tasks
def _products(part, sums, dy, x, bounds):
    first, last, wide = bounds[part], bounds[part + 1], sums.shape[1]
    sums[part] = 0.0
    for start in range(first, last, wide):
        values, gradients = x[start : min(start + wide, last)], dy[start : min(start + wide, last)]
        for j in range(len(values)):
            sums[part, j] += np.float64(choose(values[j] > ZERO, ZERO, gradients[j] * values[j]))
