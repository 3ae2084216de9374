"""The tiles of a matrix product: a block fetches squares of a and b into shared memory and uses
each value TILE times.

      k →                n →
   ┌──┬──┬──┐         ┌──┬──┬──┐       One block owns a square of TILE × TILE values of y. It walks along K:
m  │▒▒│▒▒│▒▒│      k  │  │▒▒│  │       fetch a square of a and one of b, a value of each per thread; multiply
↓  ├──┼──┼──┤  a   ↓  ├──┼──┼──┤  b    them out of shared memory; move to the next two squares. For a value of
   │  │  │  │         │  │▒▒│  │       y, 2 K / TILE floats come from global memory instead of 2 K.
   └──┴──┴──┘         └──┴──┴──┘
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.numba_cuda import cuda, numba_device

TILE = 16
"""Side of a tile. A block has TILE · TILE = 256 threads, and its two tiles take
2 · 16 · 17 · 4 = 2176 bytes."""

PITCH = TILE + 1
"""Floats from one row of a tile to the next. The odd one puts the values of a column into different
banks, so that a tile can also be written by columns, as a transposed matrix is."""


@numba_device
def fetch(tile, matrix, first_row, first_column, rows, columns, transposed):
    """Fetch a tile of a matrix (rows, columns), with zeros outside of it.

    Neighbouring threads read neighbouring places of memory whichever way the matrix lies: a
    transposed one is read along its rows too, and turned around while it is written into the tile.
    """
    across, down = cuda.threadIdx.x, cuda.threadIdx.y
    if transposed:
        row, column = first_row + across, first_column + down
        tile[across, down] = matrix[column, row] if row < rows and column < columns else np.float32(0)
    else:
        row, column = first_row + down, first_column + across
        tile[down, across] = matrix[row, column] if row < rows and column < columns else np.float32(0)


@numba_device
def tile_sum(a, b, m, n, begin, end, transpose_a, transpose_b):
    """Σ a[m, k] · b[k, n] over k of [begin, end), for the thread that owns y[m, n].

    The whole block must call this with the same begin and end, threads beyond the edge of y
    included: they fetch too.
    """
    a_tile = cuda.shared.array((TILE, PITCH), np.float32)
    b_tile = cuda.shared.array((TILE, PITCH), np.float32)
    row, column = cuda.threadIdx.y, cuda.threadIdx.x
    M, N = a.shape[1 if transpose_a else 0], b.shape[0 if transpose_b else 1]

    total = np.float32(0)
    for k in range(begin, end, TILE):
        fetch(a_tile, a, m - row, k, M, end, transpose_a)
        fetch(b_tile, b, k, n - column, end, N, transpose_b)
        cuda.syncthreads()  # waits until both tiles are full: each thread then reads what others fetched
        for step in range(TILE):
            total += a_tile[row, step] * b_tile[step, column]
        cuda.syncthreads()  # waits until nobody reads the tiles any more: the next turn overwrites them
    return total
