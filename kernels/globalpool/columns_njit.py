"""Pooling over all positions of an image: its rows are taken side by side, so that few channels fill
vectors too, and what they yield is folded.

Sums are in float64. Traffic: x read once (for the gradient of a maximum twice), dx written once.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.njit import inner, njit
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.globalpool import globalavgpool, globalavgpool_grad, globalmaxpool, globalmaxpool_grad

from ..shared.columns_njit import column_sums, repeat, width
from ..shared.slices_launch import in_slices
from ..shared.vector_math_njit import INFINITY, ZERO
from ..shared.vector_operators_njit import choose


def _supports(x: Spec, *_: Spec, **__: int) -> bool:
    return x.dtype == np.float32


@kernel(globalavgpool, "columns", "njit", supports=_supports, compiled=True)
def launch(y, x):
    in_slices(_mean, (y, x), width(x[0].size, x.shape[2]))


@kernel(globalavgpool_grad, "columns", "njit", supports=_supports, compiled=True)
def launch_grad(dx, dy, *, count):
    in_slices(_spread, (dx, dy), width(min(dx[0].size, 1 << 10), dy.shape[1]))


@kernel(globalmaxpool, "columns", "njit", supports=_supports, compiled=True)
def launch_max(y, x):
    in_slices(_largest, (y, x), width(x[0].size, x.shape[2]))


@kernel(globalmaxpool_grad, "columns", "njit", supports=_supports, compiled=True)
def launch_max_grad(dx, dy, x):
    in_slices(_to_the_first, (dx, dy, x), width(x[0].size, x.shape[2]))


@inner
def _mean(y, x, wide):
    N, M, C = x.shape
    sums = np.empty(wide)
    for n in range(N):
        column_sums(sums, x[n].reshape(-1))
        for c in range(C):
            total = 0.0
            for j in range(c, wide, C):
                total += sums[j]
            y[n, c] = total / M


@inner
def _spread(dx, dy, wide):
    N, M, C = dx.shape
    row, shares = np.empty(wide, np.float32), np.empty(C, np.float32)
    for n in range(N):
        for c in range(C):
            shares[c] = dy[n, c] / np.float32(M)
        repeat(row, shares)
        flat = dx[n].reshape(-1)
        for start in range(0, M * C, wide):
            part = flat[start : start + wide]
            for j in range(len(part)):
                part[j] = row[j]


@njit(forceinline=True)
def _larger(value, best):
    """The larger of both; a NaN is larger than any number."""
    return choose(value > best, value, choose(value == value, best, value))


@njit(forceinline=True)
def _largest_of(most, lanes, image):
    """most (C,) = the largest value of each channel, by way of `lanes` (width,)."""
    C, wide = len(most), len(lanes)
    flat = image.reshape(-1)
    lanes[:] = -INFINITY
    for start in range(0, len(flat), wide):
        values = flat[start : start + wide]
        for j in range(len(values)):
            lanes[j] = _larger(values[j], lanes[j])
    for c in range(C):
        best = lanes[c]
        for j in range(c, wide, C):
            best = _larger(lanes[j], best)
        most[c] = best


@inner
def _largest(y, x, wide):
    lanes = np.empty(wide, np.float32)
    for n in range(len(x)):
        _largest_of(y[n], lanes, x[n])


@njit(forceinline=True)
def _beats(value, best):
    return (value > best) | ((value != value) & (best == best))


@inner
def _to_the_first(dx, dy, x, wide):
    """Each lane keeps its largest value and where it met that first."""
    N, M, C = x.shape
    lanes, places = np.empty(wide, np.float32), np.empty(wide, np.int32)
    for n in range(N):
        values, slopes = x[n].reshape(-1), dx[n].reshape(-1)
        slopes[:] = ZERO
        lanes[:] = values[:wide]
        for j in range(wide):
            places[j] = j
        for start in range(wide, M * C, wide):
            part, place = values[start : start + wide], np.int32(start)
            for j in range(len(part)):
                better = _beats(part[j], lanes[j])
                places[j] = place + np.int32(j) if better else places[j]
                lanes[j] = part[j] if better else lanes[j]
        for c in range(C):
            first = c
            for j in range(c + C, wide, C):
                equal = (lanes[j] == lanes[first]) | ((lanes[j] != lanes[j]) & (lanes[first] != lanes[first]))
                if _beats(lanes[j], lanes[first]) or (equal and places[j] < places[first]):
                    first = j
            slopes[places[first]] = dy[n, c]
