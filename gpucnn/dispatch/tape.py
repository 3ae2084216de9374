"""Calls of ops on the CPU, recorded while they are made and repeated on the same arrays.

A repetition does not check, choose or allocate, which for small arrays takes longer than computing.
Kernels that are `compiled` are replayed without Python between them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from ..devices import recorders
from ..devices.cpu import Arena, allocating_from
from .case import Spec

if TYPE_CHECKING:
    from ..devices.recording import Recording


class Kernel(Protocol):
    """What is recorded of a kernel."""

    @property
    def launch(self) -> Callable[..., None]:
        """The registered function."""

    @property
    def algorithm(self) -> str:
        """Its name."""

    @property
    def compiled(self) -> bool:
        """Whether it launches tasks alone, as shapes and parameters say."""

    def run(self, *arrays: Any, **params: Any) -> None:
        """Launch."""


class Recorder(Protocol):
    """What the ops report their calls to."""

    def run(self, kernel: Kernel, arrays: Sequence[Any], params: dict[str, Any], own: Sequence[Any]) -> None:
        """Launch a kernel on these arrays, of which `own` were allocated for it."""

    def repeat(self, function: Callable[..., Any], arrays: Sequence[Any]) -> None:
        """Note a function that fills arrays and has been called."""


class Run(NamedTuple):
    """A kernel of a tape: shapes and types of its arrays in the order in which it takes them, how many of the first
    were allocated as its `results`, its parameters, and which launches and calls are its own, from `first` up
    to `stop`."""

    kernel: Any
    arrays: tuple[Spec | None, ...]
    results: int
    params: dict[str, Any]
    first: int
    stop: int


class Rehearsal:
    """A recorder under which nothing is computed: results are zeros.

    launches   what would have been launched, in order
    """

    def __init__(self) -> None:
        self.launches: list[Callable[[], Any]] = []

    def run(self, kernel: Kernel, arrays: Sequence[Any], params: dict[str, Any], own: Sequence[Any]) -> None:
        """Fill the results with zeros."""
        for array in own:
            array[...] = 0
        self.launches.append(partial(kernel.launch, *arrays, **params))

    def repeat(self, function: Callable[..., Any], arrays: Sequence[Any]) -> None:
        """Nothing is compiled for it."""


class Tape:
    """A recorder that computes, and can do so again.

    most_bytes      how much memory the arrays that are allocated meanwhile may take: they stay as long as
                    the tape, where those that are no longer needed make room for later ones. A tape that
                    needs more becomes incomplete.
    prepared_bytes  how much memory more for what follows from weights alone, which is then not computed
                    again before one of them changes
    """

    def __init__(self, most_bytes: float, prepared_bytes: float = 0) -> None:
        from ..devices.recording import Recording  # which imports Numba

        self.complete = True
        self._calls_blas = False
        self._most_bytes = most_bytes
        self._arena = Arena()
        self._recording: Recording = Recording(self._arena.owns, prepared_bytes)
        self._runs: list[Run] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the calls of this thread in the body of the with statement."""
        with onto(self), allocating_from(self._arena), recorders.noted_by(self._recording):
            yield

    def run(self, kernel: Kernel, arrays: Sequence[Any], params: dict[str, Any], own: Sequence[Any]) -> None:
        """Launch a kernel and note what it launches, or, unless it is `compiled`, the call itself."""
        first = self._recording.length
        self._calls_blas = self._calls_blas or kernel.algorithm == "blas"
        if kernel.compiled:
            kernel.run(*arrays, **params)
            self._recording.keep(arrays)
        else:
            with recorders.noted_by(None):
                kernel.run(*arrays, **params)
            self.repeat(partial(kernel.launch, **params), arrays)
        specs = tuple(None if array is None else Spec(array.shape, array.dtype) for array in arrays)
        results = sum(array is one for array, one in zip(arrays, own, strict=False))
        self._runs.append(Run(kernel, specs, results, params, first, self._recording.length))
        self.complete = self.complete and self._arena.total_bytes <= self._most_bytes

    def repeat(self, function: Callable[..., Any], arrays: Sequence[Any]) -> None:
        """Note a function that fills arrays and has been called."""
        self._recording.note_call(function, list(arrays))

    def end(self, x: np.ndarray | None = None) -> None:
        """End the recording. Arrays that lie in `x` are from now on those of the argument of `replay`."""
        self._arena.trim()
        self.complete = self._recording.end(x) and self.complete

    @property
    def allocated_bytes(self) -> int:
        """How much memory the arrays take that were allocated meanwhile."""
        return self._arena.total_bytes

    @property
    def may_call_blas(self) -> bool:
        """Whether what is repeated may call BLAS, whose threads are then to be limited."""
        return self._calls_blas or self._recording.calls_python

    def replay(self, x: np.ndarray | None = None, unchanged: bool = False) -> None:
        """Repeat all calls; `x` is contiguous, with the size and type of the one that was recorded. With `unchanged`,
        it is not looked up whether a weight has changed since the last repetition."""
        self._recording.replay(x, unchanged)

    def times(self, x: np.ndarray | None = None) -> list[tuple[Run | None, float]]:
        """Repeat all calls, and return the seconds of each kernel, in order, and with None those between two."""
        seconds, place = self._recording.times(x), 0
        times: list[tuple[Run | None, float]] = []
        for run in (*self._runs, None):
            first = len(seconds) if run is None else run.first
            if place < first:
                times.append((None, sum(seconds[place:first])))
            if run is not None:
                times.append((run, sum(seconds[run.first : run.stop])))
                place = run.stop
        return times


class _Thread(threading.local):
    recorder: Recorder | None = None


_thread = _Thread()


def recording() -> Recorder | None:
    """What the ops that this thread calls report to, if anything."""
    return _thread.recorder


@contextmanager
def onto(recorder: Recorder) -> Iterator[None]:
    """Record the calls of this thread in the body of the with statement."""
    _thread.recorder = recorder
    try:
        yield
    finally:
        _thread.recorder = None
