"""The gradient of a convolution's sums through pooling by any windows, in one pass: each cell adds up what its
windows give it, and the slope of the activation and the sums for the bias follow while a row is in the
first-level cache.

Traffic: dy and, for the largest, one byte for each of its values read, dz written; for the mean, what it was
taken of is read too.
"""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Any

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.njit import njit
from gpucnn.devices.recorders import again
from gpucnn.devices.team import tasks
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.conv_pool import conv_pool_grad_sums
from gpucnn.ops.epilogue import LINEAR
from gpucnn.ops.window import Extents

from ..shared.by_name_njit import by_name
from ..shared.columns_njit import add_slices, add_to_period, period
from ..shared.epilogue_njit import call, slope
from ..shared.pooling_njit import along, three
from ..shared.simd_njit import LANES, copy, load_wide, load_wide_bytes, store_wide
from ..shared.tile_njit import WIDTH
from ..shared.vector_math_njit import ZERO
from ..shared.vector_operators_njit import choose

_FLOAT32 = np.dtype(np.float32)

_SMALL = 1 << 14
"""Below this many values a second thread costs more than it brings."""


def _supports(dy: Spec, kept: Spec, **_: Any) -> bool:
    return dy.dtype == _FLOAT32


def _workspace(dy: Spec, kept: Spec, *, size: Extents, **_: Any) -> Spec:
    rows = dy.shape[0] * math.prod(size[:-1])
    return Spec((len(threads.slices(rows)), period(dy.shape[-1])), _FLOAT32)


@kernel(conv_pool_grad_sums, "windows", "njit", supports=_supports, workspace=_workspace, compiled=True)
def launch(dz, db, dy, kept, sums, *, function, alpha, kind, size, pool, pool_strides, pool_padding):
    """The sums of each slice of the rows, added in order."""
    before = three([ends[0] for ends in pool_padding], 0)
    sizes = three(size), three(dy.shape[1:-1]), three(pool), three(pool_strides)
    shares, of_planes, of_rows, adds, fills = _plan(*sizes, before)
    bounds = threads.bounds(math.prod(dz.shape[:-2]))
    address = 0 if function == LINEAR else slope(function, alpha)
    shape = np.array([*itertools.chain(*sizes), *before, dy.shape[-1], adds, fills])
    flat, results = dz.reshape(-1), (dz if kind == "max" else kept).reshape(-1)
    _spreading(kind)(
        len(bounds) - 1, flat, dy.reshape(-1), kept.reshape(-1), results, sums, shape, *shares, of_planes, of_rows,
        address, np.float32(alpha), bounds, parallel=dz.size > _SMALL,
    )  # fmt: skip
    again(add_slices, db, sums)


@cache
def _plan(size: Extents, positions: Extents, pool: Extents, strides: Extents, before: Extents) -> tuple:
    """The shares of planes, of rows and of columns, the windows that cover each plane and each row, whether windows
    share cells, and whether there are cells in a row that none covers."""
    axes = zip(size, pool, strides, before, positions, strict=True)
    shares, covering = zip(*(along(*axis) for axis in axes), strict=True)
    adds = any(taps > stride for taps, stride in zip(pool, strides, strict=True))
    covered = (pool[2], before[2], positions[2] * pool[2]) == (strides[2], 0, size[2])
    return shares, *covering[:2], adds, adds or not covered


_given = by_name(
    {
        "max": njit(forceinline=True)(lambda dy, mark, place, share: choose(mark == place, dy, ZERO)),
        "mean": njit(forceinline=True)(lambda dy, mark, place, share: dy * share),
    }
)


@njit(forceinline=True)
def _few_places(kept, i, few, tail):
    """Which cells of `few` windows that lie behind each other hold the largest; nothing is read beyond them."""
    copy(tail, 0, kept, i, few)
    return load_wide_bytes(tail, 0)


_nothing = njit(forceinline=True)(lambda *_: ZERO)
_marks = by_name({"max": load_wide_bytes, "mean": _nothing})
_few_marks = by_name({"max": _few_places, "mean": _nothing})


@njit(forceinline=True)
def _give(kind, dz, target, few, value, mark, place, share, cells, channels, adds):
    """Give each of some cells of a row of a window its part of dy."""
    for s in range(cells):
        part, to = _given(kind, value, mark, place + np.float32(s), share), target + s * channels
        if adds:
            part = part + load_wide(dz, to, few)
        store_wide(dz, to, few, part)


@cache
def _spreading(kind: str) -> Any:
    @tasks
    def spread(
        part, dz, dy, kept, results, all_sums, shape, plane_shares, row_shares, column_shares, of_planes, of_rows,
        function, alpha, bounds
    ):  # fmt: skip
        """A slice of the rows of all images."""
        first, last, sums, tail = bounds[part], bounds[part + 1], all_sums[part], np.zeros(WIDTH, np.uint8)
        D, H, W, sheets, P, Q = shape[0], shape[1], shape[2], shape[3], shape[4], shape[5]
        R, S, stride_o, stride_p, stride_q = shape[7], shape[8], shape[9], shape[10], shape[11]
        front, top, left, C, adds, fills = shape[12], shape[13], shape[14], shape[15], shape[16], shape[17]
        whole, line, done, to = C // WIDTH * WIDTH, W * C, first * W * C, 0
        sums[:] = ZERO
        for row in range(first, last):
            n, d, h, begin = row // (D * H), row // H % D, row % H, row * line
            o0, o1, p0, p1 = of_planes[0, d], of_planes[1, d], of_rows[0, h], of_rows[1, h]
            if fills or o0 >= o1 or p0 >= p1:
                dz[begin : begin + line] = ZERO
            for o in range(o0, o1):
                for p in range(p0, p1):
                    first_place = ((d + front - o * stride_o) * R + h + top - p * stride_p) * S
                    i, share_of_row = ((n * sheets + o) * P + p) * Q * C, plane_shares[o] * row_shares[p]
                    for q in range(Q):
                        w = q * stride_q - left
                        skipped = max(0, -w)
                        cells, share = min(S, W - w) - skipped, share_of_row * column_shares[q]
                        place, target = np.float32(first_place + skipped), begin + (w + skipped) * C
                        for c in range(0, whole, WIDTH):
                            _give(
                                kind, dz, target + c, WIDTH, load_wide(dy, i + c, WIDTH),
                                _marks(kind, kept, i + c), place, share, cells, C, adds,
                            )  # fmt: skip
                        if whole < C:
                            few = C - whole
                            _give(
                                kind, dz, target + whole, few, load_wide(dy, i + whole, few),
                                _few_marks(kind, kept, i + whole, few, tail), place, share, cells, C, adds,
                            )  # fmt: skip
                        i += C
            if function:
                call(function, dz, begin, dz, begin, results, begin, line, alpha)
            stop = done + (begin + line - done) // LANES * LANES
            to, done = add_to_period(sums, to, dz, done, stop), stop
        add_to_period(sums, to, dz, done, last * line)

    return spread
