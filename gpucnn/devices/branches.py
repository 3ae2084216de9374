"""Launches beside those that follow them: branches of a recorded step.

The gradient of weights is needed by the update alone, at the end of a step. With `GPUCNN_BRANCHES=1`, or in
`on()`, a device that records launches as a graph computes such a gradient on a branch, at the same time as
the gradients of the layers before. Results have the same bits. By default, and on other devices, launches
keep their order: branches stay off until they have been measured on a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from . import choose
from .scoped import Scoped

_enabled = Scoped("branches", False)


def aside(following: bool = True) -> AbstractContextManager[None]:
    """A context whose launches may run at the same time as those after it, until `join`; `following` is whether
    there are any.

    Ops are called in it, and no two launches that add up by the counters of include/last_block.cuh: all that
    they read stays as it is until `join`, and nothing reads what they write.
    """
    return choose.current().aside() if following and is_enabled() else nullcontext()


def join() -> None:
    """What is launched from here on runs after all that was launched `aside`."""
    choose.current().join()


@contextmanager
def on() -> Iterator[None]:
    """In the body of the with statement, launches may run aside."""
    with _enabled.scope():
        _enabled.set(True)
        yield


def is_enabled() -> bool:
    """Whether launches may run aside."""
    return _enabled.get() or os.environ.get("GPUCNN_BRANCHES") == "1"
