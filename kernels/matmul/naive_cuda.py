"""Naive matmul: one thread per output value, everything from global memory. The first rung of the
ladder.

A thread does 2 K FLOPs and reads 2 K floats: 1/4 FLOP per byte, where an H100 can do 20 FLOPs for
each byte that its memory delivers. Only the caches save it. The next rung, `tiled_cuda.cu`, shares
by intent what is shared here by luck.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import blocks_1d
from gpucnn.dispatch.op import kernel
from gpucnn.ops.matmul import matmul

THREADS = 256

matmul_naive = cuda_function(__file__, "matmul_naive", THREADS=THREADS)


@kernel(matmul, "naive", "cuda")
def launch(y, a, b, *, transpose_a, transpose_b):
    """y = a · b."""
    M, N = y.shape
    K = a.shape[0 if transpose_a else 1]
    matmul_naive[blocks_1d(y.size, THREADS), THREADS](y, a, b, M, N, K, transpose_a, transpose_b)
