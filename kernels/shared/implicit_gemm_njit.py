"""Products with an image's patches, without ever building the patches (im2col): the offsets of
`Patches` say where the values are.

`product` multiplies patches by filters: a tile of patches by filters (`tile_njit`) stays in
registers while the taps run by. The weights are copied into panels as wide as a tile, once per call (once per
change of the weights where a plan repeats it), so that each step reads the next cache line; the bias
is the first row of a panel.

With groups, each panel belongs to one of them and meets its channels.

Work: 2 · patches · taps · filters. Traffic: image and result once; panels once per block of
patches.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.njit import njit
from gpucnn.devices.recorders import prepared
from gpucnn.devices.team import tasks
from gpucnn.dispatch.case import Spec

from .epilogue_njit import call
from .patches_njit import Patches
from .patches_njit import together as images_together
from .pooled_tile_njit import pooled_products
from .pooling_njit import FUNCTION, NO_POOLING, OWN, Pooling, first_result, pool_all, pool_images
from .simd_njit import at, clear, copy, put
from .slices_launch import apart
from .tile_njit import FILTERS, HALF, LINE, ROWS, prefetch, products

FLOAT32 = np.dtype(np.float32)

NONE, RELU, POOL = 0, 1, 2
"""What happens to a finished tile; RELU and POOL may come together."""

NAN = np.float32(np.nan)
"""The limit of `products` that changes nothing."""

SMALL = 1 << 20
"""Below this many floating-point operations a second thread costs more than it brings."""

LARGE = 1 << 13
"""Floats from which on a second thread is worth while for copies."""
BLOCK = 64
"""Patches that meet a panel before the next panel comes, so that loading a large panel is worth
while."""
_FEWEST = 128
"""Patches in work at a time, if images are small enough."""
_PARTS = 4
"""Parts of the work, if there are not so many images."""


class Part(NamedTuple):
    """Work for one thread: some images, and a part of what is computed from each."""

    first: int
    last: int
    part: int
    parts: int


def split(images: int, each: int, smallest: int = 1) -> list[Part]:
    """A batch in slices of at least `smallest` images; if these are few, each image in up to `each`
    parts."""
    slices = threads.slices(images, smallest)
    parts = max(1, min(_PARTS // len(slices), each))
    return [Part(s.start, s.stop, part, parts) for s in slices for part in range(parts)]


def table_of(parts: list[Part]) -> np.ndarray:
    """The parts as rows of numbers."""
    return np.array(parts)


def split_with_panels(images: int, blocks: int, panels: int, smallest: int = 1) -> tuple[list[Part], int]:
    """The same for blocks of results, and how many parts share each block: where there are few, a part
    computes the results of some panels of filters."""
    blocks, most = max(1, blocks), len(split(images, _PARTS, smallest)) // len(threads.slices(images, smallest))
    shares = max(1, min(panels, most // blocks))
    return split(images, blocks * shares, smallest), shares


def _split_by_patches(images: int, table: Patches, filters: int, groups: int) -> tuple[list[Part], int]:
    if _flops(images, table, filters, groups) <= SMALL:
        return split(images, 1), 1
    return split_with_panels(images, table.count // BLOCK, groups * panels_of(filters // groups))


def _flops(images: int, table: Patches, filters: int, groups: int) -> int:
    return 2 * images * table.count * len(table.taps) * filters // groups


def together(images: int, table: Patches) -> int:
    """How many small images are in work at a time, so that tiles and loops are long enough."""
    return max(1, min(images // len(threads.slices(images)), _FEWEST // table.count))


def panels_of(filters: int) -> int:
    """How many panels the filters of a group fill."""
    return -(-filters // FILTERS)


def workspace(images: int, filters: int, *tables: Patches, groups: int = 1) -> tuple[Spec, Spec]:
    """For `product`: the panels and, for each part of the work, a padded image."""
    taps = max(len(table.taps) for table in tables)
    size = max(table.size * table.padded * together(images, table) for table in tables)
    parts = max(len(_split_by_patches(images, table, filters, groups)[0]) for table in tables)
    panels = groups * panels_of(filters // groups)
    return Spec((panels, taps + 1, FILTERS), FLOAT32), Spec((parts, apart(size)), FLOAT32)


def results_in_work(parts: list[Part], images: int, several: int, values: int) -> Spec:
    """For results that are pooled and not kept, of so many values an image: those of the images that each part
    has in work, or all of them if parts share an image."""
    if parts[0].parts > 1:
        return Spec((1, images * values), FLOAT32)
    return Spec((len(parts), apart(several * values)), FLOAT32)


def pooled_workspace(images: int, filters: int, table: Patches, groups: int) -> tuple[Spec, Spec, Spec]:
    """For `product` with `pooling`: the same, and the results."""
    parts, _ = _split_by_patches(images, table, filters, groups)
    results = results_in_work(parts, images, together(images, table), table.count * filters)
    return (*workspace(images, filters, table, groups=groups), results)


class Matrix(NamedTuple):
    """Filters as a matrix of taps by filters, within the values of a weight.

    values  the weight
    rows    where each tap starts, in floats
    column  from one filter of a group to the next
    group   from the filters of one group to those of the next
    """

    values: np.ndarray
    rows: np.ndarray
    column: int
    group: int


def filters_of(weight: np.ndarray, groups: int = 1) -> Matrix:
    """The filters of a weight (…, C / groups, K): (taps, K)."""
    filters = weight.shape[-1]
    return Matrix(weight, np.arange(0, weight.size, filters), 1, filters // groups)


def fill_panels(
    panels: np.ndarray, matrix: Matrix, bias: np.ndarray | None, filters: int, groups: int = 1
) -> np.ndarray:
    """Copy the filters into panels, which start with the bias; returns these as a flat array."""
    count = groups * panels_of(filters // groups)
    flat = panels.reshape(-1)[: count * (len(matrix.rows) + 1) * FILTERS]
    biases = np.zeros(filters, FLOAT32) if bias is None else bias
    _fill(
        count, flat, matrix.values.reshape(-1), matrix.rows, biases, filters // groups, matrix.column, matrix.group,
        parallel=len(flat) > LARGE,
    )  # fmt: skip
    return flat


def product(
    y: np.ndarray,
    index: np.ndarray,
    images: np.ndarray,
    matrix: Matrix,
    bias: np.ndarray | None,
    table: Patches,
    epilogue: int,
    panels: np.ndarray,
    scratch: np.ndarray,
    groups: int = 1,
    *,
    sums: np.ndarray | None = None,
    function: int = 0,
    alpha: float = 0.0,
    pooling: Pooling | None = None,
) -> None:
    """y (N, …, K) = function(epilogue(patches of images · matrix (taps, K) + bias (K,))), where each
    group of filters sees the channels of its group.

    With POOL the patches come in windows of four, y has one value for each window, and index (uint8,
    like y) says which of the four it was: 0 … 3, or with RELU 4 where it is not positive. Otherwise
    index is any array of bytes. `function` is what `epilogue_njit.end` returns, for patches in the
    order of their results; what it is applied to is kept in `sums`, like y, if that is given.

    With `pooling`, the results are pooled. Then y may be a place for those in work, as `results_in_work` says.
    """
    filters = y.shape[-1] if bias is None else len(bias)
    with prepared(panels, matrix.values, bias) as panels:
        flat_panels = fill_panels(panels, matrix, bias, filters, groups)
    target, indices, source = y.reshape(-1), index.reshape(-1), images.reshape(-1)
    ended = target if sums is None else sums.reshape(-1)
    several = together(len(images), table)
    outputs = y.size // (len(y) * filters) if pooling is None else table.count
    pixels, targets = images_together(table, several, outputs, ROWS)
    places = targets * filters
    parts, shares = _split_by_patches(len(images), table, filters, groups)
    shape = shape_of(images, table, several, groups, filters, outputs, epilogue, shares)
    pooled, indices, numbers = in_work(pooling, parts, y, indices)
    _tiles(
        len(parts), target, ended, indices, source, scratch, flat_panels, table.rows, pixels, table.taps, places,
        shape, function, np.float32(alpha), table_of(parts), pooled, numbers,
        parallel=_flops(len(images), table, filters, groups) > SMALL,
    )  # fmt: skip
    pool_rest(pooling, parts, y, alpha)


def in_work(
    pooling: Pooling | None, parts: list[Part], results: np.ndarray, index: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a kernel takes to pool the results of the images in work: y, index and the numbers."""
    if pooling is None or parts[0].parts > 1:
        return results.reshape(-1), index, NO_POOLING
    numbers = pooling.numbers.copy()
    numbers[OWN] = results.shape[1] if results.ndim == 2 else 0
    return pooling.y.reshape(-1), pooling.index.reshape(-1), numbers


