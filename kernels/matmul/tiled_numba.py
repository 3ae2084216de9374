"""Tiled matmul: a block of threads fetches each value once for all of them, through shared memory.
The second rung.

y[m, n] = Σ a[m, k] · b[k, n], 2 M N K FLOPs as before. The naive kernel reads 2 K floats for each
value of y; here a block of 16 × 16 threads reads a square of a and a square of b together and uses
every value 16 times, so 8 M N K / 16 bytes come from global memory: 4 FLOPs per byte instead of
1/4. For matrices of 64 × 64 the emulator counts 4,608 sectors of 32 bytes, where the naive kernel
takes 41,472, and 270,848 if b is transposed; here that makes no difference. What limits this kernel
is shared memory itself, with two reads for each multiply-add; the next rung, `register_tiled`, keeps
several values of y in the registers of each thread.

The loop over tiles is `tile_sum` in `shared/tiles_numba.py`; read it next. This file decides
which thread computes what.

grid: one block of 16 × 16 threads for each tile of y, counted row by row.
"""

from __future__ import annotations

from gpucnn.devices.launch import ceil_div
from gpucnn.devices.numba_cuda import cuda, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.matmul import matmul

from ..shared.tiles_numba import TILE, tile_sum


@numba_function
def matmul_tiled(y, a, b, transpose_a, transpose_b):
    """The block owns a tile of y, the thread y[m, n] in it."""
    M, N = y.shape
    K = a.shape[0 if transpose_a else 1]
    tiles_in_row = (N + TILE - 1) // TILE
    m = cuda.blockIdx.x // tiles_in_row * TILE + cuda.threadIdx.y
    n = cuda.blockIdx.x % tiles_in_row * TILE + cuda.threadIdx.x
    # No early return: threads beyond the edge of y help to fetch, and all threads must meet at the
    # barriers.
    total = tile_sum(a, b, m, n, 0, K, transpose_a, transpose_b)
    if m < M and n < N:
        y[m, n] = total


@kernel(matmul, "tiled", "numba")
def launch(y, a, b, *, transpose_a, transpose_b):
    """y = a · b."""
    M, N = y.shape
    matmul_tiled[ceil_div(M, TILE) * ceil_div(N, TILE), (TILE, TILE)](y, a, b, transpose_a, transpose_b)
