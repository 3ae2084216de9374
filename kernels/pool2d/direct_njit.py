"""Max pooling window by window, all channels of a cell at once; the gradient goes to the first cell
that equals y.

Traffic: x read once, y written once (and for the gradient x, y and dy read and dx written once),
while the rows of a window stay in the first-level cache. Images are independent, so slices of the
batch need no sums.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.njit import njit
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.pool2d import maxpool2d, maxpool2d_grad

_SMALL = 1 << 16
"""Below this many values a second thread costs more than it brings."""

_FLOAT32 = np.dtype(np.float32)


def _supports(x: Spec, *_: object, **__: object) -> bool:
    return x.dtype == _FLOAT32


def _over_slices(images: int, size: int, task: Callable[[int, int], None]) -> None:
    slices = threads.slices(images)
    threads.run(lambda i: task(slices[i].start, slices[i].stop), len(slices), parallel=size > _SMALL)


@kernel(maxpool2d, "direct", "njit", supports=_supports)
def launch(y, x, *, pool, strides, padding):
    """The largest cell of each window."""
    window = (*pool, *strides, padding[0][0], padding[1][0])
    _over_slices(len(x), x.size, lambda first, last: _largest(y, x, window, first, last))


@kernel(maxpool2d_grad, "direct", "njit", supports=_supports)
def launch_grad(dx, dy, x, y, *, pool, strides, padding):
    """Each dy added to one cell of its window."""
    window = (*pool, *strides, padding[0][0], padding[1][0])
    _over_slices(len(x), x.size, lambda first, last: _to_the_first(dx, dy, x, y, window, first, last))


@njit(nogil=True, cache=True, error_model="numpy")
def _largest(y, x, window, first, last):
    taps_r, taps_s, stride_p, stride_q, top, left = window
    _, h, w, channels = x.shape
    for n in range(first, last):
        for p in range(y.shape[1]):
            for q in range(y.shape[2]):
                best = y[n, p, q]
                best[:] = np.float32(-np.inf)
                for r in range(max(0, top - p * stride_p), min(taps_r, h + top - p * stride_p)):
                    for s in range(max(0, left - q * stride_q), min(taps_s, w + left - q * stride_q)):
                        cell = x[n, p * stride_p - top + r, q * stride_q - left + s]
                        for c in range(channels):
                            better = cell[c] > best[c] or cell[c] != cell[c]
                            best[c] = cell[c] if better else best[c]


@njit(nogil=True, cache=True, error_model="numpy")
def _to_the_first(dx, dy, x, y, window, first, last):
    taps_r, taps_s, stride_p, stride_q, top, left = window
    _, h, w, channels = x.shape
    left_over = np.empty(channels, np.float32)
    for n in range(first, last):
        dx[n] = np.float32(0)
        for p in range(y.shape[1]):
            for q in range(y.shape[2]):
                best = y[n, p, q]
                left_over[:] = dy[n, p, q]
                for r in range(max(0, top - p * stride_p), min(taps_r, h + top - p * stride_p)):
                    for s in range(max(0, left - q * stride_q), min(taps_s, w + left - q * stride_q)):
                        cell = x[n, p * stride_p - top + r, q * stride_q - left + s]
                        target = dx[n, p * stride_p - top + r, q * stride_q - left + s]
                        for c in range(channels):
                            hit = cell[c] == best[c]
                            target[c] += left_over[c] if hit else np.float32(0)
                            left_over[c] = np.float32(0) if hit else left_over[c]
