"""The product of an image's patches with a matrix of filters, without ever building the patches.

A tile of four patches by sixteen filters stays in eight registers while the taps run by: two vectors of weights and four
single values of the image feed eight multiply-adds, which keeps the multipliers busy from the first-level cache alone.
The weights are copied once per call into panels of sixteen filters, so that each step reads the next 64 bytes. The bias
is the last row of a panel.

Work: 2 · patches · taps · filters. Traffic: image and result once, the panels once per tile from the second-level cache.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from gpucnn import workers
from gpucnn.op import Spec

from .patches import TILE, Patches
from .simd import LANES, add, at, beats, copy, fma, lane, load, not_positive, select, splat, spread, store, store_bytes

FILTERS = 16
"""Filters in a panel."""

_TILE = TILE * FILTERS
SMALL = 1 << 22
"""Below this many floating-point operations a second thread costs more than it brings."""

FLOAT32 = np.dtype(np.float32)
NONE, RELU, RELU_POOL = range(3)
"""What happens to a finished tile."""


def workspace(images: int, filters: int, *every: Patches) -> tuple[Spec, Spec]:
    """The panels and, for each slice of the batch, a padded image and a tile."""
    taps = max(len(p.taps) for p in every)
    size = max(p.size if p.padded else 0 for p in every)
    slices = len(workers.slices(images))
    return Spec((-(-filters // FILTERS), taps + 1, FILTERS), FLOAT32), Spec((slices, size + _TILE), FLOAT32)


def product(
    y: np.ndarray,
    index: np.ndarray,
    images: np.ndarray,
    matrix: np.ndarray,
    bias: np.ndarray | None,
    patches: Patches,
    epilogue: int,
    panels: np.ndarray,
    scratch: np.ndarray,
) -> None:
    """y (N, …, K) = epilogue(patches of images · matrix (taps, K) + bias (K,)).

    With RELU_POOL the patches come in windows of four, y has one value for each window, and index (uint8, like y) says
    which of the four it was: 0 … 3, or 4 where it is not positive. Otherwise index is any array of bytes.
    """
    taps, filters = matrix.shape
    panels = panels.reshape(-1)[: panels.shape[0] * (taps + 1) * FILTERS].reshape(-1, taps + 1, FILTERS)
    _fill(panels, matrix, bias)
    source, target, places = images.reshape(-1), y.reshape(-1), index.reshape(-1)
    count = len(images)
    outputs = y.size // (count * filters) * (4 if epilogue == RELU_POOL else 1)
    shape = np.array([patches.line, patches.padded, patches.count, outputs, filters, epilogue])
    slices = workers.slices(count)

    def task(i: int) -> None:
        _tiles(
            target, places, source, scratch[i], panels.reshape(-1), patches.rows, patches.pixels, patches.taps,
            patches.targets, shape, slices[i].start, slices[i].stop,
        )  # fmt: skip

    workers.run(task, len(slices), parallel=2 * count * patches.count * taps * filters > SMALL)


def _fill(panels: np.ndarray, matrix: np.ndarray, bias: np.ndarray | None) -> None:
    taps, filters = matrix.shape
    whole = filters // FILTERS
    panels[:whole, :taps] = matrix[:, : whole * FILTERS].reshape(taps, whole, FILTERS).swapaxes(0, 1)
    if filters % FILTERS:
        panels[whole] = 0
        panels[whole, :taps, : filters % FILTERS] = matrix[:, whole * FILTERS :]
    panels[:, taps] = 0
    if bias is not None:
        panels[:whole, taps] = bias[: whole * FILTERS].reshape(whole, FILTERS)
        if filters % FILTERS:
            panels[whole, taps, : filters % FILTERS] = bias[whole * FILTERS :]


@njit(nogil=True, cache=True, error_model="numpy")
def _tiles(y, index, images, scratch, panels, rows, pixels, taps, targets, shape, first, last):
    """The images first … last - 1 of a batch. Numbers in `shape` are read where they are needed, not before the loops:
    what LLVM knows to be constant in a loop it compiles once for each value."""
    line, padded, count, outputs, filters = shape[0], shape[1], shape[2], shape[3], shape[4]
    zero = splat(np.float32(0))
    tile = scratch.shape[0] - 64
    source = images
    origin = 0
    if padded:
        source = scratch
        scratch[:tile] = np.float32(0)
    for n in range(first, last):
        if padded:
            for h in range(rows.shape[0]):
                copy(scratch, rows[h], images, (n * rows.shape[0] + h) * line, line)
        else:
            origin = n * rows.shape[0] * line
        for step in range((count + 3) // 4):
            i = 4 * step
            p0, p1, p2, p3 = pixels[i] + origin, pixels[i + 1] + origin, pixels[i + 2] + origin, pixels[i + 3] + origin
            j = 0
            for panel in range((filters + 15) // 16):
                a0, a1, a2, a3 = zero, zero, zero, zero
                b0, b1, b2, b3 = zero, zero, zero, zero
                for t in range(taps.shape[0]):
                    tap = taps[t]
                    w0, w1 = load(panels, j), load(panels, j + 8)
                    j += 16
                    x = spread(source, p0 + tap)
                    a0, b0 = fma(x, w0, a0), fma(x, w1, b0)
                    x = spread(source, p1 + tap)
                    a1, b1 = fma(x, w0, a1), fma(x, w1, b1)
                    x = spread(source, p2 + tap)
                    a2, b2 = fma(x, w0, a2), fma(x, w1, b2)
                    x = spread(source, p3 + tap)
                    a3, b3 = fma(x, w0, a3), fma(x, w1, b3)
                store(scratch, tile, a0)
                store(scratch, tile + 8, a1)
                store(scratch, tile + 16, a2)
                store(scratch, tile + 24, a3)
                store(scratch, tile + 32, b0)
                store(scratch, tile + 40, b1)
                store(scratch, tile + 48, b2)
                store(scratch, tile + 56, b3)
                for half in range(2):
                    k = 16 * panel + 8 * half
                    bias = load(panels, j + 8 * half)
                    done = tile + 32 * half
                    if shape[5] == 2:
                        o = (n * outputs + i) // 4 * filters + k
                        best = load(scratch, done)
                        place = zero
                        for other in range(1, 4):
                            value = load(scratch, done + 8 * other)
                            better = beats(value, best)
                            best = select(better, value, best)
                            place = select(better, splat(np.float32(other)), place)
                        best = add(best, bias)
                        dead = not_positive(best)
                        best = select(dead, zero, best)
                        place = select(dead, splat(np.float32(4)), place)
                        if filters - k >= 8:
                            store(y, o, best)
                            store_bytes(index, o, place)
                        else:
                            for e in range(filters - k):
                                y[o + e] = lane(best, e)
                                index[o + e] = np.uint8(lane(place, e))
                    else:
                        for m in range(min(4, count - i)):
                            o = (n * outputs + targets[i + m]) * filters + k
                            value = add(load(scratch, done + 8 * m), bias)
                            if shape[5] == 1:
                                value = select(not_positive(value), zero, value)
                            if filters - k >= 8:
                                store(y, o, value)
                            else:
                                for e in range(filters - k):
                                    y[o + e] = lane(value, e)
                j += 16
