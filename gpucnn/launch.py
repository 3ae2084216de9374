"""How many blocks a launch needs."""

from __future__ import annotations


def ceil_div(count: int, size: int) -> int:
    """How many pieces of `size` cover `count`."""
    return -(-count // size)


def blocks_1d(count: int, threads: int) -> tuple[int]:
    """A grid with one thread for each of `count` elements."""
    return (ceil_div(count, threads),)


def blocks_2d(columns: int, rows: int, tile: tuple[int, int]) -> tuple[int, int]:
    """A grid that covers columns × rows (x, y) with tiles of (columns, rows)."""
    return ceil_div(columns, tile[0]), ceil_div(rows, tile[1])
