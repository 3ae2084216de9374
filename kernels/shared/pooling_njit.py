"""Pooling at the end of a convolution: windows of any size over the results of some images, which are still
in the cache.

As with activations (`epilogue_njit`), a kernel calls the function by its address, so that one is compiled for
all kernels. It is called once for some images, or for some rows of windows.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gpucnn.devices import threads
from gpucnn.devices.njit import address_of, inner, njit
from gpucnn.devices.team import tasks
from gpucnn.ops.window import Extents, Pads, positions

from .by_name_njit import by_name
from .epilogue_njit import call, end
from .simd_njit import (
    LANES,
    beats,
    lane,
    lanes_of,
    load_some,
    load_wide,
    not_positive,
    store_bytes,
    store_some,
    store_wide,
)
from .slices_launch import SMALLEST
from .tile_njit import WIDTH
from .vector_math_njit import ZERO
from .vector_operators_njit import choose

_FLOATS, _BYTES, _NUMBERS = map(types.CPointer, (types.float32, types.uint8, types.intp))

FUNCTION, _END, OWN, _ROWS, _ROW, _WINDOWS = range(6)
"""Where the numbers of a pooling have: the address of its function; that of the activation behind it; floats
of the results of the images in work, if these are not kept; rows of windows of an image; floats of y in one; and
what the function takes."""

NO_POOLING = np.zeros(_WINDOWS + 1, np.int64)
"""In place of the numbers where nothing is pooled."""

NO_INDEX = np.empty(1, np.uint8)
"""In place of an index where none is kept."""

UNROLLED = 9
"""Up to so many cells of a window, there is code for the window alone."""


class Pooling(NamedTuple):
    """What becomes of the results of a convolution.

    y        (N, …, K), their largest or their mean
    index    shaped like y, uint8: the place of the largest in its window; `NO_INDEX` if that is not kept
    extents  (planes,) rows, columns and K of the results of an image
    numbers  what the windows are
    """

    y: np.ndarray
    index: np.ndarray
    extents: tuple[int, ...]
    numbers: np.ndarray


class Ending(NamedTuple):
    """How a convolution with bias, activation and pooling ends.

    results   where the results are, or those of the images in work
    function  what `epilogue_njit.end` returns for what is applied to them
    pooling   what becomes of them then
    """

    results: np.ndarray
    function: int
    pooling: Pooling


def extents_of(x: Any, weight: Any, strides: Any, padding: Any, dilation: Any) -> tuple[int, ...]:
    """(planes,) rows, columns and K of the results of an image or volume."""
    return *map(positions, x.shape[1:-1], weight.shape[:-2], strides, dilation, padding), weight.shape[-1]


def three(axes: Extents, filling: int = 1) -> Extents:
    """A number for each of three axes; an image is a volume of one plane."""
    return (filling,) * (3 - len(axes)) + tuple(axes)


def ending(
    y: np.ndarray,
    kept: np.ndarray | None,
    work: np.ndarray | None,
    extents: Extents,
    function: str,
    kind: str,
    pool: Extents,
    pool_strides: Extents,
    pool_padding: Pads,
) -> Ending:
    """The end of `conv_bias_activation_pool`, whose results are `y` and, if there is one, `kept`; `work` is for
    results that are not kept. The activation comes before a mean, and after the largest."""
    relu = kind == "max" and function == "relu"
    address = 0 if relu else end(function)
    last, first = (address, 0) if kind == "max" else (0, address)
    lanes = "few" if extents[-1] <= LANES else "many"
    before, pool, index = three([ends[0] for ends in pool_padding], 0), three(pool), kind == "max" and kept is not None
    windows = *three(extents[:-1]), extents[-1], *three(y.shape[1:-1]), *pool, *three(pool_strides), *before
    numbers = _address(kind, lanes, *pool), last, 0, math.prod(y.shape[1:-2]), y.shape[-2] * y.shape[-1]
    results = kept if work is None else work
    assert results is not None  # one of both is given
    pooling = Pooling(y, kept if index else NO_INDEX, extents, np.array((*numbers, *windows, relu, index)))
    return Ending(results, first, pooling)


def along(size: int, window: int, stride: int, before: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """For each position of a window along an axis, 1 / the number of its cells inside the image; for
    each cell, the first window that covers it and the end of those that do, as two rows."""
    start, cell = np.arange(count) * stride - before, np.arange(size) + before
    shares = 1.0 / (np.minimum(start + window, size) - np.maximum(start, 0))
    first, end = (cell - window) // stride + 1, cell // stride + 1
    return shares.astype(np.float32), np.stack([np.maximum(first, 0), np.minimum(end, count)])


@njit(forceinline=True)
def _reach(position, stride, before, taps, size):
    """The first cell of a window along an axis, the cells before the image, and the end of its cells."""
    start = position * stride - before
    return max(0, start), max(0, -start), min(size, start + taps)


_WIDTHS = {"few": LANES, "many": WIDTH}
"""Lanes for few channels, of which a register holds those of several cells, and for many."""

_load = by_name({"few": load_some, "many": load_wide})
_store = by_name({"few": store_some, "many": store_wide})


@njit(forceinline=True)
def _largest_of(lanes, arrays, start, target, few, planes, rows, columns, place, sizes):
    """The largest of the cells of a window for `few` channels, and the place of the first that holds it, or with
    relu the number of cells where it is not positive. The first cell inside the image has the place `place`."""
    y, index, results = arrays
    plane, line, channels, taps_of_plane, taps, cells, relu, keeps = sizes
    best = _load(lanes, results, start, few)
    found = choose(best == best, np.float32(place), np.float32(place))
    for t in range(planes):
        for r in range(rows):
            for s in range(1 if t == 0 and r == 0 else 0, columns):
                value = _load(lanes, results, start + t * plane + r * line + s * channels, few)
                better = beats(value, best)
                best = choose(better, value, best)
                found = choose(better, np.float32(place + t * taps_of_plane + r * taps + s), found)
    if relu:
        dead = not_positive(best)
        best, found = choose(dead, ZERO, best), choose(dead, np.float32(cells), found)
    _store(lanes, y, target, few, best)
    if not keeps:
        return
    if few == lanes_of(best):
        store_bytes(index, target, found)
    else:
        for e in range(few):
            index[target + e] = np.uint8(lane(found, e))


@njit(forceinline=True)
def _mean_of(lanes, arrays, start, target, few, planes, rows, columns, place, sizes):
    """The mean of the cells of a window for `few` channels; no place."""
    y, _, results = arrays
    plane, line, channels = sizes[0], sizes[1], sizes[2]
    total = _load(lanes, results, start, few)
    for t in range(planes):
        for r in range(rows):
            for s in range(1 if t == 0 and r == 0 else 0, columns):
                total = total + _load(lanes, results, start + t * plane + r * line + s * channels, few)
    _store(lanes, y, target, few, total * (np.float32(1) / np.float32(planes * rows * columns)))


_combined = by_name({"max": _largest_of, "mean": _mean_of})


@cache
def _pool(kind: str, lanes: str, T: int, R: int, S: int) -> Any:
    width = _WIDTHS[lanes]

    @njit(nogil=True, cache=True, error_model="numpy", no_cpython_wrapper=True)
    def pool(y, index, results, windows, first, last):
        """Of some images, the rows of windows first … last - 1. There is code for whole windows of T × R × S cells."""
        D, H, W, C, sheets, P, Q = windows[0], windows[1], windows[2], windows[3], windows[4], windows[5], windows[6]
        taps_t, taps_r, taps_s, stride_o, stride_p, stride, front, top, before, relu, keeps = (
            windows[7], windows[8], windows[9], windows[10], windows[11], windows[12], windows[13], windows[14],
            windows[15], windows[16], windows[17]
        )  # fmt: skip
        whole, arrays, taps = C // width * width, (y, index, results), taps_r * taps_s
        sizes = H * W * C, W * C, C, taps, taps_s, taps_t * taps, relu, keeps
        begin, end = (before + stride - 1) // stride, (W - S + before) // stride + 1
        for row in range(first, last):
            d0, ahead, d1 = _reach(row // P % sheets, stride_o, front, taps_t, D)
            h0, above, h1 = _reach(row % P, stride_p, top, taps_r, H)
            planes, rows, target = d1 - d0, h1 - h0, row * Q * C
            cells, first_place = ((row // (P * sheets) * D + d0) * H + h0) * W * C, ahead * taps + above * taps_s
            for q in range(Q):
                if begin <= q < end and rows == R and planes == T:
                    start = cells + (q * stride - before) * C
                    for c in range(0, whole, width):
                        _combined(kind, lanes, arrays, start + c, target + c, width, T, R, S, 0, sizes)
                    if whole < C:
                        _combined(kind, lanes, arrays, start + whole, target + whole, C - whole, T, R, S, 0, sizes)
                else:
                    w0, left, w1 = _reach(q, stride, before, taps_s, W)
                    start, place = cells + w0 * C, first_place + left
                    for c in range(0, C, width):
                        few = min(width, C - c)
                        _combined(
                            kind, lanes, arrays, start + c, target + c, few, planes, rows, w1 - w0, place, sizes
                        )  # fmt: skip
                target += C

    return pool


@cache
def _address(kind: str, lanes: str, *pool: int) -> int:
    taps = pool if math.prod(pool) <= UNROLLED else (0, 0, 0)
    return address_of(_pool(kind, lanes, *taps), (_FLOATS, _BYTES, _FLOATS, _NUMBERS, types.intp, types.intp))


@intrinsic
def _call(typing, address, y, o, index, results, i, numbers, first, last):
    """Call the function for results[i] on, and for y[o] and index[o] on."""

    def emit(context, builder, signature, args):
        address, y, o, index, results, i, numbers, first, last = args
        kinds = signature.args

        def place(kind, array, offset):
            return builder.gep(context.make_array(kind)(context, builder, array).data, [offset])

        windows = place(kinds[6], numbers, ir.Constant(first.type, _WINDOWS))
        pointers = [place(kinds[1], y, o), place(kinds[3], index, o), place(kinds[4], results, i), windows]
        function = ir.FunctionType(ir.VoidType(), [*(p.type for p in pointers), first.type, last.type])
        builder.call(builder.inttoptr(address, function.as_pointer()), [*pointers, first, last])
        return context.get_dummy_value()

    array = types.intp
    return types.void(types.intp, y, array, index, results, array, numbers, array, array), emit


@njit(inline="always")
def first_result(numbers, part, n, values):
    """Where the results of the images from n on start, of so many values an image."""
    return part * numbers[OWN] if numbers[OWN] else n * values


@inner
def pool_images(y, index, results, start, numbers, n, images, alpha):
    """Pool the results of the images from n on, which lie at results[start] on."""
    rows, values = numbers[_ROWS], numbers[_ROWS] * numbers[_ROW]
    _call(numbers[FUNCTION], y, n * values, index, results, start, numbers, 0, images * rows)
    if numbers[_END]:
        call(numbers[_END], y, n * values, y, n * values, y, n * values, images * values, alpha)


@tasks
def _pool_rows(part, y, index, results, numbers, bounds, alpha):
    """Some rows of windows of all images."""
    first, last = bounds[part], bounds[part + 1]
    _call(numbers[FUNCTION], y, 0, index, results, 0, numbers, first, last)
    if numbers[_END]:
        start = first * numbers[_ROW]
        call(numbers[_END], y, start, y, start, y, start, (last - first) * numbers[_ROW], alpha)


def pool_all(pooling: Pooling, results: np.ndarray, alpha: float) -> None:
    """Pool results that are all there."""
    y, rows = pooling.y, math.prod(pooling.y.shape[:-2])
    bounds = threads.bounds(rows, -(-SMALLEST * rows // results.size))
    _pool_rows(
        len(bounds) - 1, y.reshape(-1), pooling.index.reshape(-1), results.reshape(-1), pooling.numbers, bounds,
        np.float32(alpha),
    )  # fmt: skip
