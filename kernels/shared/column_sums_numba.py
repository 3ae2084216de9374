"""Column sums in numba.cuda: the rows of a matrix (rows, K) added up in slices, then the slices.

A block takes one slice and `width` ≤ 32 neighbouring columns. Its threads form lanes of that width:
each adds every so-manyth row, and then the lanes' totals are added pairwise in shared memory. All
runs add in the same order, and no chain of additions is long.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from gpucnn.devices.launch import ceil_div
from gpucnn.devices.numba_cuda import cuda, numba_device, numba_function
from gpucnn.dispatch.case import Spec

from .column_sums_launch import ONE_BLOCK, tiles

THREADS = 256

BLOCKS = 1024
"""Blocks that keep a large GPU busy: an H100's 132 multiprocessors hold eight each."""

FEWEST, SHORTEST = 32, 64
"""Slices even of very wide matrices, for short chains of additions; and the rows that make a slice
worth while."""


def sums_of_slices(values: Spec, *_: Spec) -> tuple[Spec, ...]:
    """The workspace: the sums of the slices of values (…, columns), if there are several slices."""
    *extents, columns = values.shape
    rows = math.prod(extents)
    if rows <= ONE_BLOCK:
        return ()
    slices = min(max(BLOCKS // tiles(columns), FEWEST), ceil_div(rows, SHORTEST))
    return (values.like(slices, columns),)


@numba_device
def share_of_thread(slices, rows, K, width):
    """(first row, end of the rows, step, column) of this thread; no rows for one that has no
    column."""
    lanes, lane = THREADS // width, cuda.threadIdx.x // width
    side_by_side = (K + width - 1) // width  # blocks of one slice
    piece = cuda.blockIdx.x // side_by_side
    k = cuda.blockIdx.x % side_by_side * width + cuda.threadIdx.x % width
    end = rows * (piece + 1) // slices if lane < lanes and k < K else 0
    return rows * piece // slices + lane, end, lanes, k


@numba_device
def add_lanes(sums, value, width):
    """sums[slice, k] = Σ value over the lanes. EVERY thread of the block must call this."""
    total = cuda.shared.array(THREADS, numba.float32)  # one for each thread
    K = sums.shape[1]
    side_by_side = (K + width - 1) // width
    thread = cuda.threadIdx.x
    lanes, lane = THREADS // width, thread // width
    total[thread] = value
    while lanes > 1:
        half = (lanes + 1) // 2
        cuda.syncthreads()  # waits for the totals of the lanes that are added now
        if lane + half < lanes:
            total[thread] += total[thread + half * width]
        lanes = half
    k = cuda.blockIdx.x % side_by_side * width + thread % width
    if lane == 0 and k < K:
        sums[cuda.blockIdx.x // side_by_side, k] = total[thread]


@numba_function
def join_slices(total, sums, width):
    """total[0, k] = Σ over the slices of sums[slice, k]."""
    first, end, step, k = share_of_thread(1, sums.shape[0], sums.shape[1], width)
    value = np.float32(0)
    for piece in range(first, end, step):
        value += sums[piece, k]
    add_lanes(total, value, width)


def sum_rows(function, total, sums, *arrays, end=()):
    """total (K,), by a function that takes the sums of slices (slices, K), the arrays with K
    columns each, `end` and the width; sums is None where one slice has all rows."""
    K = total.size
    blocks, width, total = tiles(K), ceil_div(K, tiles(K)), total.reshape(1, K)
    matrices = [a.reshape(-1, K) for a in arrays]
    if sums is None:
        function[blocks, THREADS](total, *matrices, *end, width)
    else:
        function[len(sums) * blocks, THREADS](sums, *matrices, *end, width)
        join_slices[blocks, THREADS](total, sums, width)
