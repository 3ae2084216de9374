"""Naive matmul: one thread per output value, everything from global memory. The first rung of the ladder."""

from gpucnn import kernel
from gpucnn.launch import blocks_2d
from gpucnn.numba_cuda import cuda, np, numba_function
from gpucnn.ops.matmul import matmul

THREADS_X, THREADS_Y = 32, 8


@numba_function
def matmul_naive(y, a, b, M, N, K, transpose_a, transpose_b):
    n, m = cuda.grid(2)
    if m >= M or n >= N:
        return
    total = np.float32(0)
    for k in range(K):
        left = a[k, m] if transpose_a else a[m, k]
        right = b[n, k] if transpose_b else b[k, n]
        total += left * right
    y[m, n] = total


@kernel(matmul, "naive", "numba")
def launch(y, a, b, *, transpose_a, transpose_b):
    M, N = y.shape
    K = a.shape[0 if transpose_a else 1]
    grid = blocks_2d(N, M, (THREADS_X, THREADS_Y))
    matmul_naive[grid, (THREADS_X, THREADS_Y)](y, a, b, M, N, K, transpose_a, transpose_b)
