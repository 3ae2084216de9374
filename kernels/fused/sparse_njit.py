"""Gradients through a 2×2 max pool: only the cell that won its window, and only if its ReLU is
open, has a gradient.

A dense backward pass would multiply three zeros in four. Here the cells with a gradient are listed
first, then

    dweight[k] += dy · patch        for each listed cell of filter k, a block of the patch at a time in registers
    dpatch     += dy · weight[k]    for each filter listed at a cell, likewise

Work: 2 · dy.size · taps, a quarter of the dense count, less by what ReLU and dropout have set to
zero. A patch is cut into chunks of neighbouring values that fill a register or half of one; in weights
and sums the places beyond the end of a filter row stay 0.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.recorders import again
from gpucnn.devices.team import tasks
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import conv2d_maxpool_grad_input, conv2d_maxpool_grad_weight

from ..shared.eight_njit import EIGHT, add_products, eight_of, load_eight, store_eight
from ..shared.implicit_gemm_njit import FLOAT32, SMALL
from ..shared.patches_njit import Patches, pooled_patches
from ..shared.simd_njit import LANES, at, clear, copy, put
from ..shared.slices_launch import apart
from ..shared.tile_njit import WIDTH

_IMAGE = 8192
"""Floats of the image that stay in the first-level cache while the filters meet them."""
_LISTED = 4096
"""Cells that are listed at a time, before the gradient of the input is computed from them."""


class _Chunks(NamedTuple):
    """Where chunk i of a patch starts in the image, and at which place in the chunks each tap lies; chunks have
    so many floats, and blocks of `EIGHT` are in registers at a time."""

    starts: np.ndarray
    places: np.ndarray
    lanes: int

    @property
    def blocks(self) -> int:
        """Blocks of a patch."""
        return len(self.starts) // EIGHT

    @property
    def block(self) -> int:
        """Floats of a block."""
        return EIGHT * self.lanes


@lru_cache(256)
def _chunks(patches: Patches) -> _Chunks:
    """Those of half a register, where whole ones would leave more than two thirds of the blocks: they lie in
    two lines of the cache more often."""
    wide, narrow = (_of_lanes(patches, lanes) for lanes in (WIDTH, LANES))
    return wide if 3 * wide.blocks < 2 * narrow.blocks else narrow


def _of_lanes(patches: Patches, lanes: int) -> _Chunks:
    runs = patches.runs
    starts = [run[0] + first for run in runs for first in range(0, len(run), lanes)]
    places, before = [], 0
    for run in runs:
        places.append(before + np.arange(len(run)))
        before += -(-len(run) // lanes) * lanes
    starts += [starts[-1] + lanes * i for i in range(1, 1 + -len(starts) % EIGHT)]
    return _Chunks(np.array(starts, np.int64), np.concatenate(places), lanes)


def _table(x: tuple[int, ...], kernel_size, strides, padding, dilation) -> tuple[Patches, _Chunks]:
    table = pooled_patches(tuple(x[1:3]), x[3], tuple(kernel_size), strides, padding, dilation)
    return table, _chunks(table)


def _image(table: Patches, chunks: _Chunks) -> int:
    """Floats of a padded image, and room for the chunks that reach beyond its end."""
    return table.size + chunks.block


def _supports(dy: Spec, index: Spec, other: Spec, **_: object) -> bool:
    return dy.dtype == FLOAT32


def _weight_workspace(dy: Spec, index: Spec, x: Spec, *, kernel_size, **window) -> tuple[Spec, ...]:
    table, chunks = _table(x.shape, kernel_size, **window)
    slices, filters, group = len(threads.slices(x.shape[0])), dy.shape[3], _group(table)
    return (
        Spec((slices, chunks.blocks, filters, chunks.block), FLOAT32),
        Spec((slices, apart(filters)), FLOAT32),
        Spec((slices, apart(_image(table, chunks))), FLOAT32),
        Spec((slices, apart(filters * (group + 1))), np.dtype(np.int64)),
        Spec((slices, apart(filters * group)), FLOAT32),
    )


@kernel(conv2d_maxpool_grad_weight, "sparse", "njit", supports=_supports, workspace=_weight_workspace, compiled=True)
def launch_grad_weight(dweight, db, dy, index, x, sums, bias_sums, image, cells, amounts, *, kernel_size, **window):
    """Each slice of the batch has its own sum; they are added in order."""
    table, chunks = _table(x.shape, kernel_size, **window)
    filters = dy.shape[3]
    shape = np.array([table.line, table.count // 4, filters, _group(table)])
    _add_patches(
        len(sums), sums.reshape(len(sums), -1), bias_sums, dy.reshape(-1), index.reshape(-1), x.reshape(-1), image,
        table.rows, table.pixels, chunks.starts, cells, amounts, (0,) * chunks.lanes, shape, threads.bounds(len(x)),
        parallel=2 * dy.size * len(chunks.places) > SMALL,
    )  # fmt: skip
    again(_add_slices, dweight.reshape(-1, filters), db, sums, bias_sums[:, :filters], chunks.places)


def _add_slices(dweight: np.ndarray, db: np.ndarray, sums: np.ndarray, bias_sums: np.ndarray, places: Any) -> None:
    np.add.reduce(bias_sums, axis=0, out=db)
    by_place = np.add.reduce(sums, axis=0).swapaxes(1, 2).reshape(-1, len(db))
    np.take(by_place, places, axis=0, out=dweight)


def _input_workspace(dy: Spec, index: Spec, weight: Spec, *, size, **window) -> tuple[Spec, ...]:
    table, chunks = _table((1, *size, weight.shape[2]), weight.shape[:2], **window)
    slices, filters = len(threads.slices(dy.shape[0])), dy.shape[3]
    listed = _listed(table, filters)
    return (
        Spec((chunks.blocks, filters, chunks.block), FLOAT32),
        Spec((slices, apart(_image(table, chunks))), FLOAT32),
        Spec((slices, apart(4 * listed * (filters + 1))), np.dtype(np.int64)),
        Spec((slices, apart(4 * listed * filters)), FLOAT32),
    )


@kernel(conv2d_maxpool_grad_input, "sparse", "njit", supports=_supports, workspace=_input_workspace, compiled=True)
def launch_grad_input(dx, dy, index, weight, panels, image, lists, amounts, *, size, **window):
    """The weight is copied once into panels: for each block of chunks, the filters one after the
    other."""
    table, chunks = _table(dx.shape, weight.shape[:2], **window)
    filters = dy.shape[3]
    by_place = np.zeros((chunks.blocks * chunks.block, filters), FLOAT32)
    again(_fill, panels, by_place, chunks.places, weight.reshape(-1, filters))
    shape = np.array([table.line, table.count // 4, filters, _listed(table, filters)])
    _add_filters(
        len(image), dx.reshape(-1), dy.reshape(-1), index.reshape(-1), panels.reshape(-1), image, table.rows,
        table.pixels, chunks.starts, lists, amounts, (0,) * chunks.lanes, shape, threads.bounds(len(dx)),
        parallel=2 * dy.size * len(chunks.places) > SMALL,
    )  # fmt: skip


def _fill(panels: np.ndarray, by_place: np.ndarray, places: np.ndarray, weight: np.ndarray) -> None:
    by_place[places] = weight
    panels[...] = by_place.reshape(len(panels), -1, weight.shape[1]).swapaxes(1, 2)


def _group(table: Patches) -> int:
    """How many windows are listed at a time for the gradient of the weight."""
    windows = table.count // 4
    return max(1, min(windows, windows * _IMAGE // table.size))


def _listed(table: Patches, filters: int) -> int:
    """How many windows are listed at a time for the gradient of the input."""
    return max(1, min(table.count // 4, _LISTED // (4 * filters)))


@tasks
def _add_patches(
    i, all_sums, bias_sums, dy, index, x, padded, rows, pixels, starts, all_cells, all_amounts, lanes, shape, bounds
):  # fmt: skip
    """The sums over a slice of the images: sums (blocks, filters, floats of a block) and db (filters,).

    cells and amounts list, for each filter, where its gradients are and what they are; the counts
    stand at the end of cells.
    """
    line, windows, filters, group = shape[0], shape[1], shape[2], shape[3]
    counts, size = filters * group, EIGHT * len(lanes)
    sums, db, image, cells, amounts = all_sums[i], bias_sums[i], padded[i], all_cells[i], all_amounts[i]
    clear(sums, 0, len(sums))
    clear(db, 0, len(db))
    clear(image, 0, len(image))
    for n in range(bounds[i], bounds[i + 1]):
        for h in range(rows.shape[0]):
            copy(image, rows[h], x, (n * rows.shape[0] + h) * line, line)
        for part in range((windows + group - 1) // group):
            clear(cells, counts, filters)
            for m in range(part * group, min(windows, (part + 1) * group)):
                o = (n * windows + m) * filters
                for k in range(filters):
                    g, place, count = at(dy, o + k), np.int64(at(index, o + k)), at(cells, counts + k)
                    put(cells, k * group + count, at(pixels, 4 * m + (place & 3)))
                    put(amounts, k * group + count, g)
                    put(cells, counts + k, count + (np.int64(place < 4) & np.int64(g != 0)))
                    db[k] += g if place < 4 else np.float32(0)
            for block in range(starts.shape[0] // EIGHT):
                offsets = eight_of(starts, EIGHT * block)
                for k in range(filters):
                    j, c = (block * filters + k) * size, k * group
                    chunks = load_eight(lanes, sums, j, None)
                    for e in range(c, c + at(cells, counts + k)):
                        chunks = add_products(chunks, at(amounts, e), image, at(cells, e), offsets)
                    store_eight(sums, j, None, chunks)


@tasks
def _add_filters(
    i, dx, dy, index, panels, padded, rows, pixels, starts, all_lists, all_amounts, lanes, shape, bounds
):  # fmt: skip
    """The gradients of a slice of the images.

    lists and amounts hold, for each cell of the windows at hand, which filters have a gradient
    there and what it is; the counts stand at the end of lists. Chunks of a block may overlap where
    one reaches beyond its run; they are loaded together and stored in the order of their starts, so
    that the one which owns a value is the last to write it.
    """
    line, windows, filters, group = shape[0], shape[1], shape[2], shape[3]
    counts, size = 4 * group * filters, EIGHT * len(lanes)
    image, lists, amounts = padded[i], all_lists[i], all_amounts[i]
    for n in range(bounds[i], bounds[i + 1]):
        clear(image, 0, len(image))
        for part in range((windows + group - 1) // group):
            begin = part * group
            end = min(windows, begin + group)
            clear(lists, counts, 4 * group)
            for m in range(begin, end):
                o = (n * windows + m) * filters
                for k in range(filters):
                    g, place = at(dy, o + k), np.int64(at(index, o + k))
                    cell = 4 * (m - begin) + (place & 3)
                    count = at(lists, counts + cell)
                    put(lists, cell * filters + count, k * size)
                    put(amounts, cell * filters + count, g)
                    put(lists, counts + cell, count + (np.int64(place < 4) & np.int64(g != 0)))
            for block in range(starts.shape[0] // EIGHT):
                offsets = eight_of(starts, EIGHT * block)
                for cell in range(4 * (end - begin)):
                    count = at(lists, counts + cell)
                    if count == 0:
                        continue
                    p, panel, c = pixels[4 * begin + cell], block * filters * size, cell * filters
                    chunks = load_eight(lanes, image, p, offsets)
                    for e in range(c, c + count):
                        chunks = add_products(chunks, at(amounts, e), panels, panel + at(lists, e), None)
                    store_eight(image, p, offsets, chunks)
        for h in range(rows.shape[0]):
            copy(dx, (n * rows.shape[0] + h) * line, image, rows[h], line)
