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
from gpucnn.ops.dropout import dropout, scale, threshold

from ..shared.simd_njit import load, multiply, not_positive, select, splat, store

_SMALL = 1 << 15
"""Below this many values a second thread costs more than it brings."""


def _supports(x: Spec, step: Spec, **_: object) -> bool:
    return x.dtype == np.float32


@kernel(dropout, "philox", "njit", supports=_supports)
def launch(y, x, step, *, rate, seed, stream):
    """Each slice is a whole number of counters."""
    key = np.array(
        [
            int(step[0]) & 0xFFFFFFFF,
            stream & 0xFFFFFFFF,
            random.DROPOUT,
            seed & 0xFFFFFFFF,
            seed >> 32,
            threshold(rate),
        ],
        np.uint64,
    )
    flat_x, flat_y, factor = x.reshape(-1), y.reshape(-1), np.float32(scale(rate))
    slices = threads.slices(-(-x.size // 4))

    def task(i: int) -> None:
        _drop(flat_y, flat_x, key, factor, slices[i].start, slices[i].stop)

    threads.run(task, len(slices), parallel=x.size > _SMALL)


@njit(nogil=True, cache=True, error_model="numpy")
def _drop(y, x, key, factor, first, last):
    """The values of counters first … last - 1. Salmon et al., SC'11, section 3.2, as
    `gpucnn.random.philox`."""
    factors = np.empty(1024, np.float32)
    low, half, limit = np.uint64(0xFFFFFFFF), np.uint64(32), key[5]
    zero, nothing = splat(np.float32(0)), np.float32(0)
    for batch in range((last - first + 255) // 256):
        begin = first + 256 * batch
        count = min(256, last - begin)
        for i in range(count):
            c0, c1, c2, c3 = np.uint64(begin + i) & low, key[0], key[1], key[2]
            k0, k1 = key[3], key[4]
            for _ in range(10):
                p0 = c0 * np.uint64(0xD2511F53)
                p1 = c2 * np.uint64(0xCD9E8D57)
                c0, c1, c2, c3 = (p1 >> half) ^ c1 ^ k0, p1 & low, (p0 >> half) ^ c3 ^ k1, p0 & low
                k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
            factors[4 * i] = factor if c0 >= limit else nothing
            factors[4 * i + 1] = factor if c1 >= limit else nothing
            factors[4 * i + 2] = factor if c2 >= limit else nothing
            factors[4 * i + 3] = factor if c3 >= limit else nothing
        start = 4 * begin
        values = min(4 * count, x.shape[0] - start)
        for vector in range(values // 8):
            e = 8 * vector
            f = load(factors, e)
            store(y, start + e, select(not_positive(f), zero, multiply(load(x, start + e), f)))
        for e in range(values // 8 * 8, values):
            y[start + e] = x[start + e] * factors[e] if factors[e] > 0 else nothing
