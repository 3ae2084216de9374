"""Windows that slide along an axis: which cells they meet, how often they fit, and what padding "same" adds."""

from __future__ import annotations

Pair = tuple[int, int]
"""A number for the rows and one for the columns."""

Pads = tuple[tuple[int, int], ...]
"""Cells before and after each axis."""


def span(window: int, dilation: int) -> int:
    """Cells from the first to the last tap of a window, both included."""
    return (window - 1) * dilation + 1


def positions(size: int, window: int, stride: int, dilation: int = 1, padding: tuple[int, int] = (0, 0)) -> int:
    """How many windows fit along an axis of `size` cells; 0 if none does."""
    return max((size + sum(padding) - span(window, dilation)) // stride + 1, 0)


def same_padding(size: int, window: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Cells to add before and after the axis so that ceil(size / stride) windows fit; an odd one goes to the end."""
    total = max((-(-size // stride) - 1) * stride + span(window, dilation) - size, 0)
    return total // 2, total - total // 2


def cells(tap: int, count: int, stride: int, dilation: int = 1) -> slice:
    """The cells of a padded axis that one tap of the window meets, in order, at `count` positions."""
    first = tap * dilation
    return slice(first, first + (count - 1) * stride + 1, stride)
