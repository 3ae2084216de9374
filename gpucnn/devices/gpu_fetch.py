"""Values that a GPU copies to pinned memory of the host, on the stream of its launches."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import cupy
import numpy as np

from .fetch import Fetch
from .gpu_feed import pinned


class GpuFetch(Fetch):
    """Copies that are queued, and an event behind them."""

    def __init__(self, arrays: Sequence[Any]) -> None:
        self._values = [pinned(array.shape, array.dtype) for array in arrays]
        for array, values in zip(arrays, self._values, strict=True):
            array.get(out=values, blocking=False)
        self._copied = cupy.cuda.Event(disable_timing=True)
        self._copied.record()
        # CuPy may give the memory to others as soon as nobody asks for the values any more
        weakref.finalize(self, self._copied.synchronize).atexit = False

    def wait(self) -> list[np.ndarray]:
        """Wait for the event."""
        self._copied.synchronize()
        return self._values
