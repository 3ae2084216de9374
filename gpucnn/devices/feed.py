"""Rows that the host hands to a device while the device computes with those before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


class Feed:
    """A ring of rows on a device, of which each call of `fill` overwrites at most a half.

    array  the ring, (rows, …)

    `fill`, `await_rows`, launches that read those rows, `mark_used`: in this order for each part.
    The next `fill` may follow at once, while the launches are still running. It may go on at another
    row of the ring only when they are done.
    """

    def __init__(self, array: Any) -> None:
        self.array = array

    def fill(self, start: int, count: int, write: Callable[[np.ndarray], None]) -> None:
        """Replace `count` rows from row `start` on, at the end of the ring from its beginning; `write`
        gets an array of the host (count, …) to write them to."""
        rows = np.empty((count, *self.array.shape[1:]), self.array.dtype)
        write(rows)
        self._send(start, rows, lambda part, values: part.set(values))

    def await_rows(self) -> None:
        """Let launches from now on see the rows of the last `fill`."""

    def mark_used(self) -> None:
        """Allow these rows to be overwritten once the launches so far are done."""

    def _send(self, start: int, rows: np.ndarray, write: Callable[[Any, np.ndarray], None]) -> None:
        start %= len(self.array)
        first = min(len(rows), len(self.array) - start)
        write(self.array[start : start + first], rows[:first])
        if first < len(rows):
            write(self.array[: len(rows) - first], rows[first:])
