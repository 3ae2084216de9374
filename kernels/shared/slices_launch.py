"""Arrays in slices, each of which any thread may take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpucnn.devices import threads

SMALLEST = 1 << 14
"""Elements of a slice: fewer are done before a second thread is awake."""


def in_slices(function: Callable[..., None], arrays: tuple[np.ndarray | None, ...], *numbers: Any) -> None:
    """Call function(*slices, *numbers) for the slices of arrays of one length along their first
    axis (None stays None); the array with the most elements decides how long a slice is."""
    first = arrays[0]
    assert first is not None
    length, elements = len(first), max([0 if array is None else array.size for array in arrays])
    if elements < 2 * SMALLEST or length == 1:
        function(*arrays, *numbers)
        return
    slices = threads.slices(length, -(-SMALLEST * length // elements))

    def task(i: int) -> None:
        function(*(None if array is None else array[slices[i]] for array in arrays), *numbers)

    threads.run(task, len(slices))
