"""Dropout with the random words computed where they are used: ten rounds of Philox for four values,
no mask in memory.

Of single values, a few vectors of words meet the values in registers (`shared/philox_vectors_njit.py`). Those of
whole channels become factors, 0 or 1 / (1 - rate). Work: about four vector operations for as many values as have
room in a vector; traffic: x and y once.
"""

from __future__ import annotations

import numpy as np

from gpucnn import random
from gpucnn.devices import threads
from gpucnn.devices.njit import njit
from gpucnn.devices.team import tasks
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.dropout import dropout, scale, spatial_dropout, threshold

from ..shared.columns_njit import repeat, width
from ..shared.philox_njit import key_now, words
from ..shared.philox_vectors_njit import COUNTERS, drop
from ..shared.slices_launch import SMALLEST
from ..shared.vector_math_njit import ZERO
from ..shared.vector_operators_njit import choose

_REPEATED = 1 << 10
"""The factors of an image are repeated for a quarter of so many values: more would take longer to
fill than it saves."""


def _supports(x: Spec, step: Spec, **_: object) -> bool:
    return x.dtype == np.float32


@kernel(dropout, "philox", "njit", supports=_supports, compiled=True)
def launch(y, x, step, *, rate, seed, stream, counter=0):
    """Each slice is a whole number of counters."""
    numbers = key_now(step, stream, random.DROPOUT, seed), np.uint64(threshold(rate)), np.float32(scale(rate))
    bounds = threads.bounds(-(-x.size // 4), SMALLEST // 4)
    _drop(len(bounds) - 1, y.reshape(-1), x.reshape(-1), *numbers, counter, bounds)


@kernel(spatial_dropout, "philox", "njit", supports=_supports, compiled=True)
def launch_spatial(y, x, step, *, rate, seed, stream, counter=0):
    """Each slice is a whole number of images."""
    numbers = key_now(step, stream, random.DROPOUT, seed), np.uint64(threshold(rate)), np.float32(scale(rate))
    wide = width(min(x[0].size, _REPEATED), x.shape[2])
    bounds = threads.bounds(len(x), -(-SMALLEST * len(x) // x.size))
    _drop_channels(len(bounds) - 1, y, x, *numbers, counter, wide, bounds)


@njit(forceinline=True)
def _draw(factors, key, limit, factor, first):
    """The factors of the counters from `first` on, four of each."""
    for i in range(len(factors) // 4):
        w0, w1, w2, w3 = words(first + i, key)
        factors[4 * i] = factor if w0 >= limit else ZERO
        factors[4 * i + 1] = factor if w1 >= limit else ZERO
        factors[4 * i + 2] = factor if w2 >= limit else ZERO
        factors[4 * i + 3] = factor if w3 >= limit else ZERO


@tasks
def _drop_channels(part, y, x, key, limit, factor, counter, wide, bounds):
    """A slice of the images."""
    first, last = bounds[part], bounds[part + 1]
    _, M, C = x.shape
    begin = first * C // 4
    factors, row = np.empty(4 * ((last * C + 3) // 4 - begin), np.float32), np.empty(wide, np.float32)
    _draw(factors, key, limit, factor, counter + begin)
    for n in range(first, last):
        repeat(row, factors[n * C - 4 * begin : (n + 1) * C - 4 * begin])
        values, results = x[n].reshape(-1), y[n].reshape(-1)
        for start in range(0, M * C, wide):
            source, target = values[start : start + wide], results[start : start + wide]
            for j in range(len(source)):
                target[j] = choose(row[j] > ZERO, source[j] * row[j], ZERO)


@tasks
def _drop(part, y, x, key, limit, factor, counter, bounds):
    """The values of a slice of the counters behind `counter`."""
    first, last = bounds[part], bounds[part + 1]
    whole = first + (min(last, x.shape[0] // 4) - first) // COUNTERS * COUNTERS
    for begin in range(first, whole, COUNTERS):
        drop(y, x, 4 * begin, counter + begin, key, limit, factor)
    factors = np.empty(4 * COUNTERS, np.float32)
    _draw(factors[: 4 * (last - whole)], key, limit, factor, counter + whole)
    for e in range(4 * whole, min(4 * last, x.shape[0])):
        y[e] = choose(factors[e - 4 * whole] > ZERO, x[e] * factors[e - 4 * whole], ZERO)
