"""The CPU as a device: NumPy arrays in memory that is used again and again."""

from __future__ import annotations

import bisect
import math
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from . import forks
from .device import ALIGNMENT, Device

_IDLE_BYTES = 1 << 30

_PIECE_BYTES = 1 << 28
"""In pieces of this size memory is taken from the system, apart from that of larger arrays. What no array has
used of a piece takes no memory."""

_MOST_WAITING = 64
"""So many arrays may have died before their memory is joined with what is free."""

_Range = tuple[int, int]
"""Free memory: its first address, and the one after its last."""


class _Pool:
    """Memory for arrays: each gets a part of the smallest free range that has room, and ranges that meet
    become one.

    Fresh memory costs a page fault per 4 KiB, about as long as computing on it, and a training step
    allocates the same sizes again and again.
    """

    def __init__(self) -> None:
        self._free: list[_Range] = []
        self._returned: deque[_Range] = deque()
        self._ranges: list[tuple[int, int, int]] = []  # first, after the last that was in use, stop
        self._lock = _changing

    def take(self, nbytes: int) -> int:
        """The address of so many bytes, a multiple of `ALIGNMENT`."""
        nbytes = _rounded(nbytes)
        with self._lock:
            self._collect()
            place = self._best(nbytes)
            if place is None:
                self._add(self._more(nbytes))
                place = self._best(nbytes)
                assert place is not None
            first, stop = self._free[place]
            self._free[place : place + 1] = [(first + nbytes, stop)] if first + nbytes < stop else []
            self._note(first + nbytes)
        return first

    def give(self, first: int, nbytes: int) -> None:
        """Take back what starts at an address. It is called whenever an array dies, which may happen in the
        middle of `take`: what comes back waits for the next one."""
        self._returned.append((first, first + _rounded(nbytes)))
        if len(self._returned) > _MOST_WAITING and self._lock.acquire(blocking=False):
            try:
                self._collect()
            finally:
                self._lock.release()

    def _collect(self) -> None:
        while self._returned:
            self._add(self._returned.popleft())

    def _add(self, free: _Range) -> None:
        """Join a range with those that it meets."""
        (first, stop), place = free, bisect.bisect(self._free, free)
        begin = end = place
        if begin and self._free[begin - 1][1] == first:
            begin -= 1
            first = self._free[begin][0]
        if end < len(self._free) and self._free[end][0] == stop:
            stop = self._free[end][1]
            end += 1
        self._free[begin:end] = [(first, stop)]

    def _best(self, nbytes: int) -> int | None:
        """The place of the smallest range of so many bytes, of several the first."""
        best, least = None, math.inf
        for place, (first, stop) in enumerate(self._free):
            if nbytes <= stop - first < least:
                best, least = place, stop - first
        return best

    def _note(self, end: int) -> None:
        """An array has the memory before this address. The lock is held."""
        for i, (first, used, stop) in enumerate(self._ranges):
            if first < end <= stop:
                self._ranges[i] = first, max(used, end), stop

    def _more(self, nbytes: int) -> _Range:
        """Memory of at least so many bytes. The lock is held."""
        raise NotImplementedError


