"""Norms of slices of a weight in one pass over it, and their factors in another.

Values that lie next to each other belong to one slice or to neighbouring ones, so both passes are
loops over runs. Squares are summed in float64. Traffic: w read twice, written once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpucnn.devices.njit import njit
from gpucnn.devices.team import whole
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.constraint import EPSILON, max_norm, min_max_norm, unit_norm


def _float32(w: Spec, **_: Any) -> bool:
    return w.dtype == np.float32


def _plan(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """Extents of the axes, neighbours that a norm is taken over or not being one, and how far apart
    slices are along each (0: the same slice); and the number of slices."""
    extents, steps = [1, 1], [0, 0]
    for axis, extent in enumerate(shape):
        if len(extents) > 2 and (axis in axes) == (axis - 1 in axes):
            extents[-1] *= extent
        else:
            extents.append(extent)
            steps.append(int(axis not in axes))
    count = 1
    for axis in range(len(extents) - 1, -1, -1):
        if steps[axis]:
            steps[axis] = count
            count *= extents[axis]
    return np.array([extents, steps]), count


def _norms(w: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    plan, count = _plan(w.shape, axes)
    squares = np.zeros(count)
    _add_squares(squares, w.reshape(-1), plan)
    return plan, np.sqrt(squares)


def _scale(w: np.ndarray, plan: np.ndarray, factors: np.ndarray) -> None:
    _multiply(w.reshape(-1), factors.astype(np.float32), plan)


@kernel(max_norm, "two_pass", "njit", supports=_float32)
def launch_max_norm(w, *, max_value, axes):
    plan, norms = _norms(w, axes)
    _scale(w, plan, np.minimum(norms, max_value) / (EPSILON + norms))


@kernel(unit_norm, "two_pass", "njit", supports=_float32)
def launch_unit_norm(w, *, axes):
    plan, norms = _norms(w, axes)
    _scale(w, plan, 1 / (EPSILON + norms))


@kernel(min_max_norm, "two_pass", "njit", supports=_float32)
def launch_min_max_norm(w, *, min_value, max_value, rate, axes):
    plan, norms = _norms(w, axes)
    within = np.clip(norms, min_value, max_value)
    _scale(w, plan, (rate * within + (1 - rate) * norms) / (EPSILON + norms))


@njit(forceinline=True)
def _slice_of_run(run, plan):
    """The slice to which the first value of a run along the last axis belongs."""
    number, rest = 0, run
    for axis in range(plan.shape[1] - 2, -1, -1):
        number += rest % plan[0, axis] * plan[1, axis]
        rest //= plan[0, axis]
    return number


@njit(forceinline=True, fastmath={"reassoc"})
def _sum_of_squares(values):
    total = 0.0
    for value in values:
        total += np.float64(value) * np.float64(value)
    return total


@whole
def _add_squares(squares, w, plan):
    length, step = plan[0, -1], plan[1, -1]
    for run in range(len(w) // length):
        first, values = _slice_of_run(run, plan), w[run * length : (run + 1) * length]
        if step:
            sums = squares[first : first + length]
            for k in range(length):
                sums[k] += np.float64(values[k]) * np.float64(values[k])
        else:
            squares[first] += _sum_of_squares(values)


@whole
def _multiply(w, factors, plan):
    length, step = plan[0, -1], plan[1, -1]
    for run in range(len(w) // length):
        first, values = _slice_of_run(run, plan), w[run * length : (run + 1) * length]
        if step:
            own = factors[first : first + length]
            for k in range(length):
                values[k] *= own[k]
        else:
            for k in range(length):
                values[k] *= factors[first]
