"""Enlarging by whole factors, row by row of the larger array: the innermost loop runs over the
channels of one cell.

Cells repeated are copied; interpolated ones are the shares of two rows and two columns, whose places
are looked up in tables made once for a call. Traffic: the smaller array is read from the cache, the
larger one passes once.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from gpucnn.devices.njit import inner
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.upsampling import between, enlarge, enlarge_grad, repeat, repeat_grad

from ..shared.slices_launch import in_slices

ZERO, ONE = np.float32(0), np.float32(1)


def _supports(x: Spec, *, size: tuple[int, ...]) -> bool:
    return x.dtype == np.float32


@kernel(repeat, "elementwise", "njit", supports=_supports, compiled=True)
def launch_repeat(y, x, *, size):
    in_slices(_repeat, (y, x), *size)


@inner
def _repeat(y, x, a, b, c):
    N, D, H, W, C = y.shape
    for n in range(N):
        for d in range(D):
            for h in range(H):
                for w in range(W):
                    for k in range(C):
                        y[n, d, h, w, k] = x[n, d // a, h // b, w // c, k]


@kernel(repeat_grad, "elementwise", "njit", supports=_supports, compiled=True)
def launch_repeat_grad(dx, dy, *, size):
    in_slices(_repeat_grad, (dx, dy), *size)


@inner
def _repeat_grad(dx, dy, a, b, c):
    N, D, H, W, C = dy.shape
    dx[...] = ZERO
    for n in range(N):
        for d in range(D):
            for h in range(H):
                for w in range(W):
                    for k in range(C):
                        dx[n, d // a, h // b, w // c, k] += dy[n, d, h, w, k]


@cache
def _places(extent: int, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """The two cells of each place of an enlarged axis, and the share of the second."""
    low, high, share = between(extent, factor)
    return np.stack([low, high]), share.astype(np.float32)


@kernel(enlarge, "elementwise", "njit", supports=_supports, compiled=True)
def launch_enlarge(y, x, *, size):
    in_slices(_enlarge, (y, x), *_places(x.shape[1], size[0]), *_places(x.shape[2], size[1]))


@inner
def _enlarge(y, x, rows, down, columns, along):
    N, P, Q, C = y.shape
    for n in range(N):
        for p in range(P):
            top, bottom = rows[0, p], rows[1, p]
            for q in range(Q):
                left, right, share = columns[0, q], columns[1, q], along[q]
                for c in range(C):
                    above = x[n, top, left, c] * (ONE - share) + x[n, top, right, c] * share
                    below = x[n, bottom, left, c] * (ONE - share) + x[n, bottom, right, c] * share
                    y[n, p, q, c] = above * (ONE - down[p]) + below * down[p]


@kernel(enlarge_grad, "elementwise", "njit", supports=_supports, compiled=True)
def launch_enlarge_grad(dx, dy, *, size):
    in_slices(_enlarge_grad, (dx, dy), *_places(dx.shape[1], size[0]), *_places(dx.shape[2], size[1]))


@inner
def _enlarge_grad(dx, dy, rows, down, columns, along):
    N, P, Q, C = dy.shape
    dx[...] = ZERO
    for n in range(N):
        for p in range(P):
            top, bottom = rows[0, p], rows[1, p]
            for q in range(Q):
                left, right, share = columns[0, q], columns[1, q], along[q]
                for c in range(C):
                    above, below = dy[n, p, q, c] * (ONE - down[p]), dy[n, p, q, c] * down[p]
                    dx[n, top, left, c] += above * (ONE - share)
                    dx[n, top, right, c] += above * share
                    dx[n, bottom, left, c] += below * (ONE - share)
                    dx[n, bottom, right, c] += below * share