class _Memory(_Pool):
    """The pool of all arrays, which takes memory from the system."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: dict[_Range, np.ndarray] = {}

    @property
    def idle_bytes(self) -> int:
        """Bytes that no array has."""
        with self._lock:
            self._collect()
            return sum(stop - first for first, stop in self._free)

    def spare(self, nbytes: int) -> _Range:
        """The largest free range, which becomes the caller's; of those of half a piece and more the one of which
        arrays have had most. It has so many bytes at least, and does not meet another one. The lock is held."""
        self._collect()
        room = ALIGNMENT + nbytes
        order = lambda free: (min(free[1] - free[0], max(room, _PIECE_BYTES // 2)), self._used(free))  # noqa: E731
        first, stop = max(self._free, key=order, default=(0, 0))
        if stop - first < room:
            return self._more(nbytes)
        self._free[self._free.index((first, stop))] = first, first + ALIGNMENT
        return first + ALIGNMENT, stop

    def _used(self, free: _Range) -> int:
        return sum(min(used, free[1]) - free[0] for first, used, _ in self._ranges if first <= free[0] < used)

    def clear(self) -> None:
        """Return to the system what no array has."""
        with self._lock:
            self._collect()
            self._shrink(0)

    def _collect(self) -> None:
        if self._returned:
            super()._collect()
            self._shrink(_IDLE_BYTES)

    def _shrink(self, idle_bytes: int) -> None:
        """Return pieces that no array has until at most so many bytes are free, or none is left."""
        idle = sum(stop - first for first, stop in self._free)
        if idle <= idle_bytes:
            return
        for piece in self._free[::-1]:
            if idle > idle_bytes and piece in self._pieces:
                self._free.remove(piece)
                del self._pieces[piece]
                self._ranges = [used for used in self._ranges if used[0] != piece[0]]
                idle -= piece[1] - piece[0]

    def _more(self, nbytes: int) -> _Range:
        """A new piece, or one that just suffices."""
        try:
            return self._piece(max(nbytes, _PIECE_BYTES))
        except MemoryError:
            return self._piece(nbytes)

    def _piece(self, nbytes: int) -> _Range:
        memory = np.empty(nbytes + ALIGNMENT, np.uint8)
        first = memory.ctypes.data + -memory.ctypes.data % ALIGNMENT
        piece = first, first + nbytes
        self._pieces[piece] = memory
        self._ranges.append((first, first, first + nbytes))
        return piece


class Arena(_Pool):
    """A pool for arrays whose addresses stay valid as long as the arena: what is no longer in use makes room
    for later arrays of the arena alone."""

    @property
    def total_bytes(self) -> int:
        """The memory that its arrays have had so far."""
        return sum(used - first for first, used, _ in self._ranges)

    def _note(self, end: int) -> None:
        super()._note(end)
        _memory._note(end)

    def trim(self) -> None:
        """Give up the memory that no array has had: none follows."""
        with self._lock:
            self._collect()
            for i, (start, used, stop) in enumerate(self._ranges):
                if used < stop:
                    first, _ = self._free.pop(bisect.bisect(self._free, (stop, 0)) - 1)
                    if first < used:
                        self._add((first, used))
                    self._ranges[i] = start, used, used
                    _memory.give(used, stop - used)

    def owns(self, array: np.ndarray) -> bool:
        """Whether an array lies in the arena."""
        while isinstance(array, np.ndarray):
            array = array.base  # type: ignore[assignment]
        return isinstance(array, _Block) and array.pool is self

    def _more(self, nbytes: int) -> _Range:
        first, stop = _memory.spare(nbytes)
        self._ranges.append((first, first, stop))
        return first, stop

    def __del__(self) -> None:
        for first, _, stop in self._ranges:
            _memory.give(first, stop - first)


def _rounded(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


class _Thread(threading.local):
    arena: Arena | None = None


_changing = threading.Lock()
"""Held while ranges change, of any pool."""
forks.hold(_changing)

_memory, _thread = _Memory(), _Thread()


@contextmanager
def allocating_from(arena: Arena | None) -> Iterator[None]:
    """In the body of a with statement, arrays that this thread allocates lie in an arena; with None, in none."""
    before, _thread.arena = _thread.arena, arena
    try:
        yield
    finally:
        _thread.arena = before


class _Block:
    """Memory on loan: when the last array on it dies, it returns to the pool."""

    __slots__ = ("__array_interface__", "first", "nbytes", "pool")

    def __init__(self, pool: _Pool, first: int, nbytes: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.pool, self.first, self.nbytes = pool, first, nbytes
        self.__array_interface__ = {
            "data": (first, False),
            "shape": shape,
            "typestr": dtype.str,
            "version": 3,
        }

    def __del__(self) -> None:
        self.pool.give(self.first, self.nbytes)


class Cpu(Device):
    """The host. Arrays are NumPy's."""

    name = "cpu"
    backends: tuple[str, ...] = ("njit", "numpy")

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array in memory of the pool."""
        nbytes = math.prod(shape) * dtype.itemsize
        if not nbytes:
            return np.empty(shape, dtype)
        pool = _thread.arena or _memory
        return np.asarray(_Block(pool, pool.take(nbytes), nbytes, shape, dtype))

    @property
    def idle_bytes(self) -> int:
        """Bytes of the pool that no array has, among them those that none has had so far, which take no memory."""
        return _memory.idle_bytes

    def release(self) -> None:
        """Drop what the pool keeps."""
        _memory.clear()

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
