"""Convolutions by filters of 2 to 7 taps an axis with a third to a half of the multiplications: Winograd's
minimal filtering (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016).

    y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A        for a tile of results and the cells d that it sees

`winograd_matrices` has the matrices. For each place of a tile, the sum over channels is a product of
matrices, tiles by channels by filters, in registers (`tile_njit`). The gradient of the input is the same
with the filters turned around, that of the weight in `transposed_winograd_njit`.

All columns of some tiles are transformed first (Bᵀ d), and all columns of results last. In between, one
row of places after another has its rows transformed, multiplied and transformed back, so that a product
finds them in the first-level cache and the rest stays in the second-level one. Tiles of few places are
transformed at once instead, since they fit the registers.

| filter | results of a tile | places | multiplications of the definition for each |
|---|---|---|---|
| 2 × 2 | 2 × 2 | 9 | 1.8 |
| 3 × 3 | 2 × 2 | 16 | 2.3 |
| 3 × 3 | 4 × 4 | 49 | 2.9 |
| 5 × 5 | 2 × 2 | 49 | 2.0 |
| 5 × 5 | 4 × 4 | 121 | 3.3 |
| 7 × 7 | 4 × 4 | 256 | 3.1 |

Work: 2 · places / (results of a tile) · y.size · channels, and 20 to 30 additions for each result and
channel or filter. Traffic: image and result once.
"""

from __future__ import annotations

import math

import numpy as np

from gpucnn.devices.njit import njit
from gpucnn.devices.recorders import prepared
from gpucnn.devices.team import tasks
from gpucnn.dispatch.case import Spec

from .epilogue_njit import call
from .implicit_gemm_njit import (
    FLOAT32,
    LARGE,
    NAN,
    SMALL,
    Matrix,
    Part,
    fill_panels,
    in_work,
    panels_of,
    place,
    pool_rest,
    results_in_work,
    split_with_panels,
    table_of,
)
from .pooled_tile_njit import pool_four
from .pooling_njit import FUNCTION, NO_INDEX, Pooling, first_result, pool_images
from .simd_njit import copy
from .slices_launch import apart
from .tile_njit import FILTERS, HALF, ROWS, WIDTH, products
from .winograd_tiles import Tiles, columns_of
from .winograd_transforms_njit import Transform, address, transform


