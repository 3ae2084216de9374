"""The CPU as a device: NumPy arrays from a pool of aligned buffers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .device import ALIGNMENT, Device

_IDLE_BYTES = 1 << 30
_free: dict[int, list[np.ndarray]] = {}
_idle = 0


class _Block:
    """A buffer on loan: when the last array on it dies, it returns to the pool.

    Fresh memory costs a page fault per 4 KiB, about as long as computing on it, and a training step
    allocates the same sizes again and again.
    """

    __slots__ = ("__array_interface__", "buffer", "nbytes")

    def __init__(self, nbytes: int) -> None:
        global _idle
        try:
            self.buffer = _free[nbytes].pop()
            _idle -= nbytes
        except (KeyError, IndexError):
            self.buffer = np.empty(nbytes + ALIGNMENT, np.uint8)
        self.nbytes = nbytes
        address = self.buffer.ctypes.data
        self.__array_interface__ = {
            "data": (address + -address % ALIGNMENT, False),
            "shape": (nbytes,),
            "typestr": "|u1",
            "version": 3,
        }

    def __del__(self) -> None:
        global _idle
        if _idle < _IDLE_BYTES:
            _idle += self.nbytes
            _free.setdefault(self.nbytes, []).append(self.buffer)


class Cpu(Device):
    """The host. Arrays are NumPy's."""

    name = "cpu"
    backends: tuple[str, ...] = ("njit", "numpy")

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        """An uninitialised C-contiguous array that starts at a multiple of 256 bytes."""
        dtype = np.dtype(dtype)
        nbytes = math.prod(shape) * dtype.itemsize
        if not nbytes:
            return np.empty(shape, dtype)
        return np.asarray(_Block(nbytes)).view(dtype).reshape(shape)

    def put(self, array: np.ndarray) -> np.ndarray:
        """The array itself."""
        return array

    def owns(self, array: object) -> bool:
        """Whether this is a NumPy array."""
        return isinstance(array, np.ndarray)

    def address(self, array: np.ndarray) -> int:
        """Where the first element lies."""
        return array.ctypes.data

    def takes(self, array: np.ndarray) -> bool:
        """Whether the array is C-contiguous, and each element lies where its type can."""
        flags = array.flags
        return flags.c_contiguous and flags.aligned


CPU = Cpu()
"""The host, whichever device is in use."""
