"""Pooling window by window: eight channels of a window are combined in a register and written once.

Where the number of channels is not a multiple of eight, the last vector overlaps the one before it,
or what lies behind, which is written later. The gradient of a mean is a sum over the windows that
cover a cell, so that each cell is written once; that of a maximum goes to the first cell that
equals y. Traffic: x read and y written once (for the gradients dy, x and y read and dx written),
while the rows of a window stay in the first-level cache.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.njit import inner, njit
from gpucnn.devices.team import tasks
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.pool2d import avgpool2d, avgpool2d_grad, maxpool2d, maxpool2d_grad

from ..shared.by_name_njit import by_name
from ..shared.pooling_njit import UNROLLED, along
from ..shared.simd_njit import LANES, load, splat, store
from ..shared.slices_launch import SMALLEST
from ..shared.vector_math_njit import INFINITY, ZERO
from ..shared.vector_operators_njit import choose, fma


def _supports(x: Spec, *_: object, **__: object) -> bool:
    return x.dtype == np.float32


def _over_rows(rows: int, size: int, kernel: Any, *arguments: Any) -> None:
    """Run a kernel over slices of so many rows of images, which have `size` values."""
    bounds = threads.bounds(rows, -(-SMALLEST * rows // size))
    kernel(len(bounds) - 1, *arguments, bounds)


def _window(pool: Any, strides: Any, padding: Any) -> tuple[int, ...]:
    return (*pool, *strides, padding[0][0], padding[1][0])


@cache
def _plan(size: tuple[int, ...], positions: tuple[int, ...], window: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Shares of rows and of columns, covering windows of rows and of columns."""
    rows, columns = (along(size[i], window[i], window[2 + i], window[4 + i], positions[i]) for i in (0, 1))
    return rows[0], columns[0], rows[1], columns[1]


@kernel(maxpool2d, "direct", "njit", supports=_supports, compiled=True)
def launch(y, x, *, pool, strides, padding):
    """The largest cell of each window."""
    _forward("max", y, x, _window(pool, strides, padding))


@kernel(avgpool2d, "direct", "njit", supports=_supports, compiled=True)
def launch_mean(y, x, *, pool, strides, padding):
    """The sum of each window, times its share."""
    _forward("mean", y, x, _window(pool, strides, padding))


def _forward(name: str, y: np.ndarray, x: np.ndarray, window: tuple[int, ...]) -> None:
    shares = _plan(x.shape[1:3], y.shape[1:3], window)[:2]
    rows, combine = y.shape[0] * y.shape[1], _combining(name, *_unrolled(window))
    _over_rows(rows, x.size, combine, y.reshape(-1), x.reshape(-1), x.shape, y.shape, window, *shares)


def _unrolled(window: tuple[int, ...]) -> tuple[int, int]:
    """The taps of a window for which there is code without loops over them; (0, 0) for a large
    one."""
    return window[:2] if window[0] * window[1] <= UNROLLED else (0, 0)


@kernel(maxpool2d_grad, "direct", "njit", supports=_supports, compiled=True)
def launch_grad(dx, dy, x, y, *, pool, strides, padding):
    """Each dy to one cell of its window: written where windows lie side by side, else added."""
    flat = [a.reshape(-1) for a in (dx, dy, x, y)]
    if tuple(pool) == tuple(strides) and not any(map(any, padding)):
        _over_rows(y.shape[0] * y.shape[1], x.size, _apart(*pool), *flat, x.shape, y.shape)
        return
    window = _window(pool, strides, padding)
    _over_rows(len(x), x.size, _adding(*_unrolled(window)), *flat, x.shape, y.shape, window)