def _shares(images: int, channels: int, filters: int, tiles: Tiles) -> tuple[list[Part], int]:
    return split_with_panels(images, tiles.count // tiles.block, panels_of(filters), tiles.several)


def workspace(images: int, channels: int, filters: int, tiles: Tiles) -> tuple[Spec, ...]:
    """For `convolve`: panels of filters, these transformed, and for each part of the work padded images
    and a tile of results, transformed columns of cells, a row of places of these, of their sums, and
    columns of results."""
    panels, (down, across) = panels_of(filters), tiles.axes
    parts = len(_shares(images, channels, filters, tiles)[0])
    image = tiles.size * tiles.several + WIDTH + down.results * across.results * FILTERS
    return (
        Spec((panels, tiles.taps * channels + 1, FILTERS), FLOAT32),
        Spec((tiles.places, panels, channels + 1, FILTERS), FLOAT32),
        Spec((parts, apart(image)), FLOAT32),
        tiles.columns(parts, across.cells, channels),
        tiles.row_of_places(parts, channels),
        tiles.row_of_places(parts, filters),
        tiles.columns(parts, across.results, filters),
    )


def pooled_workspace(
    images: int, channels: int, filters: int, tiles: Tiles, results: tuple[int, ...]
) -> tuple[Spec, ...]:
    """For `convolve` with `pooling`: the same, and the results (rows, columns, filters) of some images."""
    parts, _ = _shares(images, channels, filters, tiles)
    return (
        *workspace(images, channels, filters, tiles),
        results_in_work(parts, images, tiles.several, math.prod(results)),
    )


def convolve(
    y: np.ndarray,
    images: np.ndarray,
    matrix: Matrix,
    tiles: Tiles,
    panels: np.ndarray,
    transformed: np.ndarray,
    scratch: np.ndarray,
    columns: np.ndarray,
    cells: np.ndarray,
    sums: np.ndarray,
    results: np.ndarray,
    *,
    bias: np.ndarray | None = None,
    index: np.ndarray = NO_INDEX,
    relu: bool = False,
    ended: np.ndarray | None = None,
    function: int = 0,
    alpha: float = 0.0,
    pooling: Pooling | None = None,
) -> None:
    """y (N, P, Q, K) = function(images (N, H, W, C) by filters (R · S · C, K) + bias (K,)).

    Of pooled tiles, y has the largest of each, and index (uint8, like y) says which that was, as in
    `implicit_gemm_njit.product`; `relu` is for these alone.

    `function` is what `epilogue_njit.end` returns; what it is applied to is kept in `ended`, like y,
    if that is given. With `pooling`, the results are pooled, as in `implicit_gemm_njit.product`.
    """
    results_of_one = y.shape[1:] if pooling is None else pooling.extents
    channels, filters = images.shape[-1], results_of_one[-1]
    down, across = tiles.axes
    with prepared(transformed, matrix.values, bias) as transformed:
        flat_panels, flat = fill_panels(panels, matrix, bias, filters), transformed.reshape(-1)
        _transform_filters(
            len(panels), flat, flat_panels, channels, len(panels), down.taps, across.taps, down.places, across.places,
            down.one * across.places + across.one, address(Transform.FILTER, down, across),
            parallel=flat.size > LARGE,
        )  # fmt: skip
    parts, shares = _shares(len(images), channels, filters, tiles)
    shape = shape_of(images, results_of_one, tiles, shares, index is not NO_INDEX, relu, tiles.in_row)
    pooled, index, numbers = in_work(pooling, parts, y, index.reshape(-1))
    offsets, places = np.arange(tiles.block) * columns_of(channels), np.arange(tiles.block) * columns_of(filters)
    target, source, count = y.reshape(-1), images.reshape(-1), len(parts)
    kept = target if ended is None else ended.reshape(-1)
    _convolve(
        count, target, kept, index, source, flat, scratch, columns.reshape(count, -1),
        cells.reshape(count, -1), sums.reshape(count, -1), results.reshape(count, -1), tiles.rows, tiles.cells,
        tiles.results, tiles.heights, tiles.widths, offsets, np.arange(channels), places, shape,
        tiles.transforms(Transform.CELLS), tiles.transforms(Transform.RESULTS), function, np.float32(alpha),
        table_of(parts), pooled, numbers, parallel=tiles.flops(len(images), channels, filters) > SMALL,
    )  # fmt: skip
    pool_rest(pooling, parts, y, alpha)


@tasks
def _transform_filters(panel, transformed, panels, channels, count, R, S, down, across, one, of_filter):
    """G g Gᵀ for one panel, below the bias at the place whose sum reaches all results of a tile, and zeros
    elsewhere."""
    size, length = count * (channels + 1) * FILTERS, channels * FILTERS
    to, source = panel * (channels + 1) * FILTERS, panel * (R * S * channels + 1) * FILTERS
    for p in range(down * across):
        transformed[p * size + to : p * size + to + FILTERS] = np.float32(0)
    copy(transformed, one * size + to, panels, source, FILTERS)
    transform(
        of_filter, panels, source + FILTERS, S * length, length, FILTERS, transformed, to + FILTERS, across * size,
        size, FILTERS, channels, 0, 0, FILTERS,
    )  # fmt: skip


@tasks
def _convolve(
    number, y, ended, index, images, filters_, scratches, all_columns, all_cells, all_sums, all_results, rows, starts,
    pixels, heights, widths, offsets, steps, places, shape, of_cells, of_results, function, alpha, table, windows,
    numbers
):  # fmt: skip
    """Of the images first … last - 1 of a batch, a part of the tiles, or of their filters."""
    first, last, part, parts = table[number, 0], table[number, 1], table[number, 2], table[number, 3]
    scratch, cells, sums = scratches[number], all_cells[number], all_sums[number]
    columns_of_cells, columns_of_results = all_columns[number], all_results[number]
    image_line, size, line, count, several, channels, filters, block = extents(shape)
    whole, down, across, seen, tile_rows, tile_columns, columns, outputs = extents_of_tiles(shape)
    shares, pooled, relu, in_row = shape[16], shape[17], shape[18], shape[19]
    cell_width, width = (channels + WIDTH - 1) // WIDTH * WIDTH, (filters + WIDTH - 1) // WIDTH * WIDTH
    cell_pitch, pitch = block * cell_width + WIDTH, block * width + WIDTH
    columns_pitch, results_pitch = block * seen * cell_width + WIDTH, block * tile_columns * width + WIDTH
    if whole:  # all places in one pass
        seen, passes, each, step = 1, 1, down * across, tile_columns * channels
        early, early_pitch, late, late_width, late_pitch = cells, across * cell_pitch, sums, width, across * pitch
    else:
        passes, each, step, early, early_pitch = down, across, channels, columns_of_cells, columns_pitch
        late, late_width, late_pitch = columns_of_results, tile_columns * width, results_pitch
    panels = (filters + FILTERS - 1) // FILTERS
    window = scratch.shape[0] - tile_rows * tile_columns * FILTERS
    scratch[:] = np.float32(0)
    for n in range(first, last, several):
        at_once, start = min(several, last - n), first_result(numbers, number, n, outputs)
        place(scratch, images, rows, n, at_once, size, image_line, 1)
        total = count * at_once
        pieces = (total + block - 1) // block * shares
        for piece in range(pieces * part // parts, pieces * (part + 1) // parts):
            begin, share = piece // shares * block, piece % shares
            tiles = min(block, total - begin)
            rest = -tiles % HALF  # rows that the products of the last tiles read, too: denormal numbers are slow
            for p in range(each if rest else 0):
                beyond = p * cell_pitch + tiles * cell_width
                cells[beyond : beyond + rest * cell_width] = np.float32(0)
            t = 0
            while t < tiles:
                several_tiles = min(tiles - t, in_row - (begin + t) % in_row) if whole else 1
                transform(
                    of_cells[0], scratch, starts[begin + t], line, channels, step, early, t * seen * cell_width,
                    early_pitch, cell_pitch, cell_width, several_tiles * seen, 0, 0, channels,
                )  # fmt: skip
                t += several_tiles
            from_panel, to_panel = panels * share // shares, panels * (share + 1) // shares
            column, end = from_panel * FILTERS, min(to_panel * FILTERS, filters)
            for row in range(passes):
                if not whole:
                    transform(
                        of_cells[1], columns_of_cells, row * columns_pitch, 0, cell_width, seen * cell_width, cells, 0,
                        0, cell_pitch, cell_width, tiles, 0, 0, channels,
                    )  # fmt: skip
                for p in range(each):
                    for panel in range(from_panel, to_panel):
                        i = 0
                        while i < tiles:
                            large = tiles - i > HALF
                            products(
                                large, min(FILTERS, width - panel * FILTERS), cells, p * cell_pitch, offsets, i,
                                steps, filters_, ((row * each + p) * panels + panel) * (channels + 1) * FILTERS,
                                FILTERS, NAN, sums, p * pitch + panel * FILTERS, places, i,
                            )  # fmt: skip
                            i += ROWS if large else HALF
                if not whole:
                    transform(
                        of_results[1], sums, column, 0, pitch, width, columns_of_results, row * results_pitch + column,
                        0, width, tile_columns * width, tiles, 0, 0, end - column,
                    )  # fmt: skip
            for t in range(tiles):
                o, r = start + pixels[begin + t] * filters, t * late_width
                if pooled:
                    for k in range(column, end, FILTERS):
                        lanes = min(FILTERS, end - k)
                        transform(
                            of_results[0], late, r + k, late_pitch, pitch, width, scratch, window,
                            tile_columns * FILTERS, FILTERS, FILTERS, 1 if whole else tile_columns, tile_rows,
                            tile_columns, lanes,
                        )  # fmt: skip
                        for row in range(0, heights[begin + t], 2):
                            for q in range(0, widths[begin + t], 2):
                                at = window + (row * tile_columns + q) * FILTERS
                                to = o + (row // 2 * columns + q // 2) * filters + k
                                for f in range(0, lanes, WIDTH):
                                    pool_four(
                                        min(WIDTH, lanes - f), relu > 0, scratch, at + f, tile_columns * FILTERS,
                                        FILTERS, ended, index, to + f,
                                    )  # fmt: skip
                    if function:
                        for row in range(0, heights[begin + t], 2):
                            for q in range(0, widths[begin + t], 2):
                                r = o + (row // 2 * columns + q // 2) * filters + column
                                call(function, y, r, ended, r, ended, r, end - column, alpha)
                    continue
                transform(
                    of_results[0], late, r + column, late_pitch, pitch, width, ended, o + column, columns * filters,
                    filters, filters, 1 if whole else widths[begin + t], heights[begin + t], widths[begin + t],
                    end - column,
                )  # fmt: skip
                if function:
                    together = widths[begin + t] if shares == 1 else 1
                    for row in range(heights[begin + t]):
                        for q in range(0, widths[begin + t], together):
                            r = o + (row * columns + q) * filters + column
                            call(function, y, r, ended, r, ended, r, together * (end - column), alpha)
        if numbers[FUNCTION]:
            pool_images(windows, index, y, start, numbers, n, at_once, alpha)


def shape_of(images: np.ndarray, results: tuple[int, ...], tiles: Tiles, *more: int) -> np.ndarray:
    """The sizes that `extents` and `extents_of_tiles` take apart, and more behind them."""
    down, across = tiles.axes
    return np.array([
        images.shape[2] * images.shape[3], tiles.size, tiles.line, tiles.count, tiles.several, images.shape[3],
        results[2], tiles.block, tiles.whole, down.places, across.places, across.cells, down.results,
        across.results, results[1], math.prod(results), *more,
    ])  # fmt: skip


@njit(inline="always")
def extents(shape):
    return shape[0], shape[1], shape[2], shape[3], shape[4], shape[5], shape[6], shape[7]


@njit(inline="always")
def extents_of_tiles(shape):
    return shape[8], shape[9], shape[10], shape[11], shape[12], shape[13], shape[14], shape[15]
