"""What the emulator does, kept and done again: its form of a CUDA graph."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ...errors import LaunchError


class _Recording(threading.local):
    """What this thread has recorded so far; None unless it records."""

    actions: list[Callable[[], object]] | None = None


_recording = _Recording()


def perform(action: Callable[[], object]) -> None:
    """Do it now, or keep it for later if this thread records."""
    if _recording.actions is None:
        action()
    else:
        _recording.actions.append(action)


def refuse(event: str) -> None:
    """Raise `LaunchError` if this thread records: a GPU captures neither reads nor uploads."""
    if _recording.actions is not None:
        raise LaunchError(f"{event} while launches are recorded: a step that is replayed cannot wait for the host")


def record(run: Callable[[], None]) -> Callable[[], None]:
    """A function that does what `run` would do; `run` is called, without effect."""
    actions: list[Callable[[], object]] = []
    _recording.actions = actions
    try:
        run()
    finally:
        _recording.actions = None

    def replay() -> None:
        for action in actions:
            action()

    return replay
