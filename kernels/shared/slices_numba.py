"""Long sums in slices: many threads sum a slice each, side by side in a workspace; then one kernel
adds the slices.

A weight gradient has few values and each is a sum over every pixel of the batch: 250 values of
73,728 terms in a first layer of 10 filters of 5×5. A thread per value would leave a GPU empty. With
the sum cut into slices there are values × slices threads. Float atomics could join the slices as
well, but in another order, and so with other rounding, in every run. Here the order is fixed, and
the rounding error is smaller than that of one long sum.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, numba_function

THREADS = 128

RESIDENT_THREADS = 1 << 17
"""Threads that keep a large GPU busy: half of what the 132 multiprocessors of an H100 hold at a
time."""

MOST_SLICES = 256
"""Slices beyond which adding them up would cost more than they save."""


def count_of_slices(threads: int, terms: int) -> int:
    """Into how many slices to cut sums of so many terms, where one slice takes so many threads."""
    return max(1, min(RESIDENT_THREADS // threads, terms, MOST_SLICES))


@numba_function
def add_slices(total, partial, begin):
    """total[i] = Σ over slices of partial[slice, i]; with `begin` false, added to what total
    holds."""
    i = cuda.grid(1)
    if i >= total.size:
        return
    value = np.float32(0) if begin else total[i]
    for piece in range(partial.shape[0]):
        value += partial[piece, i]
    total[i] = value


def join(total, partial, begin=True):
    """Add the slices, partial (slices, …), into total (…)."""
    flat = total.reshape(-1)
    add_slices[blocks_1d(flat.size, THREADS), THREADS](flat, partial.reshape(partial.shape[0], -1), begin)
