"""Naive matmul: one thread per output value, everything from global memory. The first rung of the ladder.

y[m, n] = Σ a[m, k] · b[k, n]. A thread does 2 K FLOPs and reads 2 K floats, so the product asks for 8 M N K bytes: a
quarter of a FLOP per byte, where an H100 could do 20 before its memory becomes the limit. Caches save a part of it: the
32 threads of a warp share m, so one value of `a` serves them all, and their values of `b` are neighbours. The next rung,
`tiled`, shares by intent what is shared here by luck.

grid: M · N threads in one dimension. Blocks in y and z are limited to 65,535; those in x are not, in practice.
"""

from __future__ import annotations

import numpy as np

from gpucnn.launch import blocks_1d
from gpucnn.numba_cuda import cuda, numba_function
from gpucnn.ops.matmul import matmul
from gpucnn.registry import kernel

THREADS = 256


@numba_function
def matmul_naive(y, a, b, transpose_a, transpose_b):
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
    matmul_naive[blocks_1d(y.size, THREADS), THREADS](y, a, b, transpose_a, transpose_b)
