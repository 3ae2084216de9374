"""Images through affine maps on the CPU: one image after the other, row by row.

The part of a row whose sources lie inside the image, which is nearly all of it, is found first: there
four pixels are read where they lie, and with shifts alone the weights are the same all along; only at
the edges is each source looked for. Traffic: x and y once, 8 bytes for a value, for 11 FLOPs.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.njit import inner
from gpucnn.devices.team import tasks
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.affine import FILLS, PIXEL, affine

_SMALL = 1 << 13
"""Below this many values a second thread costs more than it brings."""

_CONSTANT, _NEAREST, _REFLECT, _WRAP = range(len(FILLS))
_UNIT, _LIMIT = np.float32(1 / PIXEL), 1 << 31


def _supports(x: Spec, maps: Spec, **_: object) -> bool:
    return x.dtype == np.float32


@kernel(affine, "bilinear", "njit", supports=_supports, compiled=True)
def launch(y, x, maps, *, size, fill, value):
    bounds, number = threads.bounds(len(x)), FILLS.index(fill)
    _see(len(bounds) - 1, y, x, maps, number, np.float32(value), bounds, parallel=y.size > _SMALL)


@inner
def _folded(k, side, fill):
    """The pixel of a row or column that shows place k, or -1."""
    if 0 <= k < side:
        return k
    if fill == _CONSTANT:
        return -1
    if fill == _NEAREST:
        return 0 if k < 0 else side - 1
    period = 2 * side if fill == _REFLECT else side
    rest = k % period
    return min(rest, period - 1 - rest) if fill == _REFLECT else rest


@inner
def _inside(start, slope, Q, side):
    """The first and the last but one of the places 0 … Q - 1 whose coordinate start + slope · q has a pixel
    at and behind it in 0 … side - 1; none where coordinates may wrap around."""
    end = start + slope * (Q - 1)
    if min(start, end) < -_LIMIT or max(start, end) >= _LIMIT:
        return 0, 0
    first, last, limit = 0, Q, (side - 1) * PIXEL
    while first < Q and not 0 <= start + slope * first < limit:
        first += 1
    while last > first and not 0 <= start + slope * (last - 1) < limit:
        last -= 1
    return first, last


@inner
def _split(coordinate):
    """The pixel at or before a coordinate, and the weights of it and of the next one."""
    after = np.float32(coordinate & (PIXEL - 1)) * _UNIT
    return coordinate >> 16, np.float32(1) - after, after


@inner
def _at_edges(line, image, first, last, row_start, row_slope, column_start, column_slope, H, W, C, fill, outside):
    """The pixels first … last - 1 of a line, each of whose four sources is looked for."""
    for q in range(first, last):
        top, upper, lower = _split(np.int64(np.int32(row_start + row_slope * q)))
        left, nearer, further = _split(np.int64(np.int32(column_start + column_slope * q)))
        w0, w1, w2, w3 = upper * nearer, upper * further, lower * nearer, lower * further
        r0, r1 = _folded(top, H, fill), _folded(top + 1, H, fill)
        s0, s1 = _folded(left, W, fill), _folded(left + 1, W, fill)
        for c in range(C):
            x0 = outside if r0 < 0 or s0 < 0 else image[(r0 * W + s0) * C + c]
            x1 = outside if r0 < 0 or s1 < 0 else image[(r0 * W + s1) * C + c]
            x2 = outside if r1 < 0 or s0 < 0 else image[(r1 * W + s0) * C + c]
            x3 = outside if r1 < 0 or s1 < 0 else image[(r1 * W + s1) * C + c]
            line[q * C + c] = (w0 * x0 + w1 * x1) + (w2 * x2 + w3 * x3)


@inner
def _shifted(line, above, under, beside, w0, w1, w2, w3):
    """A piece of a line from two lines of the image, with the same weights everywhere."""
    for i in range(len(line)):
        line[i] = (w0 * above[i] + w1 * above[i + beside]) + (w2 * under[i] + w3 * under[i + beside])


@inner
def _mapped(line, image, first, last, row_start, row_slope, column_start, column_slope, W, C):
    """The pixels first … last - 1 of a line, all of whose sources lie in the image."""
    for q in range(first, last):
        top, upper, lower = _split(row_start + row_slope * q)
        left, nearer, further = _split(column_start + column_slope * q)
        w0, w1, w2, w3 = upper * nearer, upper * further, lower * nearer, lower * further
        at = (top * W + left) * C
        under = at + W * C
        for c in range(C):
            above = w0 * image[at + c] + w1 * image[at + C + c]
            line[q * C + c] = above + (w2 * image[under + c] + w3 * image[under + C + c])


@tasks
def _see(part, y, x, maps, fill, outside, bounds):
    """A slice of the images."""
    _, P, Q, C = y.shape
    H, W = x.shape[1], x.shape[2]
    for n in range(bounds[part], bounds[part + 1]):
        image, result = x[n].reshape(-1), y[n].reshape(-1)
        down, across = np.int64(maps[n, 1]), np.int64(maps[n, 4])
        shifted = down == 0 and across == PIXEL
        for p in range(P):
            line = result[p * Q * C : (p + 1) * Q * C]
            row = np.int64(maps[n, 0]) * p + np.int64(maps[n, 2])
            column = np.int64(maps[n, 3]) * p + np.int64(maps[n, 5])
            first, last = _inside(column, across, Q, W)
            top, upper, lower = _split(np.int64(np.int32(row)))
            r0, r1 = _folded(top, H, fill), _folded(top + 1, H, fill)
            if not shifted or r0 < 0 or r1 < 0:
                begin, end = _inside(row, down, Q, H)
                first, last = max(first, begin), min(last, end)
            if first >= last:
                first = last = Q
            _at_edges(line, image, 0, first, row, down, column, across, H, W, C, fill, outside)
            _at_edges(line, image, last, Q, row, down, column, across, H, W, C, fill, outside)
            if shifted and first < last:
                left, nearer, further = _split(column)
                at = (left + first) * C
                weights = upper * nearer, upper * further, lower * nearer, lower * further
                _shifted(line[first * C : last * C], image[r0 * W * C + at :], image[r1 * W * C + at :], C, *weights)
            elif C == 1:
                _mapped(line, image, first, last, row, down, column, across, W, 1)
            elif C == 3:
                _mapped(line, image, first, last, row, down, column, across, W, 3)
            else:
                _mapped(line, image, first, last, row, down, column, across, W, C)
