"""Pooling window by window: eight channels of a window are combined in a register and written once.

Where the number of channels is not a multiple of eight, the last vector of a forward pass overlaps
the one before it. The gradient of a mean is a sum over the windows that cover a cell, so that each
cell is written once; that of a maximum goes to the first cell that equals y. Traffic: x read and y
written once (for the gradients dy, x and y read and dx written), while the rows of a window stay in
the first-level cache.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.njit import njit
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.pool2d import avgpool2d, avgpool2d_grad, maxpool2d, maxpool2d_grad

from ..shared.by_name_njit import by_name
from ..shared.simd_njit import LANES, load, splat, store
from ..shared.slices_launch import SMALLEST
from ..shared.vector_math_njit import INFINITY, ZERO
from ..shared.vector_operators_njit import choose, fma


def _supports(x: Spec, *_: object, **__: object) -> bool:
    return x.dtype == np.float32


def _over_rows(rows: int, size: int, task: Any) -> None:
    """Call task(first, last) for slices of so many rows of images, which have `size` values."""
    slices = threads.slices(rows, -(-SMALLEST * rows // size))
    threads.run(lambda i: task(slices[i].start, slices[i].stop), len(slices))


def _window(pool: Any, strides: Any, padding: Any) -> tuple[int, ...]:
    return (*pool, *strides, padding[0][0], padding[1][0])


def _shares(size: int, window: int, stride: int, before: int, count: int) -> np.ndarray:
    """For each position of a window, 1 / the number of its cells inside the image."""
    first = np.arange(count) * stride - before
    return (1.0 / (np.minimum(first + window, size) - np.maximum(first, 0))).astype(np.float32)


def _both_shares(size: Any, positions: Any, window: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = (_shares(size[i], window[i], window[2 + i], window[4 + i], positions[i]) for i in (0, 1))
    return rows, columns


@kernel(maxpool2d, "direct", "njit", supports=_supports)
def launch(y, x, *, pool, strides, padding):
    """The largest cell of each window."""
    _forward("max", y, x, _window(pool, strides, padding))


@kernel(avgpool2d, "direct", "njit", supports=_supports)
def launch_mean(y, x, *, pool, strides, padding):
    """The sum of each window, times its share."""
    _forward("mean", y, x, _window(pool, strides, padding))


def _forward(name: str, y: np.ndarray, x: np.ndarray, window: tuple[int, ...]) -> None:
    shares = _both_shares(x.shape[1:3], y.shape[1:3], window)
    flat, run = (y.reshape(-1), x.reshape(-1), x.shape, y.shape, window, *shares), _combining(name)
    _over_rows(y.shape[0] * y.shape[1], x.size, lambda first, last: run(*flat, first, last))


@kernel(maxpool2d_grad, "direct", "njit", supports=_supports)
def launch_grad(dx, dy, x, y, *, pool, strides, padding):
    """Each dy added to one cell of its window."""
    flat = tuple(a.reshape(-1) for a in (dx, dy, x, y))
    window = _window(pool, strides, padding)
    _over_rows(len(x), x.size, lambda first, last: _to_the_first(*flat, x.shape, y.shape, window, first, last))


@kernel(avgpool2d_grad, "direct", "njit", supports=_supports)
def launch_mean_grad(dx, dy, *, size, pool, strides, padding):
    """Each cell the sum of its windows' shares."""
    window = _window(pool, strides, padding)
    shares = _both_shares(size, dy.shape[1:3], window)
    flat = (dx.reshape(-1), dy.reshape(-1), dx.shape, dy.shape, window, *shares)
    _over_rows(dx.shape[0] * dx.shape[1], dx.size, lambda first, last: _from_all(*flat, first, last))


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


@cache
def _combining(name):
    start = float(_START[name])

    @njit(nogil=True, cache=True, error_model="numpy")
    def combine_windows(y, x, x_shape, y_shape, window, row_shares, column_shares, first, last):
        """Rows first … last - 1 of all images' windows."""
        taps_r, taps_s, stride_p, stride_q, top, left = window
        _, H, W, C = x_shape
        _, P, Q, _ = y_shape
        whole = C // LANES * LANES
        vectors = (C + LANES - 1) // LANES if whole else 0
        for row in range(first, last):
            n, p = row // P, row % P
            h0, h1 = max(0, p * stride_p - top), min(H, p * stride_p - top + taps_r)
            for q in range(Q):
                w0, w1 = max(0, q * stride_q - left), min(W, q * stride_q - left + taps_s)
                share = row_shares[p] * column_shares[q]
                corner, target = ((n * H + h0) * W + w0) * C, (row * Q + q) * C
                for vector in range(vectors):
                    c = min(vector * LANES, C - LANES)
                    value = splat(np.float32(start))
                    for r in range(h1 - h0):
                        for s in range(w1 - w0):
                            value = _combined(name, load(x, corner + (r * W + s) * C + c), value)
                    store(y, target + c, _finished(name, value, share))
                for c in range(0 if vectors else C):
                    single = np.float32(start)
                    for r in range(h1 - h0):
                        for s in range(w1 - w0):
                            single = _combined(name, x[corner + (r * W + s) * C + c], single)
                    y[target + c] = _finished(name, single, share)

    return combine_windows


@njit(nogil=True, cache=True, error_model="numpy")
def _from_all(dx, dy, x_shape, y_shape, window, row_shares, column_shares, first, last):
    """Rows first … last - 1 of all images."""
    taps_r, taps_s, stride_p, stride_q, top, left = window
    _, H, W, C = x_shape
    _, P, Q, _ = y_shape
    whole = C // LANES * LANES
    vectors = (C + LANES - 1) // LANES if whole else 0
    for row in range(first, last):
        n, h = row // H, row % H
        p0, p1 = max(0, (h + top - taps_r) // stride_p + 1), min(P, (h + top) // stride_p + 1)
        for w in range(W):
            q0, q1 = max(0, (w + left - taps_s) // stride_q + 1), min(Q, (w + left) // stride_q + 1)
            target = (row * W + w) * C
            for vector in range(vectors):
                c = min(vector * LANES, C - LANES)
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


@njit(nogil=True, cache=True, error_model="numpy")
def _to_the_first(dx, dy, x, y, x_shape, y_shape, window, first, last):
    """Images first … last - 1."""
    taps_r, taps_s, stride_p, stride_q, top, left = window
    _, H, W, C = x_shape
    _, P, Q, _ = y_shape
    whole = C // LANES * LANES
    for n in range(first, last):
        dx[n * H * W * C : (n + 1) * H * W * C] = ZERO
        for p in range(P):
            h0, h1 = max(0, p * stride_p - top), min(H, p * stride_p - top + taps_r)
            for q in range(Q):
                w0, w1 = max(0, q * stride_q - left), min(W, q * stride_q - left + taps_s)
                corner, source = ((n * H + h0) * W + w0) * C, ((n * P + p) * Q + q) * C
                for vector in range(whole // LANES):
                    c = vector * LANES
                    best, rest, nothing = load(y, source + c), load(dy, source + c), splat(ZERO)
                    for r in range(h1 - h0):
                        for s in range(w1 - w0):
                            cell = corner + (r * W + s) * C + c
                            hit = load(x, cell) == best
                            store(dx, cell, load(dx, cell) + choose(hit, rest, nothing))
                            rest = choose(hit, nothing, rest)
                for c in range(whole, C):
                    single, left_over = y[source + c], dy[source + c]
                    for r in range(h1 - h0):
                        for s in range(w1 - w0):
                            cell = corner + (r * W + s) * C + c
                            if x[cell] == single:
                                dx[cell] += left_over
                                left_over = ZERO
