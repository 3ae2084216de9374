"""Words on the screen: lines and bars on standard error, tables and JSON on standard output."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click


class Screen:
    """What a long command tells while it works, on standard error: lines, and bars for downloads and decoding."""

    def __init__(self) -> None:
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def say(self, line: str) -> None:
        """One line, below any bar."""
        self._stop()
        click.echo(line, err=True)

    def progress(self, what: str, done: int, total: int) -> None:
        """A bar for `what` on a terminal, else one line when it begins; a total of 0 is unknown."""
        if what not in self._tasks:
            self._tasks[what] = self._begin(what)
        if self._bars is not None:
            self._bars.update(self._tasks[what], completed=done, total=total or None)

    def _begin(self, what: str) -> Any:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        if not console.is_terminal:
            return click.echo(what, err=True)
        if self._bars is None:
            self._bars = Progress(console=console)
            self._bars.start()
        return self._bars.add_task(what)

    def _stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


class Bar:
    """A bar on standard error while `total` things are done, on a terminal; lines can be printed above it."""

    def __init__(self, what: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._terminal = self._bar.console.is_terminal
        self._task = self._bar.add_task(what, total=total)

    def __enter__(self) -> Bar:
        if self._terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def print(self, line: str) -> None:
        """A line of results on standard output, above the bar."""
        click.echo(line)

    def step(self) -> None:
        """One thing is done."""
        self._bar.advance(self._task)


def print_json(value: dict[str, Any]) -> None:
    """One JSON object."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def print_pairs(*pairs: tuple[str, Any]) -> None:
    """A name and a value on each line."""
    for name, value in pairs:
        click.echo(f"{name:<15} {value}")


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]], wrapped: int = 0) -> None:
    """Columns under a header; on a terminal that is too narrow, the cells of the last `wrapped` columns are wrapped."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 1000
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for place, title in enumerate(header):
        table.add_column(title, no_wrap=place < len(header) - wrapped, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def percent(share: float) -> str:
    """0.9755 → 97.55 %."""
    return f"{100 * share:.2f} %"
