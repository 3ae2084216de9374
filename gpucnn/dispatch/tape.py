"""Launches on the CPU, recorded while ops are called and repeated on the same arrays.

A repetition does not check, choose or allocate, which for small arrays takes longer than computing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np


class Tape:
    """What the ops launch while this tape records.

    most_bytes  how much memory their results and workspaces may take: a tape keeps all of them. One
                that needs more, or that meets a call which cannot be repeated, becomes incomplete.
    dry         whether the ops launch nothing: their results are zeros
    """

    def __init__(self, most_bytes: float, dry: bool = False) -> None:
        self.complete, self.dry = True, dry
        self._left = most_bytes
        self._launches: list[tuple[Callable[..., Any], list[Any], dict[str, Any]]] = []
        self._inputs: list[tuple[list[Any], int, tuple[int, ...]]] = []

    def add(
        self, launch: Callable[..., Any], arrays: Sequence[Any], params: dict[str, Any], own: Sequence[Any]
    ) -> None:
        """Record a launch on these arrays, of which `own` were allocated for it."""
        if self.dry:
            for array in own:
                array[...] = 0
        self._left -= sum(array.nbytes for array in own)
        if self._left < 0:
            self.abandon()
        if self.complete:
            self._launches.append((launch, list(arrays), params))

    def abandon(self) -> None:
        """Record nothing more and keep nothing: what is being computed cannot be repeated."""
        self.complete = False
        self._launches.clear()

    def launches(self) -> list[Callable[[], Any]]:
        """The launches, in the order in which they were recorded."""
        return [partial(launch, *arrays, **params) for launch, arrays, params in self._launches]

    def take_from(self, x: np.ndarray) -> None:
        """End the recording: each operand that is `x`, or all of it in another shape, is from now on
        the argument of `replay`."""
        address = x.ctypes.data
        for _, arrays, _ in self._launches:
            for i, array in enumerate(arrays):
                if isinstance(array, np.ndarray) and array.nbytes == x.nbytes and array.ctypes.data == address:
                    self._inputs.append((arrays, i, array.shape))
                    arrays[i] = None

    def replay(self, x: np.ndarray) -> None:
        """Repeat the launches with a contiguous `x` of the recorded size and type."""
        for arrays, i, shape in self._inputs:
            arrays[i] = x.reshape(shape)
        for launch, arrays, params in self._launches:
            launch(*arrays, **params)
        for arrays, i, _ in self._inputs:
            arrays[i] = None


class _Thread(threading.local):
    tape: Tape | None = None


_thread = _Thread()


def recording() -> Tape | None:
    """The tape that records the calls of this thread, if any."""
    return _thread.tape


@contextmanager
def onto(tape: Tape) -> Iterator[None]:
    """Record the calls of this thread in the body of the with statement."""
    _thread.tape = tape
    try:
        yield
    finally:
        _thread.tape = None
