"""Threads that take the tasks of a compiled kernel, without Python between them.

@tasks
def scale(i, y, x, factor):  # task i: a row
    for k in range(y.shape[1]):
        y[i, k] = factor * x[i, k]

scale(len(y), y, x, factor)  # all rows, each on whichever thread is free

A training step consists of dozens of kernels of less than a millisecond, and waking a thread that
sleeps takes 0.05 to 0.1 ms. So a thread that has run out of tasks looks out for more for a while
before it goes to sleep. Handing over takes less than a microsecond then, and no thread needs the
interpreter for it.

A kernel whose threads are taken (by a call from another Python thread) or asleep does not wait: the
calling thread computes, and whoever comes takes a share.
"""

from __future__ import annotations

import atexit
import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import atomics, forks, recorders, threads
from .atomics import add, exchange, now, pause, read, write
from .njit import address_of, cached, inner, njit
from .packed_tasks import call, task_of

_WORD, _DONE, _BUSY, _CLOSING, _FUNCTION, _ARGUMENTS = 0, 16, 32, 48, 64, 65
"""Where a control array has: how many tasks there are (upper half) and the next one (lower half);
how many are done; whether a kernel is running; whether the threads are to end; the kernel. What
threads write is in cache lines of its own."""

_UNTIL, _FOR, _SHARED, _MISSED, _RESTING, _LENGTH = 80, 81, 82, 83, 96, 112
"""Until when kernels are not shared, and for how long (ns); the time in kernels that were, and the part of
it in those of which no other thread has taken a task; how many threads sleep; and the length."""

_IDLE_ROUNDS = 40_000
"""Looks for a task before a thread goes to sleep: 1 to 2 ms."""

_ROUNDS = 500
"""Looks for the end of the others' tasks, about 20 µs, before the clock is read."""

_PATIENCE = 100_000
"""A task of another thread may take so many ns more than those of the calling one. One that takes longer
has lost its processor to another program, and nobody else can end it."""

_WINDOW = 30_000_000
"""After so many ns of kernels it is looked whether the others have taken tasks in most of them: they may
be waiting for the processor of the calling thread."""

_SHORTEST, _LONGEST = 10_000_000, 160_000_000
"""For so many ns kernels are not shared where other programs take so much that waiting costs more than a
second thread brings: at first, and at most if that goes on."""

_LOW = 0xFFFFFFFF

_offer_processor = types.ExternalFunction("sched_yield", types.int32()) if sys.platform != "win32" else None
SHARE = types.CPointer(types.int64), *[types.int64] * 4
"""What `_share` takes."""

# -- the tasks of one kernel after another -----------------------------------------------------------------------------


@njit(forceinline=True)
def _take(control):
    """Do the tasks that nobody has taken; returns how many."""
    taken = 0
    while True:
        word = read(control, _WORD)
        if word & _LOW >= word >> 32:
            return taken
        word = add(control, _WORD, 1)
        if word & _LOW >= word >> 32:
            return taken
        call(control[_FUNCTION], control[_ARGUMENTS], word & _LOW)
        add(control, _DONE, 1)
        taken += 1


@njit(forceinline=True)
def _by_itself(count, function, arguments):
    for i in range(count):
        call(function, arguments, i)


@njit(forceinline=True)
def _together(control, count, function, arguments, start):
    """All tasks of a kernel, on all threads, from a time `start` on."""
    control[_FUNCTION], control[_ARGUMENTS] = function, arguments
    write(control, _DONE, 0)
    write(control, _WORD, count << 32)
    taken, rounds, lost = _take(control), 0, 0
    end = now()
    patience = _PATIENCE + end - start
    while read(control, _DONE) < count:
        pause()
        rounds += 1
        if rounds % _ROUNDS == 0:
            waited = now() - end
            if waited > patience and read(control, _DONE) < count:
                lost = waited
                if _offer_processor is not None:  # which may be the one that the other thread waits for
                    _offer_processor()
    missing = _are_missing(control, end - start, taken == count)
    if missing or lost:
        _stay_alone(control, end + lost, missing or end - control[_UNTIL] < lost)


@njit(forceinline=True)
def _are_missing(control, elapsed, alone):
    """Whether in most of the time none of the threads that are awake has taken a task."""
    if control[_RESTING] == 0:
        control[_SHARED] += elapsed
        control[_MISSED] += elapsed if alone else 0
    if control[_SHARED] < _WINDOW:
        return False
    missing = 2 * control[_MISSED] > control[_SHARED]
    control[_SHARED] = control[_MISSED] = 0
    return missing


@njit(forceinline=True)
def _stay_alone(control, moment, pays):
    """Share no kernels from a moment on, for twice as long as the last time; if that does not pay, share the
    next one."""
    control[_FOR] = min(max(2 * control[_FOR], _SHORTEST), _LONGEST) if pays else 0
    control[_UNTIL] = moment + control[_FOR]
    control[_SHARED] = control[_MISSED] = 0


@njit(cache=True, nogil=True, no_cpython_wrapper=True)
def _share(control, count, function, arguments, words):
    """All tasks of a kernel, on all threads; on this one alone if the others are taken or were late."""
    if count == 1 or exchange(control, _BUSY, 1):
        _by_itself(count, function, arguments)
        return
    start = now()
    if start < control[_UNTIL]:
        _by_itself(count, function, arguments)
    else:
        _together(control, count, function, arguments, start)
    write(control, _BUSY, 0)


@cache
def share_address() -> int:
    """The address of `_share`."""
    return address_of(_share, SHARE)


_compiles_only = ContextVar("_compiles_only", default=False)

