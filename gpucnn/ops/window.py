"""Windows that slide along an axis: the cells they cover, how many fit, and padding "same"."""

from __future__ import annotations

from ..arguments import Count, Natural

Pair = tuple[Count, Count]
"""A number for the rows and one for the columns."""

Ends = tuple[Natural, Natural]
"""Cells before and after an axis."""

Pads = tuple[Ends, ...]
"""Cells before and after each axis."""

ImagePads = tuple[Ends, Ends]
"""Cells above and below an image, and left and right of it."""


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
