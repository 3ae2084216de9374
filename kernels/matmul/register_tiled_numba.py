"""Register-tiled matmul: a thread keeps 8 × 4 values of y in registers. The third rung.

y[m, n] = Σ a[m, k] · b[k, n], 2 M N K FLOPs as before. In `tiled` each multiply-add waits for two
reads of shared memory. Here a value that is read once is multiplied 4 or 8 times before the next
read: 12 reads for 32 multiply-adds, 1.3 FLOPs for each byte of shared memory instead of 1/4. The
tile of a block grows to 64 × 32 with only 64 threads, so global memory is read less often as well:
10.7 FLOPs per byte instead of 4.

Few tiles leave a GPU empty, so where y is small, K is cut into slices whose sums are added in order
(`shared/slices_numba.py`).

The loops are in `shared/register_tiles_numba.py`; read it next. This file decides which block
computes what.

grid: x counts the tiles of y row by row, y the slices of K.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.launch import ceil_div
from gpucnn.devices.numba_cuda import cuda, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.matmul import matmul

from ..shared.register_tiles_numba import (
    COLUMNS,
    PITCH_A,
    PITCH_B,
    ROWS,
    THREADS,
    TILE_K,
    TILE_M,
    TILE_N,
    fetch,
    locate,
    multiply,
    write,
)
from ..shared.slices_numba import count_of_slices, join


@numba_function
def matmul_register_tiled(y, a, b, K, length, transpose_a, transpose_b):
    """The block owns a tile of y[piece], summed over `length` values of k. y is (slices, M, N); a and b
    are flat."""
    a_tile = cuda.shared.array((TILE_K, PITCH_A), np.float32)
    b_tile = cuda.shared.array((TILE_K, PITCH_B), np.float32)
    sums = cuda.local.array((ROWS, COLUMNS), np.float32)
    at_a = cuda.local.array(ROWS, np.uint32)
    at_b = cuda.local.array(COLUMNS, np.uint32)
    for i in range(ROWS):
        for j in range(COLUMNS):
            sums[i, j] = np.float32(0)

    _, M, N = y.shape
    tiles_in_row = (N + TILE_N - 1) // TILE_N
    m = cuda.blockIdx.x // tiles_in_row * TILE_M
    n = cuda.blockIdx.x % tiles_in_row * TILE_N
    piece = cuda.blockIdx.y
    end = min(K, (piece + 1) * length)
    pitch_a, pitch_b = M if transpose_a else K, K if transpose_b else N
    locate(at_a, m, M, pitch_a, not transpose_a, TILE_M)
    locate(at_b, n, N, pitch_b, transpose_b, TILE_N)
    for k in range(piece * length, end, TILE_K):
        fetch(a_tile, a, at_a, k, end, pitch_a, not transpose_a, TILE_M)
        fetch(b_tile, b, at_b, k, end, pitch_b, transpose_b, TILE_N)
        cuda.syncthreads()  # waits until both tiles are full
        multiply(sums, a_tile, b_tile)
        cuda.syncthreads()  # waits until nobody reads the tiles any more: the next turn overwrites them
    write(y[piece], sums, m, n)


def tiles(M, N):
    """How many tiles y has."""
    return ceil_div(M, TILE_M) * ceil_div(N, TILE_N)


def slices(M, N, K):
    """Into how many slices K is cut."""
    return count_of_slices(tiles(M, N) * THREADS, ceil_div(K, 8 * TILE_K))


def workspace(a, b, *, transpose_a, transpose_b):
    """The slices of y, if there are several."""
    (y,) = matmul.specs(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    count = slices(*y.shape, a.shape[0 if transpose_a else 1])
    return (y.like(count, *y.shape),) if count > 1 else ()


@kernel(matmul, "register_tiled", "numba", workspace=workspace)
def launch(y, a, b, partial=None, *, transpose_a, transpose_b):
    """y = a · b."""
    (M, N), K = y.shape, a.shape[0 if transpose_a else 1]
    sums = y.reshape(1, M, N) if partial is None else partial
    length = ceil_div(ceil_div(K, len(sums)), TILE_K) * TILE_K
    matmul_register_tiled[(tiles(M, N), len(sums)), THREADS](
        sums, a.reshape(-1), b.reshape(-1), K, length, transpose_a, transpose_b
    )
    if partial is not None:
        join(y, partial)
