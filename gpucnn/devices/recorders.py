"""What notes the kernels that a thread launches on the CPU, if anything does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Recorder(Protocol):
    """Notes launches, and does them."""

    def launch(self, launching: Any, control: int, count: int, arguments: tuple[Any, ...], together: bool) -> None:
        """A kernel: `launching(address of what does its tasks, address of the first argument of that,
        count, *arguments)`. By default that argument is `control`; the tasks run on the threads of a
        team if `together`, else on the calling one."""

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        """A function of Python, which fills arrays."""


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
