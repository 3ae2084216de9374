"""Rows for a GPU: copied on a stream of their own, from two buffers of pinned memory in turn."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cupy
import cupyx
import numpy as np

from .feed import Feed

if TYPE_CHECKING:
    from .gpu import Gpu


class GpuFeed(Feed):
    """Two halves of a ring are filled in turn. Events order four things: a copy waits for the launches
    that read what it overwrites, launches wait for the copy, the host waits for the copy from a buffer
    before it writes to that buffer again, and nothing else waits."""

    def __init__(self, device: Gpu, shape: tuple[int, ...], dtype: Any) -> None:
        super().__init__(device, shape, dtype)
        half = (-(-shape[0] // 2), *shape[1:])
        self._buffers = [device.fitted(lambda: _pinned(half, dtype), half, np.dtype(dtype)) for _ in range(2)]
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


def _pinned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    try:
        return cupyx.empty_pinned(shape, dtype)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        if error.status == cupy.cuda.runtime.errorMemoryAllocation:
            raise MemoryError from error
        raise
