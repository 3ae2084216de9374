"""Sums over the columns of a matrix (rows, columns) and what is done to each of its rows alike.

A loop over ten channels is too short for vectors. So rows are taken side by side: as many as make
`WIDE` values, as one long row, next to which the numbers of the channels are repeated. Sums are in
float64, where there is no rounding to speak of, each slice of the rows has its own, and they are
added in order.
"""

from __future__ import annotations

from math import lcm

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.njit import inner, njit
from gpucnn.devices.team import tasks, whole

from .simd_njit import LANES, add, load, load_some, store
from .slices_launch import SMALLEST

WIDE = 256

_PERIOD = 64
"""Sums that are under way at a time, at least."""


def width(size: int, columns: int) -> int:
    """The length of rows that are taken side by side, of so many values in all."""
    return columns * max(1, min(WIDE, size // 4) // columns)


def period(columns: int) -> int:
    """Whole vectors and whole rows, and enough of them that a sum does not wait for the one before it."""
    least = lcm(columns, LANES)
    return -(-_PERIOD // least) * least


@njit(forceinline=True)
def add_to_period(sums, place, values, first, last):
    """Add values first … last - 1 to the sums, from a place on and again from 0; returns the place after them.
    Only the last values of all may fill no vector."""
    whole = first + (last - first) // LANES * LANES
    for i in range(first, whole, LANES):
        store(sums, place, add(load(sums, place), load(values, i)))
        place += LANES
        place = 0 if place == sums.shape[0] else place
    if whole < last:
        store(sums, place, add(load(sums, place), load_some(values, whole, last - whole)))
    return place


def add_slices(total: np.ndarray, sums: np.ndarray) -> None:
    """total (columns,) = the sums of all slices, which lie one behind the other, in order."""
    np.add.reduce(sums.reshape(-1, len(total)), axis=0, out=total)


def row_bounds(size: int, columns: int) -> np.ndarray:
    """Where the slices of the flat values of all rows begin, and their end."""
    if size < 2 * SMALLEST:
        return np.array([0, size])
    return threads.bounds(size // columns, -(-SMALLEST // columns)) * columns


@inner
def repeat(wide, numbers):
    """Fill a row with the numbers of the channels, again and again."""
    columns = len(numbers)
    for start in range(0, len(wide), columns):
        for k in range(columns):
            wide[start + k] = numbers[k]


@inner
def column_sums(sums, x):
    """sums (width,) = the sums of flat rows that are taken side by side."""
    wide = len(sums)
    sums[:] = 0.0
    for start in range(0, len(x), wide):
        values = x[start : start + wide]
        for j in range(len(values)):
            sums[j] += np.float64(values[j])


@tasks
def sums_of_slices(part, sums, x, bounds):
    """sums (slices, width) = the column sums of each slice."""
    column_sums(sums[part], x[bounds[part] : bounds[part + 1]])


@inner
def fold(total, sums):
    """total (columns,) = the sums of all slices, (slices, width), column by column."""
    columns = len(total)
    for k in range(columns):
        value = 0.0
        for i in range(sums.shape[0]):
            for j in range(k, sums.shape[1], columns):
                value += sums[i, j]
        total[k] = value


fold_all = whole(fold)
"""What `fold` does, as a kernel."""
