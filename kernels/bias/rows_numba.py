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

import numpy as np

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.bias import bias, bias_grad

from ..shared.column_sums_numba import add_lanes, share_of_thread, sum_rows, sums_of_slices

THREADS = 256


@numba_function
def bias_rows(y, x, b):
    i = cuda.grid(1)
    if i >= x.size:
        return
    y[i] = x[i] + b[i % b.size]


@numba_function
def bias_grad_rows(sums, dy, width):
    """sums[slice, k] = Σ dy[i, k] over the rows i of the slice."""
    first, end, step, k = share_of_thread(sums.shape[0], dy.shape[0], dy.shape[1], width)
    value = np.float32(0)
    for i in range(first, end, step):
        value += dy[i, k]
    add_lanes(sums, value, width)


@kernel(bias, "rows", "numba")
def launch(y, x, b):
    bias_rows[blocks_1d(x.size, THREADS), THREADS](y.reshape(-1), x.reshape(-1), b)


@kernel(bias_grad, "rows", "numba", workspace=sums_of_slices)
def launch_grad(db, dy, sums=None):
    sum_rows(bias_grad_rows, db, sums, dy)
