"""Windows that slide along an axis: the cells they cover, how many fit, and padding "same"; and windows of
2 × 2 side by side."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arguments import Count, Natural

Pair = tuple[Count, Count]
"""A number for the rows and one for the columns."""

Extents = tuple[Count, ...]
"""A number for each axis."""

Ends = tuple[Natural, Natural]
"""Cells before and after an axis."""

Pads = tuple[Ends, ...]
"""Cells before and after each axis."""

ImagePads = tuple[Ends, Ends]
"""Cells above and below an image, and left and right of it."""


class Sliding(NamedTuple):
    """How a layer reads one axis: through a window of `size` cells that slides along it.

    padding  cells before and after the axis; negative ones are cut off
    """

    size: int = 1
    stride: int = 1
    dilation: int = 1
    padding: tuple[int, int] = (0, 0)


def span(window: int, dilation: int) -> int:
    """Cells from the first to the last tap of a window, both included."""
    return (window - 1) * dilation + 1


def positions(size: int, window: int, stride: int, dilation: int = 1, padding: tuple[int, int] = (0, 0)) -> int:
    """The number of windows that fit along an axis of `size` cells."""
    return max((size + sum(padding) - span(window, dilation)) // stride + 1, 0)


def same_padding(size: int, window: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Cells before and after an axis that let ⌈size / stride⌉ windows fit; the odd one is last."""
    total = max((-(-size // stride) - 1) * stride + span(window, dilation) - size, 0)
    return total // 2, total - total // 2


def cells(tap: int, count: int, stride: int, dilation: int = 1) -> slice:
    """The cells of a padded axis that one tap of a window covers at `count` positions, in order."""
    first = tap * dilation
    return slice(first, first + (count - 1) * stride + 1, stride)


def pooled(y: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(N, P, Q, K) → (N, P // 2, Q // 2, K)."""
    n, p, q, k = y
    return n, p // 2, q // 2, k


def largest_cells(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The maximum of each 2×2 window, and which of its cells is the first that holds it."""
    n, p, q, k = pooled(z.shape)
    windows = z[:, : 2 * p, : 2 * q].reshape(n, p, 2, q, 2, k).transpose(0, 1, 3, 5, 2, 4).reshape(n, p, q, k, 4)
    index = windows.argmax(axis=-1)
    return np.take_along_axis(windows, index[..., None], axis=-1)[..., 0], index


def at_cells(dy: np.ndarray, index: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """dy at the cells of 2×2 windows that index names, 0 elsewhere, of this shape."""
    _, p, q, _ = dy.shape
    dz = np.zeros(shape, dy.dtype)
    for cell in range(4):
        row, column = divmod(cell, 2)
        dz[:, row : 2 * p : 2, column : 2 * q : 2] = np.where(index == cell, dy, 0)
    return dz
