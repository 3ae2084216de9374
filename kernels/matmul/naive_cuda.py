"""Naive matmul: one thread per output value, everything from global memory. The first rung of the ladder."""

from gpucnn import kernel
from gpucnn.launch import blocks_2d
from gpucnn.nvrtc import cuda_function
from gpucnn.ops.matmul import matmul

THREADS_X, THREADS_Y = 32, 8

matmul_naive = cuda_function(__file__, "matmul_naive")


@kernel(matmul, "naive", "cuda")
def launch(y, a, b, *, transpose_a, transpose_b):
    M, N = y.shape
    K = a.shape[0 if transpose_a else 1]
    grid = blocks_2d(N, M, (THREADS_X, THREADS_Y))
    matmul_naive[grid, (THREADS_X, THREADS_Y)](y, a, b, M, N, K, transpose_a, transpose_b)
