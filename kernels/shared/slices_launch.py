"""Flat arrays in slices, one after the other on each thread that takes part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpucnn.devices import threads

SMALLEST = 1 << 14
"""Elements of a slice: fewer are done before a second thread is awake."""


def in_slices(function: Callable[..., None], arrays: tuple[np.ndarray, ...], *numbers: Any, least: int = SMALLEST) -> None:
    """Call function(*slices, *numbers) for the slices of arrays of one size, which the function
    takes flat."""
    flat = [array.reshape(-1) for array in arrays]
    if flat[0].size < 2 * least:
        function(*flat, *numbers)
        return
    slices = threads.slices(flat[0].size, least)
    threads.run(lambda i: function(*(a[slices[i]] for a in flat), *numbers), len(slices))
