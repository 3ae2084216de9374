"""Softmax over rows by trees in shared memory: a few threads for a short row, a block for a long one.

y = exp(x - m) / Σ exp(x - m), with m the largest x of the row, so that nothing overflows. A row is read three times,
for m, for the sum and for the result, but only the first time from beyond the cache: 8 bytes and two exponentials per
value (12 bytes in a gradient). One thread per row would be simpler and slow: its warp would read 32 places far apart at
a time, and a batch of 128 rows would give a GPU of thousands of warps work for 4.

grid: blocks of (threads of a row, rows) threads. Threads of a row that does not exist go without columns: the barriers
need them.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from gpucnn.devices.numba_cuda import cuda, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.activation import log_softmax, log_softmax_grad, softmax, softmax_grad

from ..shared.rows_launch import MOST_THREADS, over_rows
from ..shared.rows_numba import LOWEST, row_max, row_of_thread, row_sum


@numba_function
def softmax_rows(y, x):
    partials = cuda.shared.array(MOST_THREADS, numba.float32)
    n = row_of_thread()
    columns = x.shape[1] if n < x.shape[0] else 0
    largest = LOWEST
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        largest = max(largest, x[n, k])
    largest = row_max(largest, partials)
    total = np.float32(0)
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        total += math.exp(x[n, k] - largest)
    total = row_sum(total, partials)
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        y[n, k] = math.exp(x[n, k] - largest) / total


@numba_function
def softmax_grad_rows(dx, dy, y):
    partials = cuda.shared.array(MOST_THREADS, numba.float32)
    n = row_of_thread()
    columns = y.shape[1] if n < y.shape[0] else 0
    total = np.float32(0)
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        total += dy[n, k] * y[n, k]
    total = row_sum(total, partials)
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        dx[n, k] = y[n, k] * (dy[n, k] - total)


@numba_function
def log_softmax_rows(y, x):
    partials = cuda.shared.array(MOST_THREADS, numba.float32)
    n = row_of_thread()
    columns = x.shape[1] if n < x.shape[0] else 0
    largest = LOWEST
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        largest = max(largest, x[n, k])
    largest = row_max(largest, partials)
    total = np.float32(0)
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        total += math.exp(x[n, k] - largest)
    log_total = math.log(row_sum(total, partials))  # never the logarithm of a quotient that may have underflowed
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        y[n, k] = (x[n, k] - largest) - log_total


@numba_function
def log_softmax_grad_rows(dx, dy, y):
    partials = cuda.shared.array(MOST_THREADS, numba.float32)
    n = row_of_thread()
    columns = y.shape[1] if n < y.shape[0] else 0
    total = np.float32(0)
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        total += dy[n, k]
    total = row_sum(total, partials)
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        dx[n, k] = dy[n, k] - math.exp(y[n, k]) * total


@kernel(softmax, "rows", "numba")
def launch(y, x):
    K = x.shape[-1]
    N = x.size // K
    softmax_rows[over_rows(N, K)](y.reshape(N, K), x.reshape(N, K))


@kernel(softmax_grad, "rows", "numba")
def launch_grad(dx, dy, y):
    K = y.shape[-1]
    N = y.size // K
    softmax_grad_rows[over_rows(N, K)](dx.reshape(N, K), dy.reshape(N, K), y.reshape(N, K))


@kernel(log_softmax, "rows", "numba")
def launch_log(y, x):
    K = x.shape[-1]
    N = x.size // K
    log_softmax_rows[over_rows(N, K)](y.reshape(N, K), x.reshape(N, K))


@kernel(log_softmax_grad, "rows", "numba")
def launch_log_grad(dx, dy, y):
    K = y.shape[-1]
    N = y.size // K
    log_softmax_grad_rows[over_rows(N, K)](dx.reshape(N, K), dy.reshape(N, K), y.reshape(N, K))
