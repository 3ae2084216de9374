"""Sums over a flat array in two stages, in one fixed order: each slice its share in float64, then
the slices' sums.

One loop over x for the squares and, for a norm, one for the largest element. In float64 no square
of a float32 overflows, so the scale is only needed for the result. The bits of |x| as an integer
rise with |x|, those of a NaN are above all others, and integers are compared 8 or 16 at a time.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.njit import njit
from gpucnn.devices.recorders import again
from gpucnn.devices.team import tasks
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.update import norm_parts, parts_of, penalty

from ..shared.simd_njit import at

_SMALLEST = 1 << 14
"""Elements of a slice: fewer are done before a second thread is awake."""

_LEAST = 1 << 12
"""Shorter arrays are better left to the body, which needs no workspace."""

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

_MAGNITUDE = np.uint32(0x7FFFFFFF)
"""All bits but the sign."""


def _supports(x: Spec, **_: object) -> bool:
    return x.dtype == _FLOAT32


def _pays(x: Spec, **_: object) -> bool:
    return x.shape[0] >= _LEAST


def _sums(x: Spec, **_: object) -> Spec:
    return Spec((len(threads.slices(x.shape[0], _SMALLEST)), 2), _FLOAT64)


@kernel(norm_parts, "two_stage", "njit", supports=_supports, workspace=_sums, pays=_pays, compiled=True)
def launch_norm_parts(parts, x, sums):
    """Σ x² and the bits of max |x| of each slice; then scale and total."""
    _norm(len(sums), sums, x, x.view(np.uint32), threads.bounds(x.size, _SMALLEST))
    again(_scale_and_total, parts, sums)


def _scale_and_total(parts: np.ndarray, sums: np.ndarray) -> None:
    square_sum, largest = sums[0].tolist() if len(sums) == 1 else (sums[:, 0].sum().item(), sums[:, 1].max().item())
    parts[:] = parts_of(np.uint32(largest).view(np.float32).item(), square_sum)


@tasks
def _norm(part, sums, x, bits, bounds):
    first, last = bounds[part], bounds[part + 1]
    sums[part, 0] = _square_sum(x, first, last)
    sums[part, 1] = _largest(bits, first, last)


@njit(fastmath={"reassoc", "contract"})
def _square_sum(x, first, last):
    total = 0.0
    for i in range(first, last):
        value = np.float64(at(x, i))
        total += value * value
    return total


@njit()
def _largest(bits, first, last):
    largest = np.uint32(0)
    for i in range(first, last):
        magnitude = np.uint32(at(bits, i) & _MAGNITUDE)
        largest = magnitude if magnitude > largest else largest
    return largest


@kernel(penalty, "two_stage", "njit", supports=_supports, workspace=_sums, pays=_pays, compiled=True)
def launch_penalty(penalty, values, sums, *, l1, l2):
    """Σ |values| and Σ values² of each slice; then their weighted sum."""
    _penalty(len(sums), sums, values, threads.bounds(values.size, _SMALLEST))
    again(_weigh, penalty, sums, l1, l2)


def _weigh(penalty: np.ndarray, sums: np.ndarray, l1: float, l2: float) -> None:
    absolute, squares = sums.sum(axis=0)
    penalty[0] = (l1 * absolute if l1 else 0.0) + (l2 * squares if l2 else 0.0)


@tasks
def _penalty(part, sums, values, bounds):
    sums[part, 0], sums[part, 1] = _absolute_and_square_sum(values[bounds[part] : bounds[part + 1]])


@njit(fastmath={"reassoc", "contract"})
def _absolute_and_square_sum(values):
    absolute = squares = 0.0
    for i in range(len(values)):
        value = np.float64(values[i])
        absolute += abs(value)
        squares += value * value
    return absolute, squares
