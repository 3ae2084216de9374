"""The CPU as a device: NumPy arrays from a pool of aligned buffers."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from .device import ALIGNMENT, Device

_IDLE_BYTES = 1 << 30


_Buffer = tuple[np.ndarray, int]
"""Memory, and the first aligned address in it, which NumPy takes longer to say than a small kernel
takes."""


class _Pool:
    """Buffers that wait for the next array of their size.

    Fresh memory costs a page fault per 4 KiB, about as long as computing on it, and a training step
    allocates the same sizes again and again.
    """

    def __init__(self) -> None:
        self._buffers: dict[int, list[_Buffer]] = {}
        self.idle_bytes = 0

    def take(self, nbytes: int) -> _Buffer:
        """A buffer with room for so many bytes from an aligned address on, and that address."""
        try:
            buffer = self._buffers[nbytes].pop()
        except (KeyError, IndexError):
            fresh = np.empty(nbytes + ALIGNMENT, np.uint8)
            return fresh, fresh.ctypes.data + -fresh.ctypes.data % ALIGNMENT
        self.idle_bytes -= nbytes
        return buffer

    def give(self, nbytes: int, buffer: _Buffer) -> None:
        """Take a buffer back, unless too many wait already."""
        if self.idle_bytes < _IDLE_BYTES:
            self.idle_bytes += nbytes
            self._buffers.setdefault(nbytes, []).append(buffer)

    def clear(self) -> None:
        """Drop all buffers that wait."""
        self._buffers.clear()
        self.idle_bytes = 0


class Arena(_Pool):
    """A pool for arrays whose addresses stay valid as long as the arena: what is no longer in use makes room
    for later arrays of the arena alone.

    total_bytes  the memory of all its buffers
    """

    def __init__(self) -> None:
        super().__init__()
        self.total_bytes = 0

    def take(self, nbytes: int) -> _Buffer:
        """A buffer of the arena, or one that the pool of all arrays can spare."""
        if not self._buffers.get(nbytes):
            self.total_bytes += nbytes
            return _pool.take(nbytes)
        return super().take(nbytes)

    def give(self, nbytes: int, buffer: _Buffer) -> None:
        """Take a buffer back."""
        self._buffers.setdefault(nbytes, []).append(buffer)

    def owns(self, array: np.ndarray) -> bool:
        """Whether an array lies in the arena."""
        while isinstance(array, np.ndarray):
            array = array.base  # type: ignore[assignment]
        return isinstance(array, _Block) and array.pool is self

    def __del__(self) -> None:
        for nbytes, buffers in self._buffers.items():
            for buffer in buffers:
                _pool.give(nbytes, buffer)


class _Thread(threading.local):
    arena: Arena | None = None


_pool, _thread = _Pool(), _Thread()


@contextmanager
def allocating_from(arena: Arena) -> Iterator[None]:
    """In the body of a with statement, arrays that this thread allocates lie in an arena."""
    _thread.arena = arena
    try:
        yield
    finally:
        _thread.arena = None


class _Block:
    """A buffer on loan: when the last array on it dies, it returns to the pool."""

    __slots__ = ("__array_interface__", "buffer", "nbytes", "pool")

    def __init__(self, pool: _Pool, nbytes: int, buffer: _Buffer, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.pool, self.nbytes, self.buffer = pool, nbytes, buffer
        self.__array_interface__ = {
            "data": (buffer[1], False),
            "shape": shape,
            "typestr": dtype.str,
            "version": 3,
        }

    def __del__(self) -> None:
        self.pool.give(self.nbytes, self.buffer)


class Cpu(Device):
    """The host. Arrays are NumPy's."""

    name = "cpu"
    backends: tuple[str, ...] = ("njit", "numpy")

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array on a buffer of the pool."""
        nbytes = math.prod(shape) * dtype.itemsize
        if not nbytes:
            return np.empty(shape, dtype)
        pool = _thread.arena or _pool
        return np.asarray(_Block(pool, nbytes, pool.take(nbytes), shape, dtype))

    @property
    def idle_bytes(self) -> int:
        """Bytes of the pool that no array is using."""
        return _pool.idle_bytes

    def release(self) -> None:
        """Drop what the pool keeps."""
        _pool.clear()

    def put(self, array: np.ndarray) -> np.ndarray:
        """The array itself."""
        return array

    def owns(self, array: object) -> bool:
        """Whether this is a NumPy array."""
        return isinstance(array, (np.ndarray, np.generic))

    def address(self, array: np.ndarray) -> int:
        """Where the first element lies."""
        return array.ctypes.data

    def takes(self, array: np.ndarray) -> bool:
        """Whether the array is C-contiguous, and each element lies where its type can."""
        flags = array.flags
        return flags.c_contiguous and flags.aligned


CPU = Cpu()
"""The host, whichever device is in use."""
