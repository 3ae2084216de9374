"""Threads for the CPU kernels: one task per fixed slice of the batch, one BLAS thread in each.

Slices depend on the batch alone, not on the number of threads, and partial sums are added in the
order of the slices: results have the same bits on any number of threads. Each thread takes the next
free slice, so that a core that is also busy elsewhere does not hold up the others.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import cache
from typing import Any

import numpy as np

from ..errors import ArgumentError
from . import forks

SLICES = 8
"""A batch is cut into at most this many slices."""

_threads = 0
_pool: ThreadPoolExecutor | None = None
_changing_pool = threading.RLock()
_reactions: list[Callable[[], None]] = []

_changing_limit = threading.RLock()
_limiting: list[int] = []
"""The threads that are inside `one_blas_thread`."""
_original: list[int] = []
"""How many threads each BLAS library had before the first of them came."""


def available() -> int:
    """How many CPU cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity call
        return os.cpu_count() or 1


def use(count: int | None = None) -> None:
    """Use `count` threads from now on (None: one per available core)."""
    global _threads, _pool
    if count is not None and count < 1:
        raise ArgumentError(f"threads={count} is out of range: use 1 or more")
    with _changing_pool:
        _threads = count or available()
        before, _pool = _pool, None
    if before is not None:
        before.shutdown()
    for react in _reactions:
        react()


def when_changed(react: Callable[[], None]) -> None:
    """From now on, call this after each change of the number of threads."""
    _reactions.append(react)


class one_blas_thread:  # noqa: N801  a context manager, as those that functions make
    """A context for training and inference in which BLAS calls run on their calling thread.

    The limit is the whole process's: the last thread that leaves such a context lifts it.
    """

    def __enter__(self) -> None:
        global _original
        libraries, self._thread = blas_libraries(), threading.get_ident()
        with _changing_limit:
            self._before = [library.get_num_threads() for library in libraries]
            if not _limiting:
                _original = self._before
            _limiting.append(self._thread)
            for library in libraries:
                _set_threads(library, 1)

    def __exit__(self, *_: object) -> None:
        with _changing_limit:
            _limiting.remove(self._thread)
            _lift_limit(self._before)


def _lift_limit(before: list[int]) -> None:
    """Undo the limit where it is the calling thread's alone, and elsewhere if nobody else needs
    it."""
    for library, own, original in zip(blas_libraries(), before, _original, strict=True):
        if library.internal_api == "openblas" and library.threading_layer == "openmp":
            _set_threads(library, own)
        elif not _limiting:
            _set_threads(library, original)


def _set_threads(library: Any, count: int) -> None:
    # Since threadpoolctl 3.8, set_num_threads does nothing in other threads than the first that called it.
    getattr(library, "_real_set_num_threads", library.set_num_threads)(count)


@cache
def blas_libraries() -> list[Any]:
    """The BLAS libraries that are loaded."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas").lib_controllers


def in_use() -> int:
    """The number of threads in use."""
    if not _threads:
        use()
    return _threads


def slices(n: int, smallest: int = 1) -> list[slice]:
    """0 … n cut into at most `SLICES` nearly equal slices of at least `smallest`."""
    count = max(1, min(SLICES, n // smallest))
    bounds = [n * i // count for i in range(count + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(bounds)]


@cache
def bounds(n: int, smallest: int = 1) -> np.ndarray:
    """Where the slices of 0 … n begin, and n, as int64."""
    return np.array([*(s.start for s in slices(n, smallest)), n])


def run(task: Callable[[int], None], count: int, parallel: bool = True) -> None:
    """Call `task(0)` … `task(count - 1)`, spread over the threads; returns when all are done.

    With `parallel=False`, all run on the calling thread: for work of less than about 0.1 ms, which
    is what waking a thread costs.
    """
    if not parallel or count == 1 or in_use() == 1:
        for i in range(count):
            task(i)
        return
    left = iter(range(count))

    def share() -> None:
        for i in left:
            task(i)

    others = _submit(share, min(_threads, count) - 1)
    try:
        share()
    finally:
        for other in others:
            if not other.cancel():  # one that waits behind the work of other callers has nothing left to do
                other.result()


def _submit(task: Callable[[], None], count: int) -> list[Future]:
    """Start a task on so many threads of the pool, each with the settings of the calling thread."""
    global _pool
    with _changing_pool:
        if _pool is None:
            _pool = ThreadPoolExecutor(max(_threads - 1, 1), "gpucnn")
        return [_pool.submit(copy_context().run, task) for _ in range(count)]


def _start_anew() -> None:
    """In a forked child: a lock that is free, a pool that has threads, and no limit on BLAS for
    threads that it does not have."""
    global _changing_pool, _pool
    _changing_pool, _pool = threading.RLock(), None
    limited = bool(_limiting)
    _limiting[:] = [thread for thread in _limiting if thread == threading.get_ident()]
    if limited and not _limiting:
        _lift_limit(_original)


forks.hold(_changing_limit)
forks.in_child(_start_anew)
