"""The gradient of a convolution's sums through pooling by any windows, in one pass: each cell adds up what its
windows give it, and the slope of the activation and the sums for the bias follow while a row is in the
first-level cache.

Traffic: dy and, for the largest, one byte for each of its values read, dz written; for the mean, what it was
taken of is read too.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.njit import njit
from gpucnn.devices.recorders import again
from gpucnn.devices.team import tasks
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.conv_pool import conv2d_pool_grad_sums
from gpucnn.ops.epilogue import LINEAR

from ..shared.by_name_njit import by_name
from ..shared.columns_njit import add_slices, add_to_period, period
from ..shared.epilogue_njit import call, slope
from ..shared.pooling_njit import along
from ..shared.simd_njit import LANES, copy, load_wide, load_wide_bytes, store_wide
from ..shared.tile_njit import WIDTH
from ..shared.vector_math_njit import ZERO
from ..shared.vector_operators_njit import choose

_FLOAT32 = np.dtype(np.float32)

_SMALL = 1 << 14
"""Below this many values a second thread costs more than it brings."""


def _supports(dy: Spec, kept: Spec, **_: Any) -> bool:
    return dy.dtype == _FLOAT32


def _workspace(dy: Spec, kept: Spec, *, size: tuple[int, int], **_: Any) -> Spec:
    return Spec((len(threads.slices(dy.shape[0] * size[0])), period(dy.shape[3])), _FLOAT32)


@kernel(conv2d_pool_grad_sums, "windows", "njit", supports=_supports, workspace=_workspace, compiled=True)
def launch(dz, db, dy, kept, sums, *, function, alpha, kind, size, pool, pool_strides, pool_padding):
    """The sums of each slice of the rows, added in order."""
    row_shares, column_shares, of_rows, adds, fills = _plan(
        tuple(size), dy.shape[1:3], tuple(pool), tuple(pool_strides), pool_padding
    )
    bounds = threads.bounds(len(dz) * size[0])
    address = 0 if function == LINEAR else slope(function, alpha)
    before = pool_padding[0][0], pool_padding[1][0]
    shape = np.array([*size, *dy.shape[1:], pool[1], *pool_strides, *before, adds, fills])
    flat, results = dz.reshape(-1), (dz if kind == "max" else kept).reshape(-1)
    _spreading(kind)(
        len(bounds) - 1, flat, dy.reshape(-1), kept.reshape(-1), results, sums, shape, row_shares, column_shares,
        of_rows, address, np.float32(alpha), bounds, parallel=dz.size > _SMALL,
    )  # fmt: skip
    again(add_slices, db, sums)


@cache
def _plan(size: tuple, positions: tuple, pool: tuple, strides: tuple, padding: tuple) -> tuple:
    """Shares of rows and of columns, the windows that cover each row, whether windows share cells, and whether
    there are cells that none covers."""
    (row_shares, of_rows), (column_shares, _) = (
        along(size[i], pool[i], strides[i], padding[i][0], positions[i]) for i in (0, 1)
    )
    adds = any(taps > stride for taps, stride in zip(pool, strides, strict=True))
    covered = (pool[1], padding[1][0], positions[1] * pool[1]) == (strides[1], 0, size[1])
    return row_shares, column_shares, of_rows, adds, adds or not covered


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
        part, dz, dy, kept, results, all_sums, shape, row_shares, column_shares, of_rows, function, alpha, bounds
    ):
        """A slice of the rows of all images."""
        first, last, sums, tail = bounds[part], bounds[part + 1], all_sums[part], np.zeros(WIDTH, np.uint8)
        H, W, P, Q, C, S = shape[0], shape[1], shape[2], shape[3], shape[4], shape[5]
        stride_p, stride_q, top, left, adds, fills = shape[6], shape[7], shape[8], shape[9], shape[10], shape[11]
        whole, line, done, to = C // WIDTH * WIDTH, W * C, first * W * C, 0
        sums[:] = ZERO
        for row in range(first, last):
            n, h, begin = row // H, row % H, row * line
            p0, p1 = of_rows[0, h], of_rows[1, h]
            if fills or p0 >= p1:
                dz[begin : begin + line] = ZERO
            for p in range(p0, p1):
                for q in range(Q):
                    w = q * stride_q - left
                    skipped = max(0, -w)
                    cells, share = min(S, W - w) - skipped, row_shares[p] * column_shares[q]
                    place = np.float32((h + top - p * stride_p) * S + skipped)
                    i, target = ((n * P + p) * Q + q) * C, begin + (w + skipped) * C
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
            if function:
                call(function, dz, begin, dz, begin, results, begin, line, alpha)
            stop = done + (begin + line - done) // LANES * LANES
            to, done = add_to_period(sums, to, dz, done, stop), stop
        add_to_period(sums, to, dz, done, last * line)

    return spread
