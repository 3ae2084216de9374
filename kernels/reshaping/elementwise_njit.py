"""Padding and cropping by runs of values that stay together in memory, transposing in tiles.

Axes that stay together are merged first (`shared/axes_launch.py`), so that a run is as long as can
be: a row of an image, with its channels. A transposed matrix is read and written in tiles that fit
into the first-level cache. Traffic: x read and y written once.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.team import tasks
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.reshaping import crop, pad, transpose

from ..shared.axes_launch import NARROW, matrices, padded_axes, transposed_axes
from ..shared.simd_njit import copy
from ..shared.slices_launch import SMALLEST

TILE = 16

_CROPPED = np.array([[1], [1], [-1]])
"""Cropping is padding by negative numbers of cells, from the larger extents to the smaller ones."""


def _float32(x: Spec, **_: Any) -> bool:
    return x.dtype == np.float32


def _over_rows(rows: int, size: int, function: Any, *arguments: Any) -> None:
    """Run a kernel over slices of so many rows, which have `size` values."""
    bounds = threads.bounds(rows, -(-SMALLEST * rows // size))
    function(len(bounds) - 1, *arguments, bounds)


@kernel(pad, "elementwise", "njit", supports=_float32, compiled=True)
def launch_pad(y, x, *, padding):
    _shift(y, x, _padding(x.shape, padding))


@kernel(crop, "elementwise", "njit", supports=_float32, compiled=True)
def launch_crop(y, x, *, padding):
    _shift(y, x, _padding(y.shape, padding)[[1, 0, 2]] * _CROPPED)


@cache
def _padding(shape: tuple[int, ...], padding: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Extents without and with padding, and the cells before, of axes that stay together."""
    return np.array(padded_axes(shape, padding))


def _shift(y: np.ndarray, x: np.ndarray, axes: np.ndarray) -> None:
    _over_rows(y.size // int(axes[1, -1]), y.size, _runs, y.reshape(-1), x.reshape(-1), axes)


@kernel(transpose, "elementwise", "njit", supports=_float32, compiled=True)
def launch_transpose(y, x, *, axes):
    batch, numbers = _order(x.shape, axes)
    flat = y.reshape(-1), x.reshape(-1)
    if batch:
        count, M, N = batch
        strips = -(-N // TILE)
        _over_rows(count * strips, y.size, _tiles, *flat, M, N, strips)
    else:
        _over_rows(y.size // int(numbers[0, -2] * numbers[0, -1]), y.size, _values, *flat, numbers)


@cache
def _order(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[tuple[int, int, int] | None, np.ndarray]:
    """(batch, M, N) if matrices are transposed that fill tiles, else None; and the extents of y and
    the steps in x along them, of two axes or more that stay together."""
    extents, steps = transposed_axes(shape, axes)
    batch = matrices(extents, steps)
    if batch and min(batch[1:]) < NARROW:
        batch = None
    return batch, np.array([[1, *extents], [0, *steps]])


@tasks
def _runs(part, y, x, axes, bounds):
    """A slice of the rows of y along its last axis."""
    inside, outside, before = axes[0], axes[1], axes[2]
    end = len(outside) - 1
    begin, stop = max(0, before[end]), min(outside[end], before[end] + inside[end])
    for row in range(bounds[part], bounds[part + 1]):
        rest, at, step, fits = row, 0, inside[end], True
        for axis in range(end - 1, -1, -1):
            cell = rest % outside[axis] - before[axis]
            rest //= outside[axis]
            fits = fits and 0 <= cell < inside[axis]
            at += cell * step
            step *= inside[axis]
        target = row * outside[end]
        if not fits:
            y[target : target + outside[end]] = np.float32(0)
            continue
        y[target : target + begin] = np.float32(0)
        copy(y, target + begin, x, at + begin - before[end], stop - begin)
        y[target + stop : target + outside[end]] = np.float32(0)


@tasks
def _values(part, y, x, axes, bounds):
    """A slice of the matrices of the last two axes of y, value by value."""
    extents, steps = axes[0], axes[1]
    end = len(extents) - 1
    P, Q, step_p, step_q = extents[end - 1], extents[end], steps[end - 1], steps[end]
    for matrix in range(bounds[part], bounds[part + 1]):
        rest, at = matrix, 0
        for axis in range(end - 2, -1, -1):
            at += rest % extents[axis] * steps[axis]
            rest //= extents[axis]
        if Q < NARROW:
            for q in range(Q):
                for p in range(P):
                    y[(matrix * P + p) * Q + q] = x[at + p * step_p + q * step_q]
            continue
        for p in range(P):
            target = (matrix * P + p) * Q
            for q in range(Q):
                y[target + q] = x[at + p * step_p + q * step_q]


@tasks
def _tiles(part, y, x, M, N, strips, bounds):
    """A slice of the strips of all matrices (M, N): `TILE` rows of the transposed one each."""
    for strip in range(bounds[part], bounds[part + 1]):
        start = strip // strips * M * N
        n0 = strip % strips * TILE
        n1 = min(N, n0 + TILE)
        for m0 in range(0, M, TILE):
            for n in range(n0, n1):
                for m in range(m0, min(M, m0 + TILE)):
                    y[start + n * M + m] = x[start + m * N + n]
