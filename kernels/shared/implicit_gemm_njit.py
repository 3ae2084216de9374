"""Products with an image's patches, without ever building the patches (im2col): the offsets of
`Patches` say where the values are.

`product` multiplies patches by filters. A tile of eight patches by sixteen filters (four, where a
register holds eight floats) stays in eight registers while the taps run by: sixteen weights and
single values of the image feed eight multiply-adds, which keeps the multipliers busy from the
first-level cache. The weights are copied once per call into panels of sixteen filters, so that each
step reads the next 64 bytes; the bias is the last row of a panel.

`transposed_product` multiplies the transposed patches by a gradient for each of them: a tile of
as many taps by sixteen filters stays in registers while the patches run by.

Work: 2 · patches · taps · filters each. Traffic: image and result once; panels (sums) once per
block of patches.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.njit import njit
from gpucnn.dispatch.case import Spec

from .epilogue_njit import call
from .patches_njit import Patches
from .simd_njit import (
    COLUMNS,
    LANES,
    PAIRS,
    ROWS,
    add,
    at,
    beats,
    copy,
    empty_tile,
    lane,
    load,
    load_tile,
    load_two_tiles,
    not_positive,
    places,
    select,
    splat,
    store,
    store_bytes,
    store_tiles,
    two_empty_tiles,
    with_products,
)

FLOAT32 = np.dtype(np.float32)

FILTERS = COLUMNS
"""Filters in a panel."""

NONE, RELU, POOL = 0, 1, 2
"""What happens to a finished tile, as bits: negative sums become 0, and of four the largest
counts."""

SMALL = 1 << 22
"""Below this many floating-point operations a second thread costs more than it brings."""

_BLOCK = 32
"""Patches that meet a panel before the next panel comes, so that loading a large panel is worth
while."""
_VALUES = 4096
"""Values of the gradient that stay in the first-level cache while all tiles of taps meet them."""


def panels_of(filters: int) -> int:
    """How many panels the filters fill."""
    return -(-filters // FILTERS)


def workspace(images: int, filters: int, *tables: Patches) -> tuple[Spec, Spec]:
    """For `product`: the panels and, for each slice of the batch, a padded image and two tiles."""
    taps = max(len(table.taps) for table in tables)
    size = max(table.size * table.padded for table in tables)
    slices = len(threads.slices(images))
    return Spec((panels_of(filters), taps + 1, FILTERS), FLOAT32), Spec((slices, size + 2 * ROWS * FILTERS), FLOAT32)


def product(
    y: np.ndarray,
    index: np.ndarray,
    images: np.ndarray,
    matrix: np.ndarray,
    bias: np.ndarray | None,
    table: Patches,
    epilogue: int,
    panels: np.ndarray,
    scratch: np.ndarray,
    *,
    sums: np.ndarray | None = None,
    function: int = 0,
    alpha: float = 0.0,
) -> None:
    """y (N, …, K) = function(epilogue(patches of images · matrix (taps, K) + bias (K,))).

    With POOL the patches come in windows of four, y has one value for each window, and index (uint8,
    like y) says which of the four it was: 0 … 3, or with RELU 4 where it is not positive. Otherwise
    index is any array of bytes. `function` is what `epilogue_njit.end` returns; what it is applied
    to is kept in `sums`, like y, if that is given.
    """
    taps, filters = matrix.shape
    rows = len(panels) * (taps + 1)
    flat_panels = panels.reshape(-1)[: rows * FILTERS]
    _fill(flat_panels.reshape(len(panels), taps + 1, FILTERS), matrix, bias)
    target, places, source = y.reshape(-1), index.reshape(-1), images.reshape(-1)
    ended = target if sums is None else sums.reshape(-1)
    outputs = y.size // (len(y) * filters)
    shape = np.array([table.line, table.padded, table.count, outputs, filters, epilogue])
    slices = threads.slices(len(images))

    def task(i: int) -> None:
        _tiles(
            target, ended, places, source, scratch[i], flat_panels, table.rows, table.pixels, table.taps, table.targets,
            shape, function, np.float32(alpha), slices[i].start, slices[i].stop,
        )  # fmt: skip

    threads.run(task, len(slices), parallel=2 * len(images) * table.count * matrix.size > SMALL)


def _fill(panels: np.ndarray, matrix: np.ndarray, bias: np.ndarray | None) -> None:
    taps, filters = matrix.shape
    for rows, values in ((slice(taps), matrix), (taps, np.zeros(filters, FLOAT32) if bias is None else bias)):
        whole = filters // FILTERS
        panels[:whole, rows] = np.moveaxis(
            values[..., : whole * FILTERS].reshape(*values.shape[:-1], whole, FILTERS), -2, 0
        )
        if filters % FILTERS:
            panels[whole, rows, : filters % FILTERS] = values[..., whole * FILTERS :]
            panels[whole, rows, filters % FILTERS :] = 0


@njit(inline="always")
def _place(scratch, images, rows, n, line, padded):
    """Where image n starts: in `images`, or padded in scratch, into which it is copied."""
    first = n * rows.shape[0]
    if padded:
        for h in range(rows.shape[0]):
            copy(scratch, rows[h], images, (first + h) * line, line)
    return 0 if padded else first * line


@njit(nogil=True, cache=True, error_model="numpy")
def _tiles(y, sums, index, images, scratch, panels, rows, pixels, taps, targets, shape, function, alpha, first, last):
    """The images first … last - 1 of a batch.

    The epilogue is read where it is needed and not before the loops: LLVM compiles a loop once for
    each value of what it knows to be constant there.
    """
    line, padded, count, outputs, filters = shape[0], shape[1], shape[2], shape[3], shape[4]
    length = (taps.shape[0] + 1) * FILTERS
    finished = scratch.shape[0] - 2 * ROWS * FILTERS
    number = (filters + FILTERS - 1) // FILTERS
    zero = splat(np.float32(0))
    source = images
    if padded:
        source = scratch
        scratch[:finished] = np.float32(0)
    for n in range(first, last):
        origin = _place(scratch, images, rows, n, line, padded)
        for block in range((count + _BLOCK - 1) // _BLOCK):
            begin = block * _BLOCK
            end = min(count, begin + _BLOCK)
            panel = 0
            while panel < number:
                at_once = 2 if PAIRS and panel + 1 < number else 1
                for i in range(begin, end, ROWS):
                    rows_of_tile = places(pixels, i)
                    j = panel * length
                    if at_once == 2:
                        pair = two_empty_tiles()
                        for t in range(taps.shape[0]):
                            pair = with_products(pair, source, rows_of_tile, origin + at(taps, t), panels, j, length)
                            j += FILTERS
                        store_tiles(scratch, finished, pair)
                    else:
                        tile = empty_tile()
                        for t in range(taps.shape[0]):
                            tile = with_products(tile, source, rows_of_tile, origin + at(taps, t), panels, j, length)
                            j += FILTERS
                        store_tiles(scratch, finished, tile)
                    for half in range(2 * at_once):
                        k = FILTERS * panel + LANES * half
                        bias = load(panels, j + half // 2 * length + half % 2 * LANES)
                        done = finished + half // 2 * ROWS * FILTERS + half % 2 * LANES
                        if shape[5] & POOL:
                            for window in range(i // 4, min(i + ROWS, end) // 4):
                                o = (n * outputs + window) * filters + k
                                best = load(scratch, done)
                                place = zero
                                for other in range(1, 4):
                                    value = load(scratch, done + FILTERS * other)
                                    better = beats(value, best)
                                    best = select(better, value, best)
                                    place = select(better, splat(np.float32(other)), place)
                                done += 4 * FILTERS
                                best = add(best, bias)
                                if shape[5] & RELU:
                                    dead = not_positive(best)
                                    best = select(dead, zero, best)
                                    place = select(dead, splat(np.float32(4)), place)
                                if filters - k >= LANES:
                                    store(sums, o, best)
                                    store_bytes(index, o, place)
                                else:
                                    for e in range(filters - k):
                                        sums[o + e] = lane(best, e)
                                        index[o + e] = np.uint8(lane(place, e))
                        else:
                            for m in range(min(ROWS, end - i)):
                                o = (n * outputs + targets[i + m]) * filters + k
                                value = add(load(scratch, done + FILTERS * m), bias)
                                if shape[5] & RELU:
                                    value = select(not_positive(value), zero, value)
                                if filters - k >= LANES:
                                    store(sums, o, value)
                                else:
                                    for e in range(filters - k):
                                        sums[o + e] = lane(value, e)
                panel += at_once
            if function:
                each = 4 if shape[5] & POOL else 1
                o = (n * outputs + begin // each) * filters
                call(function, y, o, sums, o, sums, o, (end - begin) // each * filters, alpha)


def transposed_workspace(images: int, filters: int, table: Patches) -> tuple[Spec, Spec, Spec]:
    """For `transposed_product`, for each slice of the batch: the sums, a padded image, and a
    filled-up gradient."""
    slices, tiles, panels = len(threads.slices(images)), -(-len(table.taps) // ROWS), panels_of(filters)
    filled = table.count * panels * FILTERS if filters % FILTERS else 0
    return (
        Spec((slices, tiles, panels, ROWS, FILTERS), FLOAT32),
        Spec((slices, table.size * table.padded), FLOAT32),
        Spec((slices, filled), FLOAT32),
    )


def transposed_product(
    matrix: np.ndarray,
    dy: np.ndarray,
    images: np.ndarray,
    table: Patches,
    sums: np.ndarray,
    scratch: np.ndarray,
    filled: np.ndarray,
) -> None:
    """matrix (taps, K) = transposed patches of images · dy (N, …, K); the sums of the slices are
    added in order."""
    taps, filters = matrix.shape
    offsets = np.concatenate([table.taps, np.repeat(table.taps[-1:], -taps % ROWS)])
    shape = np.array([table.line, table.padded, table.count, filters, max(ROWS, _VALUES // filters)])
    gradient, source = dy.reshape(-1), images.reshape(-1)
    slices = threads.slices(len(images))

    def task(i: int) -> None:
        sums[i] = 0
        _transposed_tiles(
            sums[i].reshape(-1), gradient, source, scratch[i], filled[i], table.rows, table.pixels, offsets, shape,
            slices[i].start, slices[i].stop,
        )  # fmt: skip

    threads.run(task, len(slices), parallel=2 * dy.size * taps > SMALL)
    total = np.add.reduce(sums, axis=0).swapaxes(1, 2).reshape(len(offsets), -1)
    matrix[...] = total[:taps, :filters]


@njit(nogil=True, cache=True, error_model="numpy")
def _transposed_tiles(sums, dy, images, scratch, filled, rows, pixels, taps, shape, first, last):
    """Add the images first … last - 1 to sums (tiles of taps, panels, 4, 16)."""
    line, padded, count, filters, block = shape[0], shape[1], shape[2], shape[3], shape[4]
    panels = (filters + FILTERS - 1) // FILTERS
    source, gradient, width = images, dy, filters
    if padded:
        source = scratch
        scratch[:] = np.float32(0)
    if filled.shape[0]:
        gradient, width = filled, panels * FILTERS
        filled[:] = np.float32(0)
    start = 0
    for n in range(first, last):
        origin = _place(scratch, images, rows, n, line, padded)
        if filled.shape[0]:
            for i in range(count):
                copy(filled, i * width, dy, (n * count + i) * filters, filters)
        else:
            start = n * count * filters
        for part in range((count + block - 1) // block):
            begin = part * block
            end = min(count, begin + block)
            for tile in range(taps.shape[0] // ROWS):
                taps_of_tile = places(taps, ROWS * tile)
                panel = 0
                while panel < panels:
                    j = ROWS * FILTERS * (tile * panels + panel)
                    k = start + begin * width + FILTERS * panel
                    if PAIRS and panel + 1 < panels:
                        pair = load_two_tiles(sums, j)
                        for i in range(begin, end):
                            p = origin + at(pixels, i)
                            pair = with_products(pair, source, taps_of_tile, p, gradient, k, FILTERS)
                            k += width
                        store_tiles(sums, j, pair)
                        panel += 2
                    else:
                        total = load_tile(sums, j)
                        for i in range(begin, end):
                            p = origin + at(pixels, i)
                            total = with_products(total, source, taps_of_tile, p, gradient, k, FILTERS)
                            k += width
                        store_tiles(sums, j, total)
                        panel += 1
