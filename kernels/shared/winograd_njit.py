"""Convolutions by 3 × 3 filters with 16 multiplications for 4 results instead of 36: F(2×2, 3×3) of
Winograd's minimal filtering (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
2016).

    y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A        for a tile of 2 × 2 results and the 4 × 4 cells d that it sees

    Bᵀ = [1  0 -1  0]    G = [1   0   0]    Aᵀ = [1  1  1  0]
         [0  1  1  0]        [½   ½   ½]         [0  1 -1 -1]
         [0 -1  1  0]        [½  -½   ½]
         [0  1  0 -1]        [0   0   1]

For each of the 16 places of a tile, the sum over channels is a product of matrices, tiles by
channels by filters, in registers (`tile_njit`). The factors are 0, ±½ and ±1, so small integers stay
exact, and rounding errors grow little. The gradient of the input is the same with the filters
turned around, that of the weight its adjoint: Gᵀ [ Σ (Bᵀ d B) ⊙ (A dy Aᵀ) ] G.

Work: 2 · 4 · y.size · channels, 4/9 of the definition's, and about 50 additions for each tile and
channel or filter. Traffic: image and result once; transformed tiles stay in the second-level cache.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.njit import njit
from gpucnn.devices.recorders import prepared
from gpucnn.devices.team import tasks
from gpucnn.dispatch.case import Spec

from .epilogue_njit import call
from .implicit_gemm_njit import (
    FLOAT32,
    NAN,
    NO_INDEX,
    SMALL,
    Matrix,
    Part,
    fill_panels,
    panels_of,
    place,
    pool,
    split_with_panels,
    table_of,
)
from .simd_njit import copy
from .slices_launch import apart
from .tile_njit import FILTERS, HALF, ROWS, WIDTH, add_products, products
from .winograd_transforms_njit import OF_CELLS, OF_FILTER, OF_FILTER_SUMS, OF_GRADIENT, OF_SUMS, transform

PLACES = 16
"""Places of a tile of 4 × 4."""

_BIAS = 5
"""The place whose sum reaches all 2 × 2 results unchanged: a bias is added there."""

_LEAST = 16
"""Channels and filters from which on the errors of a whole tile are small against the sum behind
each of its values, even where most taps meet padding."""

_VALUES = 8192
"""Channels and filters of all tiles in work at a time."""
_FEWEST = 32
"""Tiles in work at a time, if images are small enough."""
_FEWEST_CHANNELS, _FEWEST_TILES, _MOST_WASTE = 32, 32, 1.5
"""Where it is faster, as measured: from so many channels and filters on, with so many tiles in work at a
time, since the filters take 16/9 of the memory, and up to so many results computed for each that is
needed."""
_LARGE = 1 << 15
"""Floats from which on a second thread is worth while for copies."""
_TILES = 256
"""The fewest tiles of a slice with its own sums."""


class Tiles(NamedTuple):
    """The tiles of 2 × 2 results of some images that lie one after another.

    rows      start of each row of an image in the padded one, in floats
    size      floats in a padded image
    line      floats from one row of it to the next
    cells     where each tile starts in the padded images
    results   where the result of each tile starts, in pixels of the result; if that is pooled, where it is
    heights   rows of the result in each tile: 1 or 2
    widths    columns, likewise
    count     tiles of one image
    several   images
    """

    rows: np.ndarray
    size: int
    line: int
    cells: np.ndarray
    results: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    count: int
    several: int


@lru_cache(256)
def tiles_of(height: int, width: int, channels: int, padding: Any, images: int, pooled: bool = False) -> Tiles:
    """The tiles of images of this size in a batch; those of pooled results are their windows of 2 × 2."""
    (top, bottom), (left, right) = padding
    P, Q = height + top + bottom - 2, width + left + right - 2
    down, across = (P // 2, Q // 2) if pooled else (-(-P // 2), -(-Q // 2))
    line, count = (2 * max(across, -(-Q // 2)) + 2) * channels, down * across
    size = (2 * max(down, -(-P // 2)) + 2) * line
    several = max(1, min(images // len(threads.slices(images)), _FEWEST // count))
    numbers = np.arange(several)[:, None, None]
    p, q = 2 * np.arange(down)[:, None], 2 * np.arange(across)
    shape = several, down, across
    places = numbers * count + np.arange(count).reshape(down, across) if pooled else numbers * P * Q + p * Q + q
    return Tiles(
        rows=(np.arange(height) + top) * line + left * channels,
        size=size,
        line=line,
        cells=(numbers * size + p * line + q * channels).ravel(),
        results=places.ravel(),
        heights=np.broadcast_to(np.minimum(P - p, 2), shape).ravel(),
        widths=np.broadcast_to(np.minimum(Q - q, 2), shape).ravel(),
        count=count,
        several=several,
    )


def _columns(channels: int) -> int:
    """Channels filled up to whole vectors."""
    return -(-channels // WIDTH) * WIDTH


def _block(channels: int, filters: int) -> int:
    """Tiles in work at a time: their transforms stay in the second-level cache."""
    return max(16, min(128, _VALUES // (channels + filters) // ROWS * ROWS))


def _pitch(block: int, channels: int) -> int:
    """Floats from one place of the tiles to the next: not a power of two, which would lie in one set
    of the cache."""
    return block * _columns(channels) + WIDTH


def supports(
    one: Spec, channels: Any, kernel_size: Any, *, strides: Any, padding: Any, dilation: Any, groups: int = 1
) -> bool:
    """Whether a convolution of an array has these filters, and channels and filters enough."""
    near = max(max(pads) for pads in padding) <= 2 and min(channels) >= _LEAST
    return (
        one.dtype == FLOAT32 and (tuple(kernel_size), strides, dilation, groups) == ((3, 3), (1, 1), (1, 1), 1) and near
    )


def pays(channels: int, filters: int, tiles: Tiles) -> bool:
    """Whether it is expected to be faster than the products of the definition: not with few channels or
    tiles, where the transforms weigh more, and not where tiles reach far beyond the image."""
    computed, results = 4 * tiles.count, int((tiles.heights * tiles.widths).sum()) // tiles.several
    many = min(channels, filters) >= _FEWEST_CHANNELS and tiles.count * tiles.several >= _FEWEST_TILES
    return many and computed <= _MOST_WASTE * results


def _shares(images: int, channels: int, filters: int, tiles: Tiles) -> tuple[list[Part], int]:
    return split_with_panels(images, tiles.count // _block(channels, filters), panels_of(filters))


def workspace(images: int, channels: int, filters: int, tiles: Tiles) -> tuple[Spec, ...]:
    """For `convolve`: panels of filters, these transformed, and for each part of the work padded
    images and a tile of results, the transforms, and the products."""
    panels, block = panels_of(filters), _block(channels, filters)
    parts = len(_shares(images, channels, filters, tiles)[0])
    return (
        Spec((panels, 9 * channels + 1, FILTERS), FLOAT32),
        Spec((PLACES, panels, channels + 1, FILTERS), FLOAT32),
        Spec((parts, apart(tiles.size * tiles.several + WIDTH + 4 * FILTERS)), FLOAT32),
        Spec((parts, PLACES, _pitch(block, channels)), FLOAT32),
        Spec((parts, PLACES, _pitch(block, filters)), FLOAT32),
    )


def convolve(
    y: np.ndarray,
    images: np.ndarray,
    matrix: Matrix,
    tiles: Tiles,
    panels: np.ndarray,
    transformed: np.ndarray,
    scratch: np.ndarray,
    cells: np.ndarray,
    sums: np.ndarray,
    *,
    bias: np.ndarray | None = None,
    index: np.ndarray = NO_INDEX,
    relu: bool = False,
    ended: np.ndarray | None = None,
    function: int = 0,
    alpha: float = 0.0,
) -> None:
    """y (N, P, Q, K) = function(images (N, H, W, C) by filters (9 · C, K) + bias (K,)).

    Of pooled tiles, y has the largest of each, and index (uint8, like y) says which that was, as in
    `implicit_gemm_njit.product`; `relu` is for these alone.

    `function` is what `epilogue_njit.end` returns; what it is applied to is kept in `ended`, like y,
    if that is given.
    """
    channels, filters, block = images.shape[-1], y.shape[-1], _block(images.shape[-1], y.shape[-1])
    with prepared(transformed, matrix.values, bias) as transformed:
        flat_panels, flat = fill_panels(panels, matrix, bias, filters), transformed.reshape(-1)
        _transform_filters(len(panels), flat, flat_panels, channels, len(panels), parallel=flat.size > _LARGE)
    width = _columns(filters)
    parts, shares = _shares(len(images), channels, filters, tiles)
    shape = np.array([
        images.shape[2] * channels, tiles.size, tiles.line, tiles.count, tiles.several, channels, filters, block,
        y.shape[2], y.size // len(y), shares, index is not NO_INDEX, relu,
    ])  # fmt: skip
    offsets, places, steps = np.arange(block) * _columns(channels), np.arange(block) * width, np.arange(channels)
    target, source = y.reshape(-1), images.reshape(-1)
    kept = target if ended is None else ended.reshape(-1)
    _convolve(
        len(parts), target, kept, index.reshape(-1), source, flat, scratch, cells.reshape(len(parts), -1),
        sums.reshape(len(parts), -1), tiles.rows, tiles.cells, tiles.results, tiles.heights, tiles.widths, offsets,
        steps, places, shape, function, np.float32(alpha), table_of(parts),
        parallel=2 * PLACES * len(images) * tiles.count * filters * channels > SMALL,
    )  # fmt: skip


@tasks
def _transform_filters(panel, transformed, panels, channels, count):
    """G g Gᵀ for one panel, below the bias at the place that adds it to every result, and zeros
    elsewhere."""
    size, length = count * (channels + 1) * FILTERS, channels * FILTERS
    for p in range(PLACES):
        first = p * size + panel * (channels + 1) * FILTERS
        transformed[first : first + FILTERS] = np.float32(0)
    copy(
        transformed,
        _BIAS * size + panel * (channels + 1) * FILTERS,
        panels,
        panel * (9 * channels + 1) * FILTERS,
        FILTERS,
    )
    for c in range(channels):
        for k in range(0, FILTERS, WIDTH):
            start = (panel * (9 * channels + 1) + 1 + c) * FILTERS + k
            to = (panel * (channels + 1) + 1 + c) * FILTERS + k
            transform(OF_FILTER, panels, start, 3 * length, length, transformed, to, 4 * size, size, 0, 0, 0)


@tasks
def _convolve(
    number, y, ended, index, images, filters_, scratches, all_cells, all_sums, rows, starts, results, heights, widths,
    offsets, steps, places, shape, function, alpha, table
):  # fmt: skip
    """Of the images first … last - 1 of a batch, a part of the tiles, or of their filters."""
    first, last, part, parts = table[number, 0], table[number, 1], table[number, 2], table[number, 3]
    scratch, cells, sums = scratches[number], all_cells[number], all_sums[number]
    image_line, size, line, count, several, channels, filters, block = _extents(shape)
    columns, outputs, shares, pooled, relu = shape[8], shape[9], shape[10], shape[11], shape[12]
    cell_width, width = (channels + WIDTH - 1) // WIDTH * WIDTH, (filters + WIDTH - 1) // WIDTH * WIDTH
    cell_pitch, pitch = block * cell_width + WIDTH, block * width + WIDTH
    panels, window = (filters + FILTERS - 1) // FILTERS, scratch.shape[0] - 4 * FILTERS
    scratch[:] = np.float32(0)
    for n in range(first, last, several):
        place(scratch, images, rows, n, min(several, last - n), size, image_line, 1)
        total = count * min(several, last - n)
        pieces = (total + block - 1) // block * shares
        for piece in range(pieces * part // parts, pieces * (part + 1) // parts):
            begin, share = piece // shares * block, piece % shares
            tiles = min(block, total - begin)
            for t in range(tiles):
                for c in range(0, channels, WIDTH):
                    transform(
                        OF_CELLS, scratch, starts[begin + t] + c, line, channels, cells, t * cell_width + c,
                        4 * cell_pitch, cell_pitch, 0, 0, 0,
                    )  # fmt: skip
            from_panel, to_panel = panels * share // shares, panels * (share + 1) // shares
            for p in range(PLACES):
                for panel in range(from_panel, to_panel):
                    i = 0
                    while i < tiles:
                        large = tiles - i > HALF
                        products(
                            large, min(FILTERS, width - panel * FILTERS), cells, p * cell_pitch, offsets, i,
                            steps, filters_, (p * panels + panel) * (channels + 1) * FILTERS, FILTERS, NAN, sums,
                            p * pitch + panel * FILTERS, places, i,
                        )  # fmt: skip
                        i += ROWS if large else HALF
            column, end = from_panel * FILTERS, min(to_panel * FILTERS, filters)
            for t in range(tiles):
                o = n * outputs + results[begin + t] * filters
                if pooled:
                    for k in range(column, end, WIDTH):
                        transform(
                            OF_SUMS, sums, t * width + k, 4 * pitch, pitch, scratch, window, 2 * FILTERS, FILTERS, 2, 2,
                            WIDTH,
                        )  # fmt: skip
                        pool(ended, index, scratch, window, o + k, filters, 1, min(WIDTH, end - k), relu)
                    if function:
                        call(function, y, o + column, ended, o + column, ended, o + column, end - column, alpha)
                    continue
                for k in range(column, end, WIDTH):
                    transform(
                        OF_SUMS, sums, t * width + k, 4 * pitch, pitch, ended, o + k, columns * filters, filters,
                        heights[begin + t], widths[begin + t], min(WIDTH, filters - k),
                    )  # fmt: skip
                if function:
                    pixels = widths[begin + t] if shares == 1 else 1
                    for row in range(heights[begin + t]):
                        for q in range(0, widths[begin + t], pixels):
                            r = o + (row * columns + q) * filters + column
                            call(function, y, r, ended, r, ended, r, pixels * (end - column), alpha)


def transposed_workspace(images: int, channels: int, filters: int, tiles: Tiles) -> tuple[Spec, ...]:
    """For `correlate`: for each slice of the batch the sums, padded images, and the transforms."""
    slices, block = len(_bounds(images, tiles)) - 1, _block(channels, filters)
    return (
        Spec((slices, PLACES, _rows(channels), _columns(filters)), FLOAT32),
        Spec((slices, apart(tiles.size * tiles.several + WIDTH)), FLOAT32),
        Spec((slices, PLACES, _pitch(block, channels)), FLOAT32),
        Spec((slices, PLACES, _pitch(block, filters)), FLOAT32),
    )


def _rows(channels: int) -> int:
    """Channels filled up to whole tiles of sums."""
    return -(-channels // HALF) * HALF


def _bounds(images: int, tiles: Tiles) -> np.ndarray:
    """Those of slices: clearing and joining the sums of one takes little of the time for so many tiles."""
    return threads.bounds(images, -(-_TILES // tiles.count))


def correlate(
    dweight: np.ndarray,
    dy: np.ndarray,
    images: np.ndarray,
    tiles: Tiles,
    sums: np.ndarray,
    scratch: np.ndarray,
    cells: np.ndarray,
    gradients: np.ndarray,
) -> None:
    """dweight (3, 3, C, K) from dy (N, P, Q, K) and images (N, H, W, C); the sums of the slices are
    added in order."""
    channels, filters, block = images.shape[-1], dy.shape[-1], _block(images.shape[-1], dy.shape[-1])
    shape = np.array([
        images.shape[2] * channels, tiles.size, tiles.line, tiles.count, tiles.several, channels, filters, block,
        dy.shape[2], dy.size // len(dy),
    ])  # fmt: skip
    steps = np.arange(block) * _columns(channels)
    offsets, places = np.arange(sums.shape[2]), np.arange(sums.shape[2]) * sums.shape[3]
    gradient, source = dy.reshape(-1), images.reshape(-1)
    count, flat = len(sums), sums.reshape(len(sums), -1)
    _correlate(
        count, flat, gradient, source, scratch, cells.reshape(count, -1), gradients.reshape(count, -1), tiles.rows,
        tiles.cells, tiles.results, tiles.heights, tiles.widths, offsets, steps, places, shape,
        _bounds(len(images), tiles), parallel=8 * dy.size * channels > SMALL,
    )  # fmt: skip
    parts = threads.bounds(channels, ROWS)
    _join(
        len(parts) - 1, dweight.reshape(-1), flat, channels, filters, sums.shape[2], sums.shape[3], parts,
        parallel=sums.size > _LARGE,
    )  # fmt: skip


@tasks
def _correlate(
    i, all_sums, dy, images, scratches, all_cells, all_gradients, rows, starts, results, heights, widths, offsets,
    steps, places, shape, bounds
):  # fmt: skip
    """sums (16, C, K) over a slice of the images."""
    first, last = bounds[i], bounds[i + 1]
    sums, scratch, cells, gradients = all_sums[i], scratches[i], all_cells[i], all_gradients[i]
    image_line, size, line, count, several, channels, filters, block = _extents(shape)
    columns, outputs = shape[8], shape[9]
    cell_width, width = (channels + WIDTH - 1) // WIDTH * WIDTH, (filters + WIDTH - 1) // WIDTH * WIDTH
    cell_pitch, pitch = block * cell_width + WIDTH, block * width + WIDTH
    panels = (filters + FILTERS - 1) // FILTERS
    scratch[:] = np.float32(0)
    sums[:] = np.float32(0)
    for n in range(first, last, several):
        place(scratch, images, rows, n, min(several, last - n), size, image_line, 1)
        total = count * min(several, last - n)
        for begin in range(0, total, block):
            tiles = min(block, total - begin)
            for t in range(tiles):
                for c in range(0, channels, WIDTH):
                    transform(
                        OF_CELLS, scratch, starts[begin + t] + c, line, channels, cells, t * cell_width + c,
                        4 * cell_pitch, cell_pitch, 0, 0, 0,
                    )  # fmt: skip
                for k in range(0, filters, WIDTH):
                    transform(
                        OF_GRADIENT, dy, n * outputs + results[begin + t] * filters + k, columns * filters, filters,
                        gradients, t * width + k, 4 * pitch, pitch, heights[begin + t],
                        widths[begin + t], min(WIDTH, filters - k),
                    )  # fmt: skip
            for p in range(PLACES):
                for panel in range(panels):
                    c = 0
                    while c < channels:
                        large = channels - c > HALF
                        add_products(
                            large, width - panel * FILTERS > WIDTH, cells, p * cell_pitch, offsets, c, steps, 0,
                            tiles, gradients, p * pitch + panel * FILTERS, width, sums,
                            p * places.shape[0] * width + panel * FILTERS, places, c,
                        )  # fmt: skip
                        c += ROWS if large else HALF


@tasks
def _join(part, dweight, sums, channels, filters, rows, width, bounds):
    """Some channels of dweight: Gᵀ u G of the sums of all slices, added in order."""
    first, last = bounds[part], bounds[part + 1]
    for p in range(PLACES):
        for j in range((p * rows + first) * width, (p * rows + last) * width):
            for i in range(1, sums.shape[0]):
                sums[0, j] += sums[i, j]
    total, length = sums[0], channels * filters
    for c in range(first, last):
        for k in range(0, filters, WIDTH):
            transform(
                OF_FILTER_SUMS, total, c * width + k, 4 * rows * width, rows * width, dweight, c * filters + k,
                3 * length, length, 3, 3, min(WIDTH, filters - k),
            )  # fmt: skip


@njit(inline="always")
def _extents(shape):
    return shape[0], shape[1], shape[2], shape[3], shape[4], shape[5], shape[6], shape[7]
