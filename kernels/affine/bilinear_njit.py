"""Images through affine maps on the CPU: one image after the other, row by row.

Inside the image, which is nearly all of it, four pixels are read where they lie; only at the edges
is each of them looked for. Traffic: x and y once, 8 bytes for a value, for 11 FLOPs.
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
_UNIT = np.float32(1 / PIXEL)


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


@tasks
def _see(part, y, x, maps, fill, outside, bounds):
    """A slice of the images."""
    _, P, Q, C = y.shape
    H, W = x.shape[1], x.shape[2]
    for n in range(bounds[part], bounds[part + 1]):
        image = x[n].reshape(-1)
        for p in range(P):
            line = y[n, p].reshape(-1)
            row_start = np.int64(maps[n, 0]) * p + np.int64(maps[n, 2])
            column_start = np.int64(maps[n, 3]) * p + np.int64(maps[n, 5])
            for q in range(Q):
                row = np.int64(np.int32(row_start + np.int64(maps[n, 1]) * q))
                column = np.int64(np.int32(column_start + np.int64(maps[n, 4]) * q))
                top, left = row >> 16, column >> 16
                lower, further = np.float32(row & (PIXEL - 1)) * _UNIT, np.float32(column & (PIXEL - 1)) * _UNIT
                upper, nearer = np.float32(1) - lower, np.float32(1) - further
                w0, w1, w2, w3 = upper * nearer, upper * further, lower * nearer, lower * further
                if 0 <= top < H - 1 and 0 <= left < W - 1:
                    at, under = (top * W + left) * C, ((top + 1) * W + left) * C
                    for c in range(C):
                        above = w0 * image[at + c] + w1 * image[at + C + c]
                        line[q * C + c] = above + (w2 * image[under + c] + w3 * image[under + C + c])
                    continue
                r0, r1 = _folded(top, H, fill), _folded(top + 1, H, fill)
                s0, s1 = _folded(left, W, fill), _folded(left + 1, W, fill)
                for c in range(C):
                    x0 = outside if r0 < 0 or s0 < 0 else image[(r0 * W + s0) * C + c]
                    x1 = outside if r0 < 0 or s1 < 0 else image[(r0 * W + s1) * C + c]
                    x2 = outside if r1 < 0 or s0 < 0 else image[(r1 * W + s0) * C + c]
                    x3 = outside if r1 < 0 or s1 < 0 else image[(r1 * W + s1) * C + c]
                    line[q * C + c] = (w0 * x0 + w1 * x1) + (w2 * x2 + w3 * x3)
