"""Arrays in slices, each of which any thread may take."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.packed_tasks import cut
from gpucnn.devices.team import tasks

_LINE = 32
"""Values of two lines, of which processors fetch one with the other."""

SMALLEST = 1 << 14
"""Elements of a slice: fewer are done before a second thread is awake."""


def apart(values: int) -> int:
    """The length of a row with so many values that shares no cache line with the next one, into which
    another thread writes."""
    return -(-values // _LINE) * _LINE


def in_slices(function: Callable[..., None], arrays: tuple[np.ndarray | None, ...], *numbers: Any) -> None:
    """Call the njit function(*slices, *numbers) for the slices of arrays of one length along their
    first axis (None stays None); the array with the most elements decides how long a slice is."""
    elements = 0
    for array in arrays:
        if array is not None and array.size > elements:
            elements = array.size
    first = arrays[0]
    assert first is not None
    bounds = threads.bounds(len(first), -(-SMALLEST * len(first) // elements) if elements else 1)
    _sliced(function)(len(bounds) - 1, bounds, arrays, numbers)


@cache
def _sliced(function: Any) -> Any:
    """The tasks of an njit function."""

    def slice_of(i, bounds, arrays, numbers):
        function(*cut(arrays, bounds[i], bounds[i + 1]), *numbers)

    return tasks(slice_of, of=function.py_func)