def pool_rest(pooling: Pooling | None, parts: list[Part], results: np.ndarray, alpha: float) -> None:
    """Pool the results if the kernel has not, since parts share an image."""
    if pooling is not None and parts[0].parts > 1:
        pool_all(pooling, results, alpha)


def shape_of(images: np.ndarray, table: Patches, several: int, groups: int, *others: int) -> np.ndarray:
    """What both kernels start from."""
    return np.array(
        [table.line, table.size, table.padded, table.count, several, groups, images.shape[-1] // groups, *others]
    )


@njit(inline="always")
def extents(shape):
    return shape[0], shape[1], shape[2], shape[3], shape[4], shape[5], shape[6]


@tasks
def _fill(panel, panels, weight, rows, bias, members, column, group):
    """One panel: the bias, and a row of filters for each tap; zeros beyond the filters of the
    group."""
    group_panels = (members + FILTERS - 1) // FILTERS
    first = FILTERS * (panel % group_panels)
    count = min(FILTERS, members - first)
    start = panel // group_panels * group + first * column
    j = panel * (rows.shape[0] + 1) * FILTERS
    if count < FILTERS:
        clear(panels, j, (rows.shape[0] + 1) * FILTERS)
    copy(panels, j, bias, panel // group_panels * members + first, count)
    for t in range(rows.shape[0]):
        j += FILTERS
        if column == 1:
            copy(panels, j, weight, start + rows[t], count)
        else:
            for f in range(count):
                put(panels, j + f, at(weight, start + rows[t] + f * column))


@njit(inline="always")
def place(scratch, images, rows, n, several, size, line, padded):
    """Where the images from n on start: in `images`, or padded in scratch, into which they are
    copied."""
    first = n * rows.shape[0]
    if padded:
        for i in range(several):
            for h in range(rows.shape[0]):
                copy(scratch, i * size + rows[h], images, (first + i * rows.shape[0] + h) * line, line)
    return 0 if padded else first * line


@tasks
def _tiles(
    i, y, sums, index, images, scratches, panels, rows, pixels, taps, places, shape, function, alpha, table,
    pooled, numbers
):  # fmt: skip
    """Of the images first … last - 1 of a batch, a part of the patches, or of their filters."""
    first, last, part, parts = table[i, 0], table[i, 1], table[i, 2], table[i, 3]
    scratch = scratches[i]
    line, size, padded, cells, several, groups, channels = extents(shape)
    filters, outputs, epilogue, shares = shape[7], shape[8], shape[9], shape[10]
    steps, members = taps.shape[0], filters // groups
    group_panels = (members + FILTERS - 1) // FILTERS
    all_panels = groups * group_panels
    limit = np.float32(0) if epilogue & RELU else NAN
    source = images
    if padded:
        source = scratch
        clear(scratch, 0, scratch.shape[0])
    for n in range(first, last, several):
        at_once = min(several, last - n)
        image = place(scratch, images, rows, n, at_once, size, line, padded)
        results = first_result(numbers, i, n, outputs * filters)
        count = cells * at_once
        pieces = (count + BLOCK - 1) // BLOCK * shares
        for piece in range(pieces * part // parts, pieces * (part + 1) // parts):
            block, share = piece // shares, piece % shares
            end = min(count, (block + 1) * BLOCK)
            for panel in range(all_panels * share // shares, all_panels * (share + 1) // shares):
                group, column = panel // group_panels, FILTERS * (panel % group_panels)
                origin, left = image + group * channels, members - column
                j = block * BLOCK
                while j < end:
                    large = end - j > HALF
                    # the tile that ends these images has rows of its own behind the table
                    r = j if j + (ROWS if large else HALF) <= count else cells * several + ROWS * (at_once - 1)
                    if panel == 0 and not padded:
                        for ahead in range(min(j + BLOCK, count - 1), min(j + BLOCK + ROWS, count - 1)):
                            for c in range(0, channels * groups, LINE):
                                prefetch(source, image + pixels[ahead] + c)
                    weights = panel * (steps + 1) * FILTERS
                    if epilogue & POOL:
                        o = results + j // 4 * filters + group * members + column
                        pooled_products(
                            large, min(left, FILTERS), epilogue & RELU > 0, source, origin, pixels, r, taps, panels,
                            weights, FILTERS, sums, index, o, filters,
                        )  # fmt: skip
                    else:
                        products(
                            large, min(left, FILTERS), source, origin, pixels, r, taps, panels, weights, FILTERS,
                            limit, sums, results + group * members + column, places, r,
                        )  # fmt: skip
                    j += ROWS if large else HALF
            if function:
                each = 4 if epilogue & POOL else 1
                o, pixels_done = results + block * BLOCK // each * filters, (end - block * BLOCK) // each
                if shares == 1:
                    call(function, y, o, sums, o, sums, o, pixels_done * filters, alpha)
                else:
                    column = _column(all_panels * share // shares, group_panels, members)
                    width = _column(all_panels * (share + 1) // shares, group_panels, members) - column
                    for r in range(o + column, o + column + pixels_done * filters, filters):
                        call(function, y, r, sums, r, sums, r, width, alpha)
        if numbers[FUNCTION]:
            pool_images(pooled, index, y, results, numbers, n, at_once, alpha)


@njit(inline="always")
def _column(panel, group_panels, members):
    """The first filter of a panel."""
    return panel // group_panels * members + FILTERS * (panel % group_panels)
