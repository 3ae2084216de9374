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
    elements = 0
    for array in arrays:
        if array is not None and array.size > elements:
            elements = array.size
    if elements < 2 * SMALLEST:
        function(*arrays, *numbers)
        return
    first = arrays[0]
    assert first is not None
    slices = threads.slices(len(first), -(-SMALLEST * len(first) // elements))

    def task(i: int) -> None:
        function(*(None if array is None else array[slices[i]] for array in arrays), *numbers)

    threads.run(task, len(slices))
