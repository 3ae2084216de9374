"""Bias over rows: one thread per value adds, and blocks sum slices of the rows, then few blocks the
slices.

Forward reads and writes each value once (8 bytes per addition), backward reads it once (4 bytes):
nothing to gain from shared memory or reuse, all from reading memory in order. Neighbouring threads
take neighbouring values.

    y[i, k] = x[i, k] + b[k]          db[k] = Σ dy[i, k]          i: all leading axes flattened

The sum has few results and millions of terms. So it is cut twice: the rows into slices, one block
each, and a slice into lanes of at most 32 threads side by side, one channel per thread. Blocks and
lanes add up in a fixed order: all runs round alike, which with float atomics they would not. No
chain of additions is long, so the rounding error is small.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from gpucnn.devices.launch import blocks_1d, ceil_div
from gpucnn.devices.numba_cuda import cuda, numba_function
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.bias import bias, bias_grad

from ..shared.column_sums_launch import count_of_slices, tiles

THREADS = 256


@numba_function
def bias_rows(y, x, b):
    i = cuda.grid(1)
    if i >= x.size:
        return
    y[i] = x[i] + b[i % b.size]


@numba_function
def bias_grad_rows(sums, dy, width):
    """sums[slice, k] = Σ dy[i, k] over the rows i of the slice; a block: one slice of `width` ≤ 32
    channels."""
    total = cuda.shared.array(THREADS, numba.float32)  # one for each thread
    rows, K = dy.shape
    slices = sums.shape[0]
    blocks = (K + width - 1) // width  # side by side for one slice
    piece = cuda.blockIdx.x // blocks
    thread = cuda.threadIdx.x
    lanes, lane = THREADS // width, thread // width
    k = cuda.blockIdx.x % blocks * width + thread % width

    value = np.float32(0)
    if lane < lanes and k < K:  # no early return: every thread must reach the barriers
        for i in range(rows * piece // slices + lane, rows * (piece + 1) // slices, lanes):
            value += dy[i, k]
    total[thread] = value
    while lanes > 1:
        half = (lanes + 1) // 2
        cuda.syncthreads()  # waits for the totals of the lanes that are added now
        if lane + half < lanes:
            total[thread] += total[thread + half * width]
        lanes = half
    if lane == 0 and k < K:
        sums[piece, k] = total[thread]


@kernel(bias, "rows", "numba")
def launch(y, x, b):
    bias_rows[blocks_1d(x.size, THREADS), THREADS](y.reshape(-1), x.reshape(-1), b)


def sums_of_slices(dy: Spec) -> Spec:
    """(slices, K)."""
    *rows, K = dy.shape
    return dy.like(count_of_slices(math.prod(rows), K), K)


@kernel(bias_grad, "rows", "numba", workspace=sums_of_slices)
def launch_grad(db, dy, sums):
    slices, K = sums.shape
    blocks, width = tiles(K), ceil_div(K, tiles(K))
    bias_grad_rows[slices * blocks, THREADS](sums, dy.reshape(-1, K), width)
    bias_grad_rows[blocks, THREADS](db.reshape(1, K), sums, width)  # the slices' totals, as the rows of one slice
