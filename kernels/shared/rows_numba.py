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
def row_sum(value, shared):
    """The sum of the values that the threads of a row bring."""
    thread = cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    cuda.syncthreads()  # until all have read what the reduction before this one left here
    shared[thread] = value
    half = cuda.blockDim.x >> 1
    while half > 0:
        cuda.syncthreads()  # until the upper half is there
        if cuda.threadIdx.x < half:
            shared[thread] += shared[thread + half]
        half >>= 1
    cuda.syncthreads()  # until the sum is there
    return shared[thread - cuda.threadIdx.x]


@numba_device
def row_max(value, shared):
    """The largest of the values that the threads of a row bring."""
    thread = cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    cuda.syncthreads()  # until all have read what the reduction before this one left here
    shared[thread] = value
    half = cuda.blockDim.x >> 1
    while half > 0:
        cuda.syncthreads()  # until the upper half is there
        if cuda.threadIdx.x < half:
            shared[thread] = max(shared[thread], shared[thread + half])
        half >>= 1
    cuda.syncthreads()  # until the maximum is there
    return shared[thread - cuda.threadIdx.x]


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
