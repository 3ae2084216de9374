"""Two arrays made one, one thread per value of the result: their sum, and one behind the other along
the channels.

12 bytes are moved for an addition, 8 where channels are joined: as fast as memory is.
"""

from __future__ import annotations

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.merging import add, concatenate, weighted_sum

THREADS = 256


@numba_function
def add_elementwise(y, a, b):
    i = cuda.grid(1)
    if i < y.size:
        y[i] = a[i] + b[i]


@numba_function
def weighted_sum_elementwise(y, a, b, of_a, of_b):
    i = cuda.grid(1)
    if i < y.size:
        y[i] = of_a * a[i] + of_b * b[i]


@numba_function
def concatenate_elementwise(y, a, b):
    i = cuda.grid(1)
    if i >= y.size:
        return
    row, k = i // y.shape[1], i % y.shape[1]
    y[row, k] = a[row, k] if k < a.shape[1] else b[row, k - a.shape[1]]


@kernel(add, "elementwise", "numba")
def launch_add(y, a, b):
    add_elementwise[blocks_1d(y.size, THREADS), THREADS](y.reshape(-1), a.reshape(-1), b.reshape(-1))


@kernel(weighted_sum, "elementwise", "numba")
def launch_weighted_sum(y, a, b, *, of_a, of_b):
    flat = y.reshape(-1), a.reshape(-1), b.reshape(-1)
    weighted_sum_elementwise[blocks_1d(y.size, THREADS), THREADS](*flat, float(of_a), float(of_b))


@kernel(concatenate, "elementwise", "numba")
def launch_concatenate(y, a, b):
    rows = (array.reshape(-1, array.shape[-1]) for array in (y, a, b))
    concatenate_elementwise[blocks_1d(y.size, THREADS), THREADS](*rows)
