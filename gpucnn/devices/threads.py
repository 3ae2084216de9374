"""Threads for the CPU kernels: one task per fixed slice of the batch, one BLAS thread in each.

Slices depend on the batch alone, not on the number of threads, and partial sums are added in the
order of the slices: results have the same bits on any number of threads. Each thread takes the next
free slice, so that a core that is also busy elsewhere does not hold up the others.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

from ..errors import ArgumentError

SLICES = 8
"""A batch is cut into at most this many slices."""

_threads = 0
_pool: ThreadPoolExecutor | None = None
_blas: Any = None


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
    _threads = count or available()
    if _pool is not None:
        _pool.shutdown()
    _pool = ThreadPoolExecutor(_threads - 1, "gpucnn") if _threads > 1 else None


def one_blas_thread() -> AbstractContextManager:
    """A context for training and inference in which BLAS calls run on their calling thread."""
    global _blas
    if _blas is None:
        from threadpoolctl import ThreadpoolController

        _blas = ThreadpoolController()
    return _blas.limit(limits=1, user_api="blas")


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


def run(task: Callable[[int], None], count: int, parallel: bool = True) -> None:
    """Call `task(0)` … `task(count - 1)`, spread over the threads; returns when all are done.

    With `parallel=False`, all run on the calling thread: for work of less than about 0.1 ms, which
    is what waking a thread costs.
    """
    if not parallel or count == 1 or in_use() == 1 or _pool is None:
        for i in range(count):
            task(i)
        return
    left = iter(range(count))

    def share() -> None:
        for i in left:
            task(i)

    others = [_pool.submit(share) for _ in range(min(_threads, count) - 1)]
    try:
        share()
    finally:
        for other in others:
            other.result()
