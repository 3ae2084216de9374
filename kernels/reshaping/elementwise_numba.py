"""Padding, cropping and transposing value by value: one thread per value of the result looks up
where it comes from.

    pad, crop:   y[i, j, …] = x[i - before_i, j - before_j, …], or 0 outside of x       before < 0: crop
    transpose:   y[i, j, …] = x[i · step_i + j · step_j + …]
    matrices:    y[b, n, m] = x[b, m, n]

8 bytes are moved for each value and only addresses are computed, so the order of the accesses is
everything. Neighbouring threads write neighbouring values, and `pad` and `crop` mostly read such
values too. Axes that stay together are merged first (`shared/axes_launch.py`), because a division
per axis costs more than the rest. A transposed matrix would be read with a step of N, so that 32
threads touch 32 lines of memory: there, a tile is read along n into shared memory and written along
m.

Kernels take no lists, so the numbers of up to eight axes are passed one by one, missing axes first.
"""

from __future__ import annotations

import numba
import numpy as np

from gpucnn.devices.launch import blocks_1d, ceil_div
from gpucnn.devices.numba_cuda import cuda, numba_function

from ..shared.axes_launch import MOST_AXES, ROWS, TILE, eight, register

THREADS = 256

PITCH = TILE + 1
"""One column more than the tile has, so that a column of it lies in 32 banks of shared memory."""


@numba_function
def pad_elementwise(
    y, x, axes,
    x0, x1, x2, x3, x4, x5, x6, x7,
    y0, y1, y2, y3, y4, y5, y6, y7,
    before0, before1, before2, before3, before4, before5, before6, before7,
):  # fmt: skip
    i = cuda.grid(1)
    if i >= y.size:
        return
    extent_x = (x0, x1, x2, x3, x4, x5, x6, x7)
    extent_y = (y0, y1, y2, y3, y4, y5, y6, y7)
    before = (before0, before1, before2, before3, before4, before5, before6, before7)

    rest, at, step = i, 0, 1
    inside = True
    for axis in range(MOST_AXES - 1, MOST_AXES - 1 - axes, -1):
        cell = rest % extent_y[axis] - before[axis]
        rest //= extent_y[axis]
        inside = inside and 0 <= cell < extent_x[axis]
        at += cell * step
        step *= extent_x[axis]
    y[i] = x[at] if inside else np.float32(0)


@numba_function
def transpose_elementwise(
    y, x, axes,
    y0, y1, y2, y3, y4, y5, y6, y7,
    step0, step1, step2, step3, step4, step5, step6, step7,
):  # fmt: skip
    i = cuda.grid(1)
    if i >= y.size:
        return
    extent = (y0, y1, y2, y3, y4, y5, y6, y7)
    step = (step0, step1, step2, step3, step4, step5, step6, step7)

    rest, at = i, 0
    for axis in range(MOST_AXES - 1, MOST_AXES - 1 - axes, -1):
        at += rest % extent[axis] * step[axis]
        rest //= extent[axis]
    y[i] = x[at]


@numba_function
def transpose_matrices(y, x):
    tile = cuda.shared.array((TILE, PITCH), numba.float32)
    _, M, N = x.shape
    tiles_m, tiles_n = (M + TILE - 1) // TILE, (N + TILE - 1) // TILE
    block = cuda.blockIdx.x
    n0, m0 = block % tiles_n * TILE, block // tiles_n % tiles_m * TILE
    matrix = block // (tiles_n * tiles_m)
    column = cuda.threadIdx.x

    for row in range(cuda.threadIdx.y, TILE, ROWS):
        m, n = m0 + row, n0 + column
        if m < M and n < N:
            tile[row, column] = x[matrix, m, n]
    cuda.syncthreads()  # waits for the whole tile: each thread writes what others have read
    for row in range(cuda.threadIdx.y, TILE, ROWS):
        m, n = m0 + column, n0 + row
        if m < M and n < N:
            y[matrix, n, m] = tile[column, row]


def _shifted(y, x, extents_x, extents_y, before):
    lists = *eight(extents_x, 1), *eight(extents_y, 1), *eight(before, 0)
    pad_elementwise[blocks_1d(y.size, THREADS), THREADS](y.reshape(-1), x.reshape(-1), len(before), *lists)


def _transposed(y, x, extents, steps):
    lists = *eight(extents, 1), *eight(steps, 0)
    transpose_elementwise[blocks_1d(y.size, THREADS), THREADS](y.reshape(-1), x.reshape(-1), len(extents), *lists)


def _transposed_in_tiles(y, x, batch, M, N):
    grid = batch * ceil_div(M, TILE) * ceil_div(N, TILE)
    transpose_matrices[grid, (TILE, ROWS)](y.reshape(batch, N, M), x.reshape(batch, M, N))


register(__file__, "numba", _shifted, _transposed, _transposed_in_tiles)
