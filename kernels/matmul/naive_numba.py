"""Naive matmul: one thread per output value, everything from global memory. The first rung of the
ladder.

y[m, n] = Σ a[m, k] · b[k, n]. A thread does 2 K FLOPs and reads 2 K floats, so the product loads 8
M N K bytes: 1/4 FLOP per byte, where an H100 can do 20 FLOPs for each byte that its memory
delivers. Caches help: the 32 threads of a warp mostly share m, so that one value of a serves them
all, and their values of b are neighbours. Where b is transposed they lie K floats apart, and each
read of a warp touches 32 sectors of memory instead of 4. The next rung, `tiled_numba.py`, shares by
intent what is shared here by luck.

grid: M · N threads along x. A grid may have 2,147,483,647 blocks along x and only 65,535 along y
and z.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.matmul import matmul

THREADS = 256


@numba_function
def matmul_naive(y, a, b, transpose_a, transpose_b):
    """The thread owns y[m, n]; neighbours differ in n."""
    i = cuda.grid(1)
    if i >= y.size:
        return
    N = y.shape[1]
    K = a.shape[0 if transpose_a else 1]
    m, n = i // N, i % N
    total = np.float32(0)
    for k in range(K):
        left = a[k, m] if transpose_a else a[m, k]
        right = b[n, k] if transpose_b else b[k, n]
        total += left * right
    y[m, n] = total


@kernel(matmul, "naive", "numba")
def launch(y, a, b, *, transpose_a, transpose_b):
    """y = a · b."""
    matmul_naive[blocks_1d(y.size, THREADS), THREADS](y, a, b, transpose_a, transpose_b)
