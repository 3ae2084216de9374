"""Dropout with the random words computed where they are used: ten rounds of Philox for four values,
no mask in memory.

The words of 256 counters at a time become factors, 0 or 1 / (1 - rate), in the first-level cache;
the compiler puts several counters into a vector. Work: about 10 integer operations for each value,
traffic: x and y once.
"""

from __future__ import annotations

import numpy as np

from gpucnn import random
from gpucnn.devices import threads
from gpucnn.devices.njit import njit
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.dropout import dropout, scale, spatial_dropout, threshold

from ..shared.columns_njit import repeat, width
from ..shared.philox_njit import key, words
from ..shared.vector_math_njit import ZERO
from ..shared.vector_operators_njit import choose

_SMALL = 1 << 15
"""Below this many values a second thread costs more than it brings."""


def _supports(x: Spec, step: Spec, **_: object) -> bool:
    return x.dtype == np.float32


@kernel(dropout, "philox", "njit", supports=_supports)
def launch(y, x, step, *, rate, seed, stream):
    """Each slice is a whole number of counters."""
    numbers = key(int(step[0]), stream, random.DROPOUT, seed), np.uint64(threshold(rate)), np.float32(scale(rate))
    flat_x, flat_y = x.reshape(-1), y.reshape(-1)
    slices = threads.slices(-(-x.size // 4))

    def task(i: int) -> None:
        _drop(flat_y, flat_x, *numbers, slices[i].start, slices[i].stop)

    threads.run(task, len(slices), parallel=x.size > _SMALL)


@kernel(spatial_dropout, "philox", "njit", supports=_supports)
def launch_spatial(y, x, step, *, rate, seed, stream):
    """Each slice is a whole number of images."""
    numbers = key(int(step[0]), stream, random.DROPOUT, seed), np.uint64(threshold(rate)), np.float32(scale(rate))
    wide, slices = width(x.shape[2]), threads.slices(len(x))

    def task(i: int) -> None:
        _drop_channels(y, x, *numbers, wide, slices[i].start, slices[i].stop)

    threads.run(task, len(slices), parallel=x.size > _SMALL)


@njit(nogil=True, cache=True, error_model="numpy")
def _drop_channels(y, x, key, limit, factor, wide, first, last):
    """Images first … last - 1."""
    _, M, C = x.shape
    factors, row = np.empty(C, np.float32), np.empty(wide, np.float32)
    for n in range(first, last):
        for c in range(C):
            i = n * C + c
            w0, w1, w2, w3 = words(i // 4, key)
            lane = i % 4
            word = w0 if lane == 0 else w1 if lane == 1 else w2 if lane == 2 else w3
            factors[c] = factor if word >= limit else ZERO
        repeat(row, factors)
        values, results = x[n].reshape(-1), y[n].reshape(-1)
        for start in range(0, M * C, wide):
            part, target = values[start : start + wide], results[start : start + wide]
            for j in range(len(part)):
                target[j] = choose(row[j] > ZERO, part[j] * row[j], ZERO)


@njit(nogil=True, cache=True, error_model="numpy")
def _drop(y, x, key, limit, factor, first, last):
    """The values of counters first … last - 1."""
    factors = np.empty(1024, np.float32)
    for batch in range((last - first + 255) // 256):
        begin = first + 256 * batch
        count = min(256, last - begin)
        for i in range(count):
            w0, w1, w2, w3 = words(begin + i, key)
            factors[4 * i] = factor if w0 >= limit else ZERO
            factors[4 * i + 1] = factor if w1 >= limit else ZERO
            factors[4 * i + 2] = factor if w2 >= limit else ZERO
            factors[4 * i + 3] = factor if w3 >= limit else ZERO
        start = 4 * begin
        values = min(4 * count, x.shape[0] - start)
        part, target = x[start : start + values], y[start : start + values]
        for e in range(values):
            target[e] = choose(factors[e] > ZERO, part[e] * factors[e], ZERO)
