"""Sums and maxima over the rows of an array (N, K) by a tree in shared memory, without warp
intrinsics.

For blocks of (threads of a row, rows) threads as in `rows_launch`; the threads of a row are a power
of two. In each step the lower half of them adds what the upper half holds. The order of adding
depends on K alone.

EVERY thread of the block must call these, also one whose row is beyond the last; each gets the
result of its row.
`shared` has a float for each thread of the block.
"""

import math

import numpy as np

from gpucnn.devices.numba_cuda import cuda, numba_device

LOWEST = np.float32(-3.402823466e38)
"""What a thread without columns brings to a maximum."""


@numba_device
def row_of_thread():
    """n, which may be N or more."""
    return cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y


@numba_device
def row_and_columns(x):
    """n and the number of its columns: K, or 0 where n is N or more."""
    n = row_of_thread()
    return n, x.shape[1] if n < x.shape[0] else 0


def over_row(combine):
    """The function that combines the values which the threads of a row bring."""

    @numba_device
    def over_row(value, shared):
        thread = cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x
        cuda.syncthreads()  # until all have read what the reduction before this one left here
        shared[thread] = value
        half = cuda.blockDim.x >> 1
        while half > 0:
            cuda.syncthreads()  # until the upper half is there
            if cuda.threadIdx.x < half:
                shared[thread] = combine(shared[thread], shared[thread + half])
            half >>= 1
        cuda.syncthreads()  # until the result is there
        return shared[thread - cuda.threadIdx.x]

    return over_row


@numba_device
def plus(a, b):
    return a + b


@numba_device
def maximum(a, b):
    return max(a, b)


row_sum, row_max = over_row(plus), over_row(maximum)


@numba_device
def largest_of_row(x, n, columns, shared):
    """The largest x[n, k] with k < columns."""
    largest = LOWEST
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        largest = max(largest, x[n, k])
    return row_max(largest, shared)


@numba_device
def sum_of_row(x, n, columns, shared):
    """Σ x[n, k] over k < columns."""
    total = np.float32(0)
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        total += x[n, k]
    return row_sum(total, shared)


@numba_device
def sum_of_exponentials(x, n, columns, largest, shared):
    """Σ exp(x[n, k] - largest) over k < columns."""
    total = np.float32(0)
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        total += math.exp(x[n, k] - largest)
    return row_sum(total, shared)
