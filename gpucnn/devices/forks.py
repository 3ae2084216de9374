"""Forks of this process: what a child must find whole.

A forked child is a copy with one thread. A lock that another thread held at that moment stays
locked in it, and a pool has no threads: whoever waits for one of them waits for ever.
"""

from __future__ import annotations

# These two hold their locks over forks as well. Handlers are called in the reverse order of their registration, so
# gpucnn's locks are taken before those that are taken while one of gpucnn's is held.
import concurrent.futures.thread  # noqa: F401
import logging  # noqa: F401
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Protocol


class Lock(Protocol):
    """A reentrant lock."""

    def acquire(self) -> object:
        """Wait until no other thread holds the lock, and take it."""

    def release(self) -> object:
        """Give it back."""


_SECONDS_ASIDE = 60

_locks: list[Lock] = []
_taken: list[Lock] = []


def hold(lock: Lock, outermost: bool = False) -> None:
    """From now on, take the lock before each fork, so that no other thread holds it in the child.

    outermost  whether others are taken while it is held
    """
    _locks.insert(0 if outermost else len(_locks), lock)


def in_child(function: Callable[[], None]) -> None:
    """Call a function in each forked child, before anything else runs there."""
    if hasattr(os, "register_at_fork"):  # Windows does not fork
        os.register_at_fork(after_in_child=function)


def is_possible() -> bool:
    """Whether a forked copy of this process can compute (Linux)."""
    return sys.platform.startswith("linux")


def aside(function: Callable[[], object]) -> None:
    """Call a function in a forked child, which prints nothing and ends after a minute at the latest;
    whether it fails does not matter. This process waits for it when it ends itself."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, RuntimeWarning):  # Python's and JAX' of forks next to threads: `hold`
            warnings.simplefilter("ignore", category)
        child = os.fork()
    if child:
        threading.Thread(target=os.waitpid, args=(child, 0)).start()
        return
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_SECONDS_ASIDE)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        function()
    finally:
        os._exit(0)


def _take() -> None:
    for lock in list(_locks):
        lock.acquire()
        _taken.append(lock)


def _give_back() -> None:
    locks = _taken[::-1]
    _taken.clear()  # while the locks are held: a fork in another thread waits for them
    for lock in locks:
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_take, after_in_parent=_give_back, after_in_child=_give_back)