@kernel(avgpool2d_grad, "direct", "njit", supports=_supports, compiled=True)
def launch_mean_grad(dx, dy, *, size, pool, strides, padding):
    """Each cell the sum of its windows' shares; of one where windows lie side by side."""
    plan = _plan(tuple(size), dy.shape[1:3], _window(pool, strides, padding))
    if tuple(pool) == tuple(strides) and not any(map(any, padding)):
        flat, share = (dx.reshape(-1), dy.reshape(-1)), plan[0][0] * plan[1][0]
        _over_rows(len(dy) * dy.shape[1], dx.size, _spreading(*pool), *flat, dx.shape, dy.shape, share)
        return
    rows = dx.shape[0] * dx.shape[1]
    _over_rows(rows, dx.size, _from_all, dx.reshape(-1), dy.reshape(-1), dx.shape, dy.shape, *plan)


_combined = by_name(
    {
        "max": njit(forceinline=True)(
            lambda value, best: choose(value > best, value, choose(value == value, best, value))
        ),
        "mean": njit(forceinline=True)(lambda value, total: value + total),
    }
)
_START = {"max": -INFINITY, "mean": ZERO}
_finished = by_name(
    {
        "max": njit(forceinline=True)(lambda best, share: best),
        "mean": njit(forceinline=True)(lambda total, share: total * share),
    }
)


