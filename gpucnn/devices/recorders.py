"""What notes the kernels that a thread launches on the CPU, if anything does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import numpy as np


class Recorder(Protocol):
    """Notes launches, and does them."""

    def launch(self, launching: Any, control: int, count: int, arguments: tuple[Any, ...], together: bool) -> None:
        """A kernel: `launching(address of what does its tasks, address of the first argument of that,
        count, *arguments)`. By default that argument is `control`; the tasks run on the threads of a
        team if `together`, else on the calling one."""

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        """A function of Python, which fills arrays."""

    def prepare(self, result: np.ndarray, sources: tuple[np.ndarray | None, ...]) -> AbstractContextManager[np.ndarray]:
        """What `prepared` does."""


class _Thread(threading.local):
    recorder: Recorder | None = None


_thread = _Thread()


def current() -> Recorder | None:
    """What notes the launches of this thread."""
    return _thread.recorder


@contextmanager
def noted_by(recorder: Recorder | None) -> Iterator[None]:
    """In the body of a with statement, launches of this thread are noted; with None, they are not."""
    before, _thread.recorder = _thread.recorder, recorder
    try:
        yield
    finally:
        _thread.recorder = before


def again(function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function of Python that fills arrays, and call it whenever what is noted is repeated."""
    if _thread.recorder is None:
        function(*arguments)
    else:
        _thread.recorder.call(function, arguments)


def prepared(result: np.ndarray, *sources: np.ndarray | None) -> AbstractContextManager[np.ndarray]:
    """Launches in the body of the with statement compute the array that it gives from the sources alone, which
    are weights. It is `result`, or where launches are noted an array in its place, that is computed
    again only after a source has changed. None stands for no source.

    with prepared(panels, weight) as panels:
        fill(panels, weight)
    """
    recorder = _thread.recorder
    return nullcontext(result) if recorder is None else recorder.prepare(result, sources)
