"""Rows for a GPU: copied on a stream of their own, from two buffers of pinned memory in turn."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import cupy
import numpy as np

from ..errors import MemoryNeedError
from .feed import Feed
from .free_memory import readable

_NO_MEMORY = 2
"""cudaErrorMemoryAllocation"""


class GpuFeed(Feed):
    """Two halves of a ring are filled in turn. Events order them: a copy waits for the launches
    that read what it overwrites, launches wait for the copy, the host waits for the copy from a buffer
    before it writes to that buffer again, and nothing else waits.

    buffers  two of `pinned` memory, each as long as half of the ring
    """

    def __init__(self, array: Any, buffers: list[np.ndarray]) -> None:
        super().__init__(array)
        self._buffers = buffers
        self._copies = cupy.cuda.Stream(non_blocking=True)
        self._copied, self._used = ([cupy.cuda.Event(disable_timing=True) for _ in range(2)] for _ in range(2))
        self._turn = 0
        # a copy of rows that nobody awaits must not outlive the memory between which it runs
        weakref.finalize(self, self._copies.synchronize).atexit = False

    def fill(self, start: int, count: int, write: Callable[[np.ndarray], None]) -> None:
        """Queue the copy, once the buffer is free."""
        self._turn = 1 - self._turn
        rows = self._buffers[self._turn][:count]
        self._copied[self._turn].synchronize()
        write(rows)
        self._copies.wait_event(self._used[self._turn])
        self._send(start, rows, lambda part, values: part.set(values, stream=self._copies))
        self._copied[self._turn].record(self._copies)

    def await_rows(self) -> None:
        """Let the current stream wait for the copy."""
        cupy.cuda.get_current_stream().wait_event(self._copied[self._turn])

    def mark_used(self) -> None:
        """Note this point of the current stream, which the copy after the next one waits for."""
        self._used[self._turn].record(cupy.cuda.get_current_stream())


def pinned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array of the host that a GPU can read by itself. Raises `MemoryNeedError`."""
    count = math.prod(shape)
    try:
        memory = cupy.cuda.alloc_pinned_memory(count * dtype.itemsize)
        return np.frombuffer(memory, dtype, count).reshape(shape)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        if error.status != _NO_MEMORY:
            raise
        size = readable(count * dtype.itemsize)
        raise MemoryNeedError(f"the host has no {size} of memory that a GPU can read: use smaller batches") from None