@inner
def _whole_windows(row, last, x_size, x_shape, y_shape, window):
    """The first of the windows of a row that lie inside the image, and the end of those whose vectors lie
    inside both arrays: lanes beyond the channels are written again by the next windows."""
    _, H, W, C = x_shape
    _, P, Q, _ = y_shape
    taps_r, taps_s, stride_p, stride_q, top, left = window
    n, h = row // P, row % P * stride_p - top
    if h < 0 or h + taps_r > H:
        return 0, 0
    begin, end = (left + stride_q - 1) // stride_q, (W - taps_s + left) // stride_q + 1
    if C < LANES:
        cells, results = (x_size - LANES) // C, (last * Q * C - LANES) // C
        last_cell = ((n * H + h + taps_r - 1) * W + taps_s - 1) - left
        end = min(end, (cells - last_cell) // stride_q + 1, results - row * Q + 1)
    return begin, min(Q, end)


@cache
def _combining(name, R, S):
    start = float(_START[name])

    @tasks
    def combine_windows(part, y, x, x_shape, y_shape, window, row_shares, column_shares, bounds):
        """A slice of the rows of all images' windows."""
        first, last = bounds[part], bounds[part + 1]
        taps_r, taps_s, stride_p, stride_q, top, left = window
        _, H, W, C = x_shape
        _, P, Q, _ = y_shape
        vectors, line = (C + LANES - 1) // LANES, W * C
        height, width = (R, S) if R else (taps_r, taps_s)
        for row in range(first, last):
            n, p = row // P, row % P
            h0, h1 = max(0, p * stride_p - top), min(H, p * stride_p - top + taps_r)
            begin, end = _whole_windows(row, last, len(x), x_shape, y_shape, window)
            q = 0
            while q < Q:
                w0, w1 = max(0, q * stride_q - left), min(W, q * stride_q - left + taps_s)
                share = row_shares[p] * column_shares[q]
                corner, target = (n * H + h0) * line + w0 * C, (row * Q + q) * C
                if q == begin and begin < end:
                    for _ in range(begin, end):
                        for vector in range(vectors):
                            c = max(0, min(vector * LANES, C - LANES))
                            value = splat(np.float32(start))
                            for r in range(height):
                                for s in range(width):
                                    value = _combined(name, load(x, corner + r * line + s * C + c), value)
                            store(y, target + c, _finished(name, value, share))
                        corner += stride_q * C
                        target += C
                    q = end
                    continue
                for vector in range(vectors if C >= LANES else 0):
                    c = min(vector * LANES, C - LANES)
                    value = splat(np.float32(start))
                    for r in range(h1 - h0):
                        for s in range(w1 - w0):
                            value = _combined(name, load(x, corner + r * line + s * C + c), value)
                    store(y, target + c, _finished(name, value, share))
                for c in range(C if C < LANES else 0):
                    single = np.float32(start)
                    for r in range(h1 - h0):
                        for s in range(w1 - w0):
                            single = _combined(name, x[corner + r * line + s * C + c], single)
                    y[target + c] = _finished(name, single, share)
                q += 1

    return combine_windows


@tasks
def _from_all(part, dx, dy, x_shape, y_shape, row_shares, column_shares, of_rows, of_columns, bounds):
    """A slice of the rows of all images."""
    first, last = bounds[part], bounds[part + 1]
    _, H, W, C = x_shape
    _, P, Q, _ = y_shape
    for row in range(first, last):
        n, h = row // H, row % H
        p0, p1 = of_rows[0, h], of_rows[1, h]
        for w in range(W):
            q0, q1 = of_columns[0, w], of_columns[1, w]
            target = (row * W + w) * C
            vectors = (C + LANES - 1) // LANES
            if C < LANES:  # lanes beyond the channels are written again by the next cells
                end = ((n * P + p1 - 1) * Q + q1 - 1) * C + LANES
                vectors = 1 if end <= len(dy) and target + LANES <= last * W * C else 0
            for vector in range(vectors):
                c = max(0, min(vector * LANES, C - LANES))
                total = splat(ZERO)
                for p in range(p0, p1):
                    for q in range(q0, q1):
                        total = fma(load(dy, ((n * P + p) * Q + q) * C + c), row_shares[p] * column_shares[q], total)
                store(dx, target + c, total)
            for c in range(0 if vectors else C):
                single = ZERO
                for p in range(p0, p1):
                    for q in range(q0, q1):
                        single = fma(dy[((n * P + p) * Q + q) * C + c], row_shares[p] * column_shares[q], single)
                dx[target + c] = single


@inner
def _vectors_and_tail(C, is_one_vector):
    """How many vectors a cell has, and from which channel on its values are taken one by one. One vector may
    hold fewer channels: its lanes beyond them are written again by the next cells."""
    return (1, C) if is_one_vector else (C // LANES, C // LANES * LANES)


@cache
def _apart(R, S):
    @tasks
    def write_to_the_first(part, dx, dy, x, y, x_shape, y_shape, bounds):
        """A slice of the rows of all images' windows, which lie side by side."""
        first, last = bounds[part], bounds[part + 1]
        _, H, W, C = x_shape
        _, P, Q, _ = y_shape
        for row in range(first, last):
            n, p = row // P, row % P
            for q in range(Q):
                corner, source = ((n * H + p * R) * W + q * S) * C, (row * Q + q) * C
                is_one_vector = C < LANES and source + LANES <= len(y) and (q * S + S - 1) * C + LANES <= W * C
                vectors, tail = _vectors_and_tail(C, is_one_vector)
                for vector in range(vectors):
                    c = vector * LANES
                    best, rest, nothing = load(y, source + c), load(dy, source + c), splat(ZERO)
                    for r in range(R):
                        for s in range(S):
                            cell = corner + (r * W + s) * C + c
                            hit = load(x, cell) == best
                            store(dx, cell, choose(hit, rest, nothing))
                            rest = choose(hit, nothing, rest)
                for c in range(tail, C):
                    single, left_over = y[source + c], dy[source + c]
                    for r in range(R):
                        for s in range(S):
                            cell = corner + (r * W + s) * C + c
                            found = x[cell] == single
                            dx[cell] = choose(found, left_over, ZERO)
                            left_over = choose(found, ZERO, left_over)
            _clear_rest(dx, n, p, R, S, x_shape, y_shape)

    return write_to_the_first


@inner
def _clear_rest(dx, n, p, R, S, x_shape, y_shape):
    """Zeros to the right of windows that lie side by side and, after the last row of them, below."""
    _, H, W, C = x_shape
    _, P, Q, _ = y_shape
    for h in range(p * R, p * R + R):
        dx[((n * H + h) * W + Q * S) * C : (n * H + h + 1) * W * C] = ZERO
    if p == P - 1:
        dx[(n * H + P * R) * W * C : (n + 1) * H * W * C] = ZERO


@cache
def _spreading(R, S):
    @tasks
    def spread(part, dx, dy, x_shape, y_shape, share, bounds):
        """A slice of the rows of all images' windows, which lie side by side."""
        _, H, W, C = x_shape
        _, P, Q, _ = y_shape
        for row in range(bounds[part], bounds[part + 1]):
            n, p = row // P, row % P
            for q in range(Q):
                corner, source = ((n * H + p * R) * W + q * S) * C, (row * Q + q) * C
                is_one_vector = C < LANES and source + LANES <= len(dy) and (q * S + S - 1) * C + LANES <= W * C
                vectors, tail = _vectors_and_tail(C, is_one_vector)
                for vector in range(vectors):
                    c = vector * LANES
                    value = load(dy, source + c) * splat(share)
                    for r in range(R):
                        for s in range(S):
                            store(dx, corner + (r * W + s) * C + c, value)
                for c in range(tail, C):
                    single = dy[source + c] * share
                    for r in range(R):
                        for s in range(S):
                            dx[corner + (r * W + s) * C + c] = single
            _clear_rest(dx, n, p, R, S, x_shape, y_shape)

    return spread


@cache
def _adding(R, S):
    @tasks
    def add_to_the_first(part, dx, dy, x, y, x_shape, y_shape, window, bounds):
        """A slice of the images."""
        first, last = bounds[part], bounds[part + 1]
        taps_r, taps_s, stride_p, stride_q, top, left = window
        _, H, W, C = x_shape
        _, P, Q, _ = y_shape
        channels = np.zeros(LANES, np.float32)
        channels[:C] = np.float32(1)
        for n in range(first, last):
            image_end = (n + 1) * H * W * C
            dx[n * H * W * C : image_end] = ZERO
            for p in range(P):
                h0, h1 = max(0, p * stride_p - top), min(H, p * stride_p - top + taps_r)
                for q in range(Q):
                    w0, w1 = max(0, q * stride_q - left), min(W, q * stride_q - left + taps_s)
                    corner, source = ((n * H + h0) * W + w0) * C, ((n * P + p) * Q + q) * C
                    vectors, tail = C // LANES, C // LANES * LANES
                    if C < LANES:  # 0 is added to what lies beyond the channels
                        end = corner + ((h1 - h0 - 1) * W + w1 - w0 - 1) * C + LANES
                        if end <= image_end and source + LANES <= len(y):
                            vectors, tail = 1, C
                    whole = h1 - h0 == R and w1 - w0 == S
                    for vector in range(vectors):
                        c, nothing = vector * LANES, splat(ZERO)
                        best, rest = load(y, source + c), load(dy, source + c)
                        if C < LANES:
                            rest = choose(load(channels, 0) > ZERO, rest, nothing)
                        if whole:
                            for r in range(R):
                                for s in range(S):
                                    cell = corner + (r * W + s) * C + c
                                    hit = load(x, cell) == best
                                    store(dx, cell, load(dx, cell) + choose(hit, rest, nothing))
                                    rest = choose(hit, nothing, rest)
                        else:
                            for r in range(h1 - h0):
                                for s in range(w1 - w0):
                                    cell = corner + (r * W + s) * C + c
                                    hit = load(x, cell) == best
                                    store(dx, cell, load(dx, cell) + choose(hit, rest, nothing))
                                    rest = choose(hit, nothing, rest)
                    for c in range(tail, C):
                        single, left_over = y[source + c], dy[source + c]
                        for r in range(h1 - h0):
                            for s in range(w1 - w0):
                                cell = corner + (r * W + s) * C + c
                                found = x[cell] == single
                                dx[cell] += choose(found, left_over, ZERO)
                                left_over = choose(found, ZERO, left_over)

    return add_to_the_first
