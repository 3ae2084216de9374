"""Maxima, sums and exponentials of the rows of an array (N, K), for kernels that take a few rows at a
time.

A row of ten classes is too short for vectors. So what is done to each value on its own is done to
`values_at_once` of them, many rows together, as one flat loop; only maxima and sums go row by row.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.njit import njit

from .simd_njit import beats, lane, load, select
from .vector_math_njit import exp

_VALUES = 2048


@njit(forceinline=True)
def rows_at_once(columns):
    """How many rows of so many columns are worked on together: their values stay in the first-level
    cache."""
    return max(1, _VALUES // columns)


@njit(forceinline=True)
def largest(row):
    """The largest value of a row; NaN if there is one."""
    count = len(row)
    best, whole = row[0], count // 8 * 8
    if whole:
        lanes = load(row, 0)
        for i in range(8, whole, 8):
            values = load(row, i)
            lanes = select(beats(values, lanes), values, lanes)
        best = lane(lanes, 0)
        for i in range(1, 8):
            value = lane(lanes, i)
            best = value if value > best or value != value else best
    for i in range(whole, count):
        best = row[i] if row[i] > best or row[i] != row[i] else best
    return best


@njit(forceinline=True, fastmath={"reassoc"})
def total(row):
    """The sum of a row, in float64."""
    result = 0.0
    for i in range(len(row)):
        result += np.float64(row[i])
    return result


@njit(forceinline=True, fastmath={"reassoc"})
def total_of_products(a, b):
    """The sum of the products of two rows, in float64."""
    result = 0.0
    for i in range(len(a)):
        result += np.float64(a[i]) * np.float64(b[i])
    return result


@njit(forceinline=True)
def exponentials(y, most, x):
    """most (N,) = the largest x of each row, and y (N, K) = exp(x - most)."""
    for n in range(len(x)):
        most[n] = largest(x[n])
        for k in range(x.shape[1]):
            y[n, k] = x[n, k] - most[n]
    flat = y.reshape(-1)
    for i in range(len(flat)):
        flat[i] = exp(flat[i])
