"""The tiles of a matrix product, with several values of y in the registers of each thread.

    tile of y, 64 × 32          a thread's 8 × 4 values of y: every eighth row and every eighth column
   ┌─┬─┬─┬─┬─┬─┬─┬─┬─┬──        of the tile. For each k it reads 8 values of a and 4 of b from shared
   │▒│ │ │ │ │ │ │ │▒│          memory, and keeps them in registers for 32 multiply-adds: 12 reads,
   ├─┼─┼─┼─┼─┼─┼─┼─┼─┼──        where a thread with one value of y needs 64.
   │ │ │ │ │ │ │ │ │ │
                                Neighbouring threads own neighbouring columns. So when a warp reads
                                shared memory, its lanes meet different banks or the same value, and
                                when it writes y, it writes whole sectors of 32 bytes.

Each of these loops has a constant number of turns. The compiler unrolls them, and only then can an
array of `cuda.local` live in registers, which have no addresses.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.numba_cuda import cuda, numba_device

TILE_M, TILE_N, TILE_K = 64, 32, 8
"""Rows and columns of y in a tile, and how much of K is in shared memory at a time."""

ACROSS = 8
THREADS = ACROSS * ACROSS
"""Of a block: ACROSS threads along the rows of y by as many along its columns."""

ROWS, COLUMNS = TILE_M // ACROSS, TILE_N // ACROSS
"""Values of y of a thread: 8 × 4."""

PITCH_A, PITCH_B = TILE_M + 4, TILE_N + 4
"""Floats from one k of a tile to the next. With 4 more than the tile has, the eight k and four rows
that a warp writes at once lie in 32 different banks."""


@numba_device
def place(width):
    """The thread's number as (row, column) of rows of this width, a power of two.

    In terms of bits, so that the compiler sees that they are not negative.
    """
    thread = cuda.threadIdx.x & (THREADS - 1)
    return thread // width, thread & (width - 1)


@numba_device
def row_of(i, along_k, count):
    """The row of a tile of `count` rows in which the thread's value i lies. `along_k` says that
    neighbours in memory differ in k: then eight threads fetch them, else they fetch neighbouring rows."""
    return place(TILE_K)[0] + i * (THREADS // TILE_K) if along_k else place(count)[1]


@numba_device
def k_of(i, along_k, count):
    """Its k in the tile."""
    return place(TILE_K)[1] if along_k else place(count)[0] + i * (THREADS // count)


@numba_device
def locate(at, first, extent, pitch, along_k, count):
    """at[i] = where the thread's value i lies in a matrix, for the first tile. Rows beyond the extent
    repeat the last one: their sums are never written."""
    for i in range(count * TILE_K // THREADS):
        row, k = min(first + row_of(i, along_k, count), extent - 1), k_of(i, along_k, count)
        at[i] = row * pitch + k if along_k else k * pitch + row


@numba_device
def fetch(tile, matrix, at, first_k, end, pitch, along_k, count):
    """Fetch the thread's values of the tile that begins at `first_k`, into tile[k, row]; zeros beyond the
    end of the sum. All numbers that make an index are unsigned: Python's negative indices would cost
    two more instructions for each access."""
    offset = np.uint32(first_k if along_k else first_k * pitch)
    for i in range(count * TILE_K // THREADS):
        row, k = row_of(i, along_k, count), k_of(i, along_k, count)
        tile[k, row] = matrix[at[i] + offset] if first_k + k < end else np.float32(0)


@numba_device
def multiply_one(sums, a_tile, b_tile, k):
    """sums[i, j] += a · b of one k."""
    row, column = place(ACROSS)
    a = cuda.local.array(ROWS, np.float32)
    b = cuda.local.array(COLUMNS, np.float32)
    for i in range(ROWS):
        a[i] = a_tile[k, row + i * ACROSS]
    for j in range(COLUMNS):
        b[j] = b_tile[k, column + j * ACROSS]
    for i in range(ROWS):
        for j in range(COLUMNS):
            sums[i, j] += a[i] * b[j]


@numba_device
def multiply(sums, a_tile, b_tile):
    """sums += a · b over the TILE_K of the tiles: a loop, written out, since the compiler keeps longer
    loops as they are and then computes an address for each access."""
    multiply_one(sums, a_tile, b_tile, 0)
    multiply_one(sums, a_tile, b_tile, 1)
    multiply_one(sums, a_tile, b_tile, 2)
    multiply_one(sums, a_tile, b_tile, 3)
    multiply_one(sums, a_tile, b_tile, 4)
    multiply_one(sums, a_tile, b_tile, 5)
    multiply_one(sums, a_tile, b_tile, 6)
    multiply_one(sums, a_tile, b_tile, 7)


@numba_device
def write(y, sums, first_m, first_n):
    """y = sums, inside y (M, N)."""
    row, column = place(ACROSS)
    for i in range(ROWS):
        m = first_m + row + i * ACROSS
        if m < y.shape[0]:
            for j in range(COLUMNS):
                n = first_n + column + j * ACROSS
                if n < y.shape[1]:
                    y[m, n] = sums[i, j]
