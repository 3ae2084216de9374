"""Softmax over rows by trees in shared memory: a few threads for a short row, a block for a long
one.

y = exp(x - m) / Σ exp(x - m), with m the largest x of the row, so that nothing overflows. A row is
read three times, for m, for the sum and for the result, but only the first time from beyond the
cache: 8 bytes and two exponentials per value (12 bytes in a gradient). One thread per row would be
simpler and slow: its warp would read 32 places far apart at a time, and a batch of 128 rows would
give a GPU of thousands of warps work for 4.

grid: blocks of (threads of a row, rows) threads. Threads of a row that does not exist go without
columns: the barriers need them.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from gpucnn.devices.numba_cuda import cuda, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.activation import log_softmax, log_softmax_grad, softmax, softmax_grad

from ..shared.rows_launch import MOST_THREADS, over_rows
from ..shared.rows_numba import largest_of_row, row_and_columns, row_sum, sum_of_exponentials, sum_of_row


@numba_function
def softmax_rows(y, x):
    partials = cuda.shared.array(MOST_THREADS, numba.float32)
    n, columns = row_and_columns(x)
    largest = largest_of_row(x, n, columns, partials)
    total = sum_of_exponentials(x, n, columns, largest, partials)
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        y[n, k] = math.exp(x[n, k] - largest) / total


@numba_function
def softmax_grad_rows(dx, dy, y):
    partials = cuda.shared.array(MOST_THREADS, numba.float32)
    n, columns = row_and_columns(y)
    total = np.float32(0)
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        total += dy[n, k] * y[n, k]
    total = row_sum(total, partials)
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        dx[n, k] = y[n, k] * (dy[n, k] - total)


@numba_function
def log_softmax_rows(y, x):
    partials = cuda.shared.array(MOST_THREADS, numba.float32)
    n, columns = row_and_columns(x)
    largest = largest_of_row(x, n, columns, partials)
    # The logarithm of the sum, never of a quotient that may have underflowed.
    log_total = math.log(sum_of_exponentials(x, n, columns, largest, partials))
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        y[n, k] = (x[n, k] - largest) - log_total


@numba_function
def log_softmax_grad_rows(dx, dy, y):
    partials = cuda.shared.array(MOST_THREADS, numba.float32)
    n, columns = row_and_columns(y)
    total = sum_of_row(dy, n, columns, partials)
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        dx[n, k] = dy[n, k] - math.exp(y[n, k]) * total


def register(op, function):
    """Register the kernel of an op on arrays that all have the shape (…, K)."""

    @kernel(op, "rows", "numba")
    def launch(*arrays):
        K = arrays[0].shape[-1]
        N = arrays[0].size // K
        function[over_rows(N, K)](*(array.reshape(N, K) for array in arrays))


register(softmax, softmax_rows)
register(softmax_grad, softmax_grad_rows)
register(log_softmax, log_softmax_rows)
register(log_softmax_grad, log_softmax_grad_rows)
