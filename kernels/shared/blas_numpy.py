"""Products by NumPy's BLAS, one thread for each part of the longer side of the result."""

from __future__ import annotations

import numpy as np

from gpucnn.devices import threads

_PARTS = 4
"""More parts would read the other matrix too often."""
_SMALLEST = 64
"""Rows or columns of a part; with fewer, BLAS packs longer than it multiplies."""
_SMALL = 1 << 22
"""Below this many floating-point operations a second thread costs more than it brings."""


def multiply(y: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """y (M, N) = a (M, K) @ b (K, N)."""
    rows, columns = y.shape
    longer = max(rows, columns)
    parallel = 2 * rows * columns * a.shape[1] > _SMALL
    count = max(1, min(_PARTS, longer // _SMALLEST)) if parallel else 1
    bounds = [longer * i // count for i in range(count + 1)]

    def task(i: int) -> None:
        part = slice(bounds[i], bounds[i + 1])
        if rows >= columns:
            np.matmul(a[part], b, out=y[part])
        else:
            np.matmul(a, b[:, part], out=y[:, part])

    threads.run(task, count)
