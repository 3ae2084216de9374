"""Progress of training: Keras' bar on a terminal or in a notebook, elsewhere one line at the end.

    235/469 ━━━━━━━━━━━━━━━━━━━━ 1s 5ms/step - loss: 0.3567 - accuracy: 0.8912
    Epoch 1/5 - 469/469 - 3s - 6ms/step - loss: 0.2104 - accuracy: 0.9361

Both go to standard output, as Keras prints them, so that a file into which a program's output is
redirected has the epochs; under `on_standard_error`, as in the command, to standard error.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from time import perf_counter
from typing import Any, TextIO

import numpy as np

WIDTH = 20
"""Cells of the bar."""

INTERVAL = 0.1
"""The shortest time between two drawings of the bar, in seconds: on a GPU, each reads the losses so far."""

_NOTEBOOK_COLUMNS = 120

_on_screen: Progress | None = None
_kept_for_results = False
_silent = False


class Progress:
    """The progress of `target` steps (None if unknown).

    With `draws`, `update` keeps a bar on the screen; otherwise only `finish` writes.
    """

    def __init__(self, target: int | None, draws: bool) -> None:
        self.target = target
        self.draws = draws
        self.current = 0
        self._began = perf_counter()
        self._first_done: float | None = None
        self._drawn = -math.inf
        self._cells = 0
        self._console: Any = None

    def update(self, current: int, values: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        """Report that `current` steps are done, with the metrics so far or a function that returns
        them, which is called if the bar is drawn."""
        now = perf_counter()
        self.current = current
        if current == 1:
            self._first_done = now
        if self.draws and now - self._drawn >= INTERVAL:
            self._drawn = now
            left = None if self.target is None else self.target - current
            time = _duration(now - self._began) if left is None else _duration(left * self._seconds_per_step(now))
            self._draw(time, self._per_step(now), values() if callable(values) else values)

    def finish(self, values: Mapping[str, Any], title: str = "") -> None:
        """Report the end: draw the full bar, or write one line that begins with `title`."""
        global _on_screen
        now = perf_counter()
        self.current = self.target or self.current
        time = f"{now - self._began:.0f}s"
        if self.draws:
            self._draw(time, self._per_step(now), values, "\n")
            _on_screen = None
            return
        count = f"{self.current}/{self.current}" if self.current else ""
        _write(" - ".join(filter(None, [title, count, time, self._per_step(now), *_described(values)])) + "\n")

    def clear(self) -> None:
        """Remove the bar from the screen until the next `update`."""
        self._console.file.write("\r" + " " * self._cells + "\r")
        self._cells, self._drawn = 0, -math.inf

    def _seconds_per_step(self, now: float) -> float:
        """The mean over the steps so far, except the first one, which includes compilation."""
        if self._first_done is not None and self.current > 1:
            return (now - self._first_done) / (self.current - 1)
        return (now - self._began) / max(self.current, 1)

    def _per_step(self, now: float) -> str:
        seconds = self._seconds_per_step(now)
        if not self.current:
            return ""
        if seconds >= 1:
            return f"{seconds:.0f}s/step"
        return f"{seconds * 1e3:.0f}ms/step" if seconds >= 1e-3 else f"{seconds * 1e6:.0f}us/step"

    def _draw(self, time: str, per_step: str, values: Mapping[str, Any], end: str = "") -> None:
        global _on_screen
        from rich.control import Control
        from rich.segment import ControlType
        from rich.text import Text

        if self._console is None:
            self._console = _console()
        line = Text()
        if self.target is None:
            line.append(f"{self.current:7d}/Unknown", "bold")
        else:
            cell = "-" if self._console.options.ascii_only else "━"
            done = WIDTH * min(self.current, self.target) // max(self.target, 1)
            line.append(f"{self.current:{len(str(self.target))}d}/{self.target}", "bold").append(" ")
            line.append(cell * done, "green").append(cell * (WIDTH - done), "bright_black")
        line.append(f" {time}", "bold").append(f" {per_step}" if per_step else "")
        line.append("".join(f" - {text}" for text in _described(values)))
        if not end:
            line.truncate(self._console.width - 1, overflow="ellipsis")
        cells, self._cells = self._cells, line.cell_len
        line.append(" " * (cells - self._cells))
        self._console.control(Control(ControlType.CARRIAGE_RETURN))
        self._console.print(line, end=end, no_wrap=True, overflow="ignore", crop=False)
        _on_screen = self


@contextmanager
def on_standard_error() -> Iterator[None]:
    """Show all progress on standard error, so that standard output holds only results."""
    global _kept_for_results
    before, _kept_for_results = _kept_for_results, True
    try:
        yield
    finally:
        _kept_for_results = before


def is_interactive() -> bool:
    """Whether a bar can be drawn: in a notebook, or on a terminal that can redraw a line."""
    if _silent:
        return False
    if _in_notebook():
        return True
    with suppress(AttributeError, ValueError):  # a program's own stream, or one that it has closed
        return _stream().isatty() and not _console().is_dumb_terminal
    return False


def say(text: str) -> None:
    """Write a line, above the bar if there is one on the screen."""
    if _on_screen is not None:
        _on_screen.clear()
    _write(f"{text}\n")


def _described(values: Mapping[str, Any]) -> list[str]:
    """`name: value` with four decimals, scientific below 0.001."""
    numbers = {name: float(np.mean(value)) for name, value in values.items()}
    return [f"{name}: {value:.4f}" if abs(value) >= 1e-3 else f"{name}: {value:.4e}" for name, value in numbers.items()]


def _duration(seconds: float) -> str:
    whole = int(seconds)
    if whole > 3600:
        return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
    return f"{whole // 60}:{whole % 60:02d}" if whole > 60 else f"{whole}s"


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules


def _stream() -> TextIO:
    """Standard output, unless that is kept for results."""
    return sys.stderr if _kept_for_results else sys.stdout


@contextmanager
def silenced() -> Iterator[None]:
    """Show nothing in the meantime."""
    global _silent
    before, _silent = _silent, True
    try:
        yield
    finally:
        _silent = before


def silence() -> None:
    """Show nothing from now on: another process of the same training does."""
    global _silent
    _silent = True


def _write(text: str) -> None:
    if _silent:
        return
    with suppress(OSError, ValueError, AttributeError):  # closed or None: no reason to end a training
        stream = _stream()
        stream.write(text)
        stream.flush()


def _console() -> Any:
    from rich.console import Console

    if _in_notebook():
        return Console(file=_stream(), force_jupyter=False, force_terminal=True, width=_NOTEBOOK_COLUMNS)
    return Console(file=_stream())
