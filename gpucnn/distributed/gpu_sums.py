"""Sums over the GPUs of all ranks, and a watch over them.

A process cannot take back a launch that waits for another rank: a rank that hangs would stop all others
for ever. So a thread looks whether launches finish. No more than a few are under way, because a launch
into a full queue of CUDA blocks, and may block all threads of Python.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from queue import Queue
from typing import Any, Protocol

import numpy as np

from .. import progress
from ..devices import ahead, nccl

_ANSWER = 3.0
"""Seconds in which a rank answers that waits as well."""

_UNDER_WAY = 8
"""Launches that may follow one that is not done: up to 16 steps each."""


class Ranks(Protocol):
    """What sums need of a `Group`."""

    rank: int
    size: int
    time_limit: float
    is_ordered: bool

    def gather_text(self, text: str) -> list[str]:
        """A text of each rank."""

    def broadcast(self, array: np.ndarray) -> np.ndarray:
        """Rank 0's array, on every rank."""

    def another(self) -> Any:
        """A communicator of the same ranks."""

    def silence(self, ranks: Collection[int]) -> Exception:
        """The error for ranks that do not answer."""

    def end(self, error: BaseException) -> None:
        """Report an error and end all ranks."""


class GpuSums:
    """Sums over the GPUs of the ranks of a group, by NCCL.

    missing  why NCCL cannot be used; None if it can

    Raises `SilentRankError` unless all ranks make one.
    """

    def __init__(self, group: Ranks) -> None:
        reasons = group.gather_text(nccl.unavailable() or "")
        self.missing = next(filter(None, reasons), None)
        if self.missing is not None:
            progress.say(f"gradients are added up in the memory of the host, which takes longer: {self.missing}")
            return
        self._ordered = group.is_ordered
        self._nccl = nccl.Nccl(group.size, group.rank, group.broadcast)
        self._watch = _Watch(group) if group.size > 1 else None

    def add_up(self, arrays: Sequence[Any], beside: bool = False) -> None:
        """Replace contiguous float32 arrays by their sums over all ranks, as work of the current stream, or
        `beside` it until the next sum."""
        if ahead.thread.compile is None:
            self._nccl.add_up(arrays, self._ordered, beside)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """End the job if what is launched in the body of a with statement does not finish within the time limit
        of the group, counted from when the launches before it have."""
        if self._watch is None:
            yield
            return
        self._watch.begin()
        try:
            yield
        finally:
            self._watch.launched(self._nccl.mark())


class _Watch:
    """Threads that end the job when a launch takes too long."""

    def __init__(self, group: Ranks) -> None:
        self._group, self._comm = group, group.another()
        self._begun: deque[float] = deque()
        """When the launches began that are not done."""
        self._moved = 0.0
        """When one was done."""
        self._launched: Queue[Callable[[], None]] = Queue()
        self._free = threading.BoundedSemaphore(_UNDER_WAY)
        for run in (self._wait, self._look):
            threading.Thread(target=run, name="gpucnn-watch", daemon=True).start()

    def begin(self) -> None:
        """Something is launched now, once few enough launches are under way."""
        self._free.acquire()
        self._begun.append(time.monotonic())

    def launched(self, wait: Callable[[], None]) -> None:
        """It is under way, and this function waits until it is done."""
        self._launched.put(wait)

    def _wait(self) -> None:
        while True:
            with suppress(Exception):  # the thread that launches gets the errors of a GPU as well
                self._launched.get()()
            self._begun.popleft()
            self._moved = time.monotonic()
            self._free.release()

    def _look(self) -> None:
        limit = self._group.time_limit
        while True:
            time.sleep(min(1.0, limit / 4))
            for began in islice(self._begun, 1):
                if time.monotonic() - max(self._moved, began) > limit:
                    self._group.end(self._group.silence(self._silent()))

    def _silent(self) -> list[int]:
        """The ranks that do not wait for another one: those whose threads do not answer."""
        others = [rank for rank in range(self._group.size) if rank != self._group.rank]
        word = np.zeros(1, np.uint8)
        waiting = {rank: self._comm.Irecv(np.empty(1, np.uint8), rank) for rank in others}
        sending = [self._comm.Isend(word, rank) for rank in others]
        end = time.monotonic() + _ANSWER
        while waiting and time.monotonic() < end:
            waiting = {rank: request for rank, request in waiting.items() if not request.Test()}
            time.sleep(0.01)
        del sending
        return list(waiting) or others
