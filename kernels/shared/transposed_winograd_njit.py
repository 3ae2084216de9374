"""The gradient of a convolution's filters by the transposed transforms of `winograd_njit`:

    dw = Gᵀ [ Σ over tiles of (Bᵀ d B) ⊙ (A dy Aᵀ) ] G

For each place of a tile, the sum over tiles is a product of matrices, channels by tiles by filters,
in registers. Each slice of the batch has its own sums, which are added in order.

Work: 2 · places / (results of a tile) · y.size · channels. Traffic: image and gradient once; the sums of all
places once for each block of tiles.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.team import tasks
from gpucnn.dispatch.case import Spec

from .implicit_gemm_njit import FLOAT32, LARGE, SMALL, place
from .slices_launch import apart
from .tile_njit import FILTERS, HALF, ROWS, WIDTH, add_products
from .winograd_njit import extents, extents_of_tiles, shape_of
from .winograd_tiles import Tiles, columns_of
from .winograd_transforms_njit import Transform, address, transform

_TILES, _MOST_SUMS = 100, 1 << 22
"""The fewest tiles of a slice with its own sums, and the most sums of all slices if these are more than two."""


def transposed_workspace(images: int, channels: int, filters: int, tiles: Tiles) -> tuple[Spec, ...]:
    """For `correlate`: for each slice of the batch the sums, padded images, transformed columns of cells and
    gradients, and a row of places of each."""
    slices, across = len(_bounds(images, channels * filters, tiles)) - 1, tiles.axes[1]
    return (
        Spec((slices, tiles.places, _rows(channels), columns_of(filters)), FLOAT32),
        Spec((slices, apart(tiles.size * tiles.several + WIDTH)), FLOAT32),
        tiles.columns(slices, across.cells, channels),
        tiles.row_of_places(slices, channels),
        tiles.columns(slices, across.results, filters),
        tiles.row_of_places(slices, filters),
    )


def _rows(channels: int) -> int:
    """Channels filled up to whole tiles of sums."""
    return -(-channels // HALF) * HALF


def _bounds(images: int, products: int, tiles: Tiles) -> np.ndarray:
    """Those of slices: clearing and joining the sums of one takes little of the time for so many tiles."""
    most = max(2, _MOST_SUMS // (products * tiles.places))
    return threads.bounds(images, max(-(-_TILES // tiles.count), -(-images // most)))


def correlate(
    dweight: np.ndarray,
    dy: np.ndarray,
    images: np.ndarray,
    tiles: Tiles,
    sums: np.ndarray,
    scratch: np.ndarray,
    columns_of_cells: np.ndarray,
    cells: np.ndarray,
    columns_of_gradients: np.ndarray,
    gradients: np.ndarray,
) -> None:
    """dweight (R, S, C, K) from dy (N, P, Q, K) and images (N, H, W, C); the sums of the slices are
    added in order."""
    channels, filters = images.shape[-1], dy.shape[-1]
    down, across = tiles.axes
    steps = np.arange(tiles.block) * columns_of(channels)
    offsets, places = np.arange(sums.shape[2]), np.arange(sums.shape[2]) * sums.shape[3]
    gradient, source = dy.reshape(-1), images.reshape(-1)
    count, flat = len(sums), sums.reshape(len(sums), -1)
    _correlate(
        count, flat, gradient, source, scratch, columns_of_cells.reshape(count, -1), cells.reshape(count, -1),
        columns_of_gradients.reshape(count, -1), gradients.reshape(count, -1), tiles.rows, tiles.cells, tiles.results,
        tiles.heights, tiles.widths, offsets, steps, places, shape_of(images, dy.shape[1:], tiles),
        tiles.transforms(Transform.CELLS), tiles.transforms(Transform.GRADIENT),
        _bounds(len(images), channels * filters, tiles), parallel=tiles.flops(len(images), channels, filters) > SMALL,
    )  # fmt: skip
    parts = threads.bounds(channels, ROWS)
    _join(
        len(parts) - 1, dweight.reshape(-1), flat, channels, filters, sums.shape[2], sums.shape[3], down.taps,
        across.taps, down.places, across.places, address(Transform.FILTER_SUMS, down, across), parts,
        parallel=sums.size > LARGE,
    )  # fmt: skip


@tasks
def _correlate(
    i, all_sums, dy, images, scratches, all_columns, all_cells, all_columns_of_gradients, all_gradients, rows, starts,
    pixels, heights, widths, offsets, steps, places, shape, of_cells, of_gradient, bounds
):  # fmt: skip
    """sums (places, C, K) over a slice of the images."""
    first, last = bounds[i], bounds[i + 1]
    sums, scratch, cells, gradients = all_sums[i], scratches[i], all_cells[i], all_gradients[i]
    columns_of_cells, columns_of_gradients = all_columns[i], all_columns_of_gradients[i]
    image_line, size, line, count, several, channels, filters, block = extents(shape)
    whole, down, across, seen, _, tile_columns, columns, outputs = extents_of_tiles(shape)
    cell_width, width = (channels + WIDTH - 1) // WIDTH * WIDTH, (filters + WIDTH - 1) // WIDTH * WIDTH
    cell_pitch, pitch = block * cell_width + WIDTH, block * width + WIDTH
    columns_pitch, gradients_pitch = block * seen * cell_width + WIDTH, block * tile_columns * width + WIDTH
    if whole:  # all places in one pass
        seen, passes, each, early, early_pitch = 1, 1, down * across, cells, across * cell_pitch
        of_dy, dy_columns, dy_pitch = gradients, 1, across * pitch
    else:
        passes, each, early, early_pitch = down, across, columns_of_cells, columns_pitch
        of_dy, dy_columns, dy_pitch = columns_of_gradients, tile_columns, gradients_pitch
    panels = (filters + FILTERS - 1) // FILTERS
    scratch[:] = np.float32(0)
    sums[:] = np.float32(0)
    for n in range(first, last, several):
        place(scratch, images, rows, n, min(several, last - n), size, image_line, 1)
        total = count * min(several, last - n)
        for begin in range(0, total, block):
            tiles = min(block, total - begin)
            for t in range(tiles):
                transform(
                    of_cells[0], scratch, starts[begin + t], line, channels, channels, early, t * seen * cell_width,
                    early_pitch, cell_pitch, cell_width, seen, 0, 0, channels,
                )  # fmt: skip
                o, to, few = n * outputs + pixels[begin + t] * filters, t * dy_columns * width, widths[begin + t]
                inside = min(few, dy_columns)
                transform(
                    of_gradient[0], dy, o, columns * filters, filters, filters, of_dy, to, dy_pitch, pitch, width,
                    inside, heights[begin + t], few, filters,
                )  # fmt: skip
                transform(
                    of_gradient[0], dy, o, 0, 0, 0, of_dy, to + inside * width, dy_pitch, pitch, width,
                    dy_columns - inside, 0, 0, filters,
                )  # fmt: skip
            for row in range(passes):
                if not whole:
                    transform(
                        of_cells[1], columns_of_cells, row * columns_pitch, 0, cell_width, seen * cell_width, cells, 0,
                        0, cell_pitch, cell_width, tiles, 0, 0, channels,
                    )  # fmt: skip
                    transform(
                        of_gradient[1], columns_of_gradients, row * gradients_pitch, 0, width, tile_columns * width,
                        gradients, 0, 0, pitch, width, tiles, 0, 0, filters,
                    )  # fmt: skip
                for p in range(each):
                    for panel in range(panels):
                        c = 0
                        while c < channels:
                            large = channels - c > HALF
                            add_products(
                                large, width - panel * FILTERS > WIDTH, cells, p * cell_pitch, offsets, c, steps, 0,
                                tiles, gradients, p * pitch + panel * FILTERS, width, sums,
                                (row * each + p) * places.shape[0] * width + panel * FILTERS, places, c,
                            )  # fmt: skip
                            c += ROWS if large else HALF


@tasks
def _join(part, dweight, sums, channels, filters, rows, width, R, S, down, across, of_filter, bounds):
    """Some channels of dweight: Gᵀ u G of the sums of all slices, added in order."""
    first, last = bounds[part], bounds[part + 1]
    for p in range(down * across):
        for j in range((p * rows + first) * width, (p * rows + last) * width):
            for i in range(1, sums.shape[0]):
                sums[0, j] += sums[i, j]
    pitch, length = rows * width, channels * filters
    transform(
        of_filter, sums[0], first * width, across * pitch, pitch, width, dweight, first * filters, S * length, length,
        filters, last - first, R, S, filters,
    )  # fmt: skip
