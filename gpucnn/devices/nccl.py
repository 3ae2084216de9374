"""Sums over the GPUs of several processes, by NCCL through CuPy, on the current stream. A recorded step
repeats them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

_ID_BYTES = 128
"""Of an ncclUniqueId."""


def unavailable() -> str | None:
    """Why NCCL cannot be used here; None if it can."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # CuPy warns, and this says it in one sentence
            from cupy.cuda import nccl
    except ImportError as error:
        return f"CuPy cannot be imported: {error}"
    return None if nccl.available else "CuPy finds no libnccl.so.2: pip install nvidia-nccl-cu13 (or -cu12)"


class Nccl:
    """The communicator of this process, on the GPU in use.

    share  gives all ranks the array of rank 0
    """

    def __init__(self, size: int, rank: int, share: Callable[[np.ndarray], np.ndarray]) -> None:
        from cupy.cuda import nccl

        from .gpu_branch import GpuBranch

        own = np.frombuffer(nccl.get_unique_id(), np.uint8) if rank == 0 else np.zeros(_ID_BYTES, np.uint8)
        self.size = size
        self._comm = nccl.NcclCommunicator(size, share(own).tobytes(), rank)
        self._branch = GpuBranch()

    def add_up(self, arrays: Sequence[Any], ordered: bool, beside: bool = False) -> None:
        """Replace contiguous float32 arrays by their sums over all ranks, in one launch.

        ordered  in the order of the ranks, ((0 + 1) + 2) + …, for `size` times the memory and traffic;
                 otherwise in the order that NCCL chooses. Of two ranks, both are the same.
        beside   while the current stream goes on, until the next sum
        """
        if not beside:
            self._branch.join()
        with self._branch.aside() if beside else nullcontext():
            self._add_up(arrays, ordered)

    def _add_up(self, arrays: Sequence[Any], ordered: bool) -> None:
        import cupy
        from cupy.cuda import nccl

        arrays, stream = [array for array in arrays if array.size], cupy.cuda.get_current_stream().ptr
        if not ordered or self.size == 2:
            nccl.groupStart()
            for array in arrays:
                address = array.data.ptr
                self._comm.allReduce(address, address, array.size, nccl.NCCL_FLOAT32, nccl.NCCL_SUM, stream)
            nccl.groupEnd()
            return
        all_rows = [cupy.empty((self.size, array.size), np.float32) for array in arrays]
        nccl.groupStart()
        for array, rows in zip(arrays, all_rows, strict=True):
            self._comm.allGather(array.data.ptr, rows.data.ptr, array.size, nccl.NCCL_FLOAT32, stream)
        nccl.groupEnd()
        for array, rows in zip(arrays, all_rows, strict=True):
            array[...] = rows[0].reshape(array.shape)
            for row in rows[1:]:
                array += row.reshape(array.shape)

    @staticmethod
    def mark() -> Callable[[], None]:
        """Note this point of the current stream; returns what waits until the GPU has passed it, while other threads
        of Python run."""
        import cupy

        event = cupy.cuda.Event(block=True, disable_timing=True)
        event.record()
        return event.synchronize
