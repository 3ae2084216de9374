"""Arrays in slices, each of which any thread may take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpucnn.devices import threads

SMALLEST = 1 << 14
"""Elements of a slice: fewer are done before a second thread is awake."""


def in_slices(function: Callable[..., None], arrays: tuple[np.ndarray, ...], *numbers: Any) -> None:
    """Call function(*slices, *numbers) for the slices of arrays of one length along their first
    axis; those of the array with the most elements decide how long a slice is."""
    length, elements = len(arrays[0]), max(array.size for array in arrays)
    if elements < 2 * SMALLEST or length == 1:
        function(*arrays, *numbers)
        return
    slices = threads.slices(length, -(-SMALLEST * length // elements))
    threads.run(lambda i: function(*(a[slices[i]] for a in arrays), *numbers), len(slices))
