"""Products with an image's transposed patches, which are never built either: the gradient of a
convolution's filters.

`transposed_product` multiplies the transposed patches by a gradient for each of them: a tile of
taps by filters stays in registers while the patches run by. `implicit_gemm_njit` has the other
product, and what both start from.

Work: 2 · patches · taps · filters. Traffic: image and gradient once; sums once per block of patches.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.team import tasks
from gpucnn.dispatch.case import Spec

from .implicit_gemm_njit import (
    BLOCK,
    FLOAT32,
    LARGE,
    SMALL,
    Part,
    extents,
    place,
    shape_of,
    split,
    table_of,
    together,
)
from .patches_njit import Patches
from .patches_njit import together as images_together
from .simd_njit import copy
from .slices_launch import apart
from .tile_njit import FILTERS, HALF, LINE, ROWS, WIDTH, add_products, prefetch

_PATCHES = 512
"""The fewest patches of a slice with its own sums."""


def _split_by_taps(images: int, table: Patches) -> list[Part]:
    """With so many patches in each slice, clearing and joining the sums takes little of the time."""
    return split(images, len(table.taps) // ROWS, -(-_PATCHES // table.count))


def transposed_workspace(images: int, filters: int, table: Patches, groups: int = 1) -> tuple[Spec, Spec, Spec]:
    """For `transposed_product`: the sums of each slice of the batch; for each part of the work a padded
    image and a gradient with room behind it."""
    parts, members = _split_by_taps(images, table), filters // groups
    ragged, several = members % WIDTH > 0, together(images, table)
    return (
        Spec((len(parts) // parts[0].parts, *_extents_of_sums(len(table.taps), filters, groups)), FLOAT32),
        Spec((len(parts), apart(table.size * table.padded * several)), FLOAT32),
        Spec((len(parts), apart((table.count * several * filters + WIDTH) * ragged)), FLOAT32),
    )


def _extents_of_sums(taps: int, filters: int, groups: int) -> tuple[int, int]:
    return -(-taps // HALF) * HALF, groups * -(-(filters // groups) // WIDTH) * WIDTH


def transposed_product(
    matrix: np.ndarray,
    dy: np.ndarray,
    images: np.ndarray,
    table: Patches,
    sums: np.ndarray,
    scratch: np.ndarray,
    behind: np.ndarray,
    groups: int = 1,
) -> None:
    """matrix (taps, K) = transposed patches of images · dy (N, …, K), within each group; the sums of
    the slices are added in order."""
    taps, filters = matrix.shape
    offsets = np.concatenate([table.taps, np.repeat(table.taps[-1:], -taps % HALF)])
    places = np.arange(len(offsets)) * sums.shape[2]
    several = together(len(images), table)
    pixels, _ = images_together(table, several, table.count, ROWS)
    shape = shape_of(images, table, several, groups, filters, BLOCK)
    gradient, source = dy.reshape(-1), images.reshape(-1)
    parts = _split_by_taps(len(images), table)
    flat_sums, bounds = sums.reshape(len(sums), -1), threads.bounds(taps)
    _transposed_tiles(
        len(parts), flat_sums, gradient, source, scratch, behind, table.rows, pixels, offsets, places, shape,
        table_of(parts), parallel=2 * dy.size * taps > SMALL,
    )  # fmt: skip
    _join(
        len(bounds) - 1, matrix.reshape(-1), flat_sums, filters // groups, groups, sums.shape[2], bounds,
        parallel=sums.size > LARGE,
    )  # fmt: skip


@tasks
def _transposed_tiles(i, all_sums, dy, images, scratches, copies, rows, pixels, taps, places, shape, table):
    """sums (taps, groups · vectors) over the images first … last - 1, for a part of the taps."""
    first, last, part, parts = table[i, 0], table[i, 1], table[i, 2], table[i, 3]
    sums, scratch, behind = all_sums[i // parts], scratches[i], copies[i]
    line, size, padded, cells, several, groups, channels = extents(shape)
    filters, block = shape[7], shape[8]
    members = filters // groups
    group_panels = (members + FILTERS - 1) // FILTERS
    group_width = (members + WIDTH - 1) // WIDTH * WIDTH
    source = images
    if padded:
        source = scratch
        scratch[:] = np.float32(0)
    if behind.shape[0]:
        behind[:] = np.float32(0)
    tiles = (taps.shape[0] + ROWS - 1) // ROWS
    begin_taps, end_taps = tiles * part // parts * ROWS, min(taps.shape[0], tiles * (part + 1) // parts * ROWS)
    sums[begin_taps * groups * group_width : end_taps * groups * group_width] = np.float32(0)
    for n in range(first, last, several):
        image = place(scratch, images, rows, n, min(several, last - n), size, line, padded)
        count, start = cells * min(several, last - n), n * cells * filters
        gradient = dy
        if behind.shape[0] and start + count * filters + WIDTH > dy.shape[0]:
            copy(behind, 0, dy, start, count * filters)
            gradient, start = behind, 0
        for begin in range(0, count, block):
            end = min(count, begin + block)
            for panel in range(groups * group_panels):
                group, column = panel // group_panels, FILTERS * (panel % group_panels)
                origin, to = image + group * channels, group * group_width + column
                k = start + begin * filters + group * members + column
                if panel == 0 and not padded:
                    for ahead in range(min(begin + block, count), min(end + block, count)):
                        for c in range(0, channels * groups, LINE):
                            prefetch(source, image + pixels[ahead] + c)
                t = begin_taps
                while t < end_taps:
                    large = t + ROWS <= end_taps
                    add_products(
                        large, members - column > WIDTH, source, origin, taps, t, pixels, begin, end, gradient,
                        k, filters, sums, to, places, t,
                    )  # fmt: skip
                    t += ROWS if large else HALF


@tasks
def _join(part, matrix, sums, members, groups, pitch, bounds):
    """Some rows of matrix: the sums of all slices, added in order."""
    group_width = pitch // groups
    for t in range(bounds[part], bounds[part + 1]):
        for group in range(groups):
            to, start = (t * groups + group) * members, t * pitch + group * group_width
            for k in range(members):
                total = sums[0, start + k]
                for i in range(1, sums.shape[0]):
                    total += sums[i, start + k]
                matrix[to + k] = total