_nothing = ctypes.CFUNCTYPE(None)(lambda: None)
"""What is called in place of `_share` where no task is to be done."""


@contextmanager
def compiling_only() -> Iterator[None]:
    """In the body of a with statement, kernels that are called are compiled, and do nothing."""
    token = _compiles_only.set(True)
    try:
        yield
    finally:
        _compiles_only.reset(token)


def _address_to_call() -> int | None:
    return ctypes.cast(_nothing, ctypes.c_void_p).value if _compiles_only.get() else share_address()


@intrinsic
def call_share(typing, address, control, count, function, arguments, words):
    """What `_share` does, by its address: it is compiled once, not into each kernel."""

    def emit(context, builder, signature, args):
        number = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [number.as_pointer(), *[number] * 4])
        address, control, *others = args
        pointer = builder.inttoptr(control, number.as_pointer())
        builder.call(builder.inttoptr(address, kind.as_pointer()), [pointer, *others])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), emit


@njit(nogil=True, cache=True)
def _work(control):
    """Take tasks until there have been none for a while."""
    idle = 0
    while idle < _IDLE_ROUNDS and read(control, _CLOSING) == 0:
        word = read(control, _WORD)
        if word & _LOW < word >> 32:
            _take(control)
            idle = 0
        else:
            pause()
            idle += 1


# -- the threads -------------------------------------------------------------------------------------------------------


class _Team:
    """So many threads that help the calling one."""

    def __init__(self, helpers: int) -> None:
        self.control = np.zeros(_LENGTH, np.int64)
        self.address = self.control.ctypes.data
        if helpers:  # the threads would come late for what they had to compile
            _work.compile((types.int64[::1],))
        self._asleep: list[Any] = []
        self._threads = [
            threading.Thread(target=self._help, name=f"gpucnn-{i}", daemon=True) for i in range(1, helpers + 1)
        ]
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Wake those that sleep, unless kernels are not shared for now."""
        if self._asleep and not self._stays_alone():
            self._wake_all()

    def _stays_alone(self) -> bool:
        until = self.control[_UNTIL]
        return atomics.CLOCK is not None and until > 0 and time.clock_gettime_ns(atomics.CLOCK) < until

    def _wake_all(self) -> None:
        while self._asleep:
            try:
                self._asleep.pop().release()
            except IndexError:  # another thread was faster
                return
            self.control[_RESTING] = len(self._asleep)

    def close(self) -> None:
        """End the threads."""
        self.control[_CLOSING] = 1
        for thread in self._threads:
            while thread.is_alive():
                self._wake_all()
                thread.join(0.01)

    def _help(self) -> None:
        bed = threading.Lock()
        bed.acquire()
        while not self.control[_CLOSING]:
            _work(self.control)
            self._asleep.append(bed)
            self.control[_RESTING] = len(self._asleep)
            word = int(self.control[_WORD])
            if word & _LOW < word >> 32:  # it came while this thread waited for the interpreter
                self._wake_all()
            bed.acquire()


NOBODY = _Team(0)
"""What a thread that works alone passes on: it is always busy."""
NOBODY.control[_BUSY] = 1

_team: _Team | None = None
_changing = threading.RLock()


def call_team() -> _Team:
    """The team, which is awake or waking up."""
    global _team
    team = _team
    if team is None:
        with _changing:
            if _team is None:
                if threads.in_use() == 1:
                    return NOBODY
                _team = _Team(threads.in_use() - 1)
            team = _team
    team.wake()
    return team


def _dismiss() -> None:
    """End the threads; the next kernel calls others."""
    global _team
    with _changing:
        team, _team = _team, None
    if team is not None:
        team.close()


def _start_anew() -> None:
    """In a forked child, which has none of the threads."""
    global _team, _changing
    _team, _changing = None, threading.RLock()


threads.when_changed(_dismiss)
atexit.register(_dismiss)
forks.in_child(_start_anew)


# -- kernels -----------------------------------------------------------------------------------------------------------


def tasks(function: Callable[..., None], of: Callable[..., None] | None = None) -> Callable[..., None]:
    """A kernel made of tasks: `function(i, *arguments)` is task i, compiled by Numba.

    What this returns is called as `kernel(count, *arguments)`, for tasks 0 … count - 1, in any
    order and side by side; `parallel=False` does them one after another on the calling thread.
    Division by zero follows NumPy; tasks raise nothing. For a function that others are made into,
    `of` is the one whose code tells it from the others on disk.
    """
    kernel: Any = inner(function)
    if kernel is function:  # Numba is told not to compile

        def in_python(count: int, *arguments: Any, parallel: bool = True) -> None:
            for i in range(count):
                function(i, *arguments)

        return in_python

    task = task_of(kernel)

    def launch(share, control, count, *arguments):
        address, place, words = task(arguments)
        call_share(share, control, count, address, place, words)

    launching: Any = cached(njit(nogil=True, no_cfunc_wrapper=True)(launch), of or function)

    def run(count: int, *arguments: Any, parallel: bool = True) -> None:
        together = parallel and count > 1
        helpers = call_team() if together else NOBODY
        recorder = recorders.current()
        if recorder is None:
            launching(_address_to_call(), helpers.address, count, *arguments)
        else:
            recorder.launch(launching, helpers.address, count, arguments, together)

    return run


def whole(function: Callable[..., None]) -> Callable[..., None]:
    """A kernel of one task, for what is not worth a second thread: `kernel(*arguments)`. The function is
    one of Python or of `njit`."""
    body: Any = function if hasattr(function, "py_func") else inner(function)

    def task(i, arguments):
        body(*arguments)

    run = tasks(task, of=getattr(function, "py_func", function))
    return lambda *arguments: run(1, arguments)
