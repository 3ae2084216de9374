"""Products of some rows with a matrix that may be larger than the caches next to a core.

    y[r, j] = Σ over k of x[r, k] · weight[k, j] + bias[j], and an activation

The matrix, or the one whose transpose it is, is read once, where it lies. A block of it, `_BLOCK` by as many
columns as a tile has, is packed into the first-level cache and meets all rows there, a tile at a time; the sums are
read and written once for each block. A product by panels (`panels_njit.py`) packs the whole matrix before: it writes
as much as it reads, and reads that again, which takes longer than the products of few rows. The roundings are the
same.

Work: 2 · rows · weight.size. Traffic: the matrix once, the sums once for every `_BLOCK` of its rows.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.njit import njit
from gpucnn.devices.team import tasks
from gpucnn.dispatch.case import Spec

from .epilogue_njit import call
from .implicit_gemm_njit import SMALL
from .panels_njit import FEWEST_PRODUCTS
from .simd_njit import at, copy, put, turn
from .slices_launch import apart
from .tile_njit import FILTERS, ROWS, WIDTH, add_large

_BLOCK = 128
"""Rows of the matrix that are packed at a time."""

_PARTS = 4
"""Parts of the columns, for the threads."""

_FEWEST_ROWS, _FEWEST_TERMS, _FEWEST_COLUMNS = 8, 32, 2 * FILTERS
"""With fewer, packing and the sums take longer than the products, or there is one part for all threads."""


def pays(rows: int, terms: int, columns: int) -> bool:
    """Whether it is expected to be faster than panels and BLAS. It is where BLAS has vectors of 512 bits, too; with
    those of 256 it has not been measured."""
    enough = rows >= _FEWEST_ROWS and terms >= _FEWEST_TERMS and columns >= _FEWEST_COLUMNS
    return enough and rows * terms * columns >= FEWEST_PRODUCTS and WIDTH == 16


def supports(rows: int, columns: int) -> bool:
    """Whether rows and columns fill tiles."""
    return rows % ROWS == columns % FILTERS == 0


def workspace_of(columns: int) -> Spec:
    """For `multiply`: a block for each part."""
    return Spec((len(_bounds(columns)) - 1, apart(_BLOCK * FILTERS)), np.dtype(np.float32))


def _bounds(columns: int) -> np.ndarray:
    panels = columns // FILTERS
    parts = min(_PARTS, panels)
    return np.array([panels * i // parts * FILTERS for i in range(parts + 1)])


def multiply(
    y: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    blocks: np.ndarray,
    bias: np.ndarray | None = None,
    ended: np.ndarray | None = None,
    function: int = 0,
    alpha: float = 0.0,
    *,
    transposed: bool = False,
) -> None:
    """y (M, N) = x (M, K) @ weight (K, N) + bias (N,), where the weight may be stored as its transpose. `ended` is the
    array of function(y), which `epilogue_njit.end` returns; by default y."""
    (rows, terms), columns = x.shape, y.shape[1]
    numbers, bounds = np.arange(rows), _bounds(columns)
    target, biases = y.reshape(-1), np.zeros(columns, np.float32) if bias is None else bias
    _multiply(
        len(bounds) - 1, target, target if ended is None else ended.reshape(-1), x.reshape(-1), weight.reshape(-1),
        biases, blocks, numbers * terms, np.arange(terms), numbers * columns, np.array([terms, columns, transposed]),
        function, np.float32(alpha), bounds, parallel=2 * rows * weight.size > SMALL,
    )  # fmt: skip


@njit(forceinline=True)
def _turn(block, weight, start, pitch, count):
    """Rows of the weight, so many values of each, as the columns of a block."""
    whole = count // WIDTH * WIDTH
    for column in range(0, FILTERS, WIDTH):
        for i in range(0, whole, WIDTH):
            turn(block, i * FILTERS + column, FILTERS, weight, start + column * pitch + i, pitch)
    for i in range(whole, count):
        for column in range(FILTERS):
            put(block, i * FILTERS + column, at(weight, start + column * pitch + i))


@tasks
def _multiply(part, y, ended, x, weight, bias, blocks, cells, steps, places, shape, function, alpha, bounds):
    """Some columns of the result."""
    terms, columns, transposed, rows, block = shape[0], shape[1], shape[2], cells.shape[0], blocks[part]
    first, last = bounds[part], bounds[part + 1]
    for r in range(rows):
        copy(y, places[r] + first, bias, first, last - first)
    deep, across = (terms + _BLOCK - 1) // _BLOCK, (last - first) // FILTERS
    for piece in range(deep * across):  # in the order in which the matrix lies in memory
        k, panel = (piece % deep, piece // deep) if transposed else (piece // across, piece % across)
        begin, j = k * _BLOCK, first + panel * FILTERS
        end = min(terms, begin + _BLOCK)
        if transposed:
            _turn(block, weight, j * terms + begin, terms, end - begin)
        else:
            for i in range(begin, end):
                copy(block, (i - begin) * FILTERS, weight, i * columns + j, FILTERS)
        for r in range(0, rows, ROWS):
            add_large(x, 0, cells, r, steps, begin, end, block, 0, FILTERS, y, j, places, r)
    if function:
        for r in range(rows):
            o = places[r] + first
            call(function, ended, o, y, o, y, o, last - first, alpha)
