"""What commands print: progress on standard error, tables and JSON on standard output.

Text that may come from a file is cleaned of what controls a terminal.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click

from ..devices.free_memory import readable
from ..distributed import leads
from ..errors import printable
from ..runs.run import plain


class Screen:
    """How far a long command is, on standard error: lines, and on a terminal bars.

    transient  whether the bars disappear when the command ends
    """

    def __init__(self, transient: bool = False) -> None:
        self._transient = transient
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def say(self, line: str) -> None:
        """Print one line below any bar."""
        if not leads():
            return
        self._stop()
        click.echo(printable(line), err=True)

    def remark(self, line: str) -> None:
        """Print one line above the bars, which stay."""
        if self._bars is None:
            return self.say(line)
        return self._bars.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    def progress(self, what: str, done: int, total: int) -> None:
        """Draw a bar on a terminal, else print `what` once; a total of 0 means unknown."""
        if not leads():
            return
        what = printable(what)
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
            # On a terminal, results appear above the bars; redirected results must not.
            self._bars = Progress(console=console, transient=self._transient, redirect_stdout=sys.stdout.isatty())
            self._bars.start()
        return self._bars.add_task(what)

    def _stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object; numbers that are not finite become null."""
    click.echo(json.dumps(plain(value), indent=2, allow_nan=False))


def print_pairs(*pairs: tuple[str, Any]) -> None:
    """Print a name and a value on each line."""
    for name, value in pairs:
        click.echo(printable(f"{name:<15} {value}"))


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns under a header. Where the terminal, or COLUMNS, is too narrow, the widest wrap,
    between words or after a `/`."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        console.width = 1000
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for title in header:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(_Cell(printable(cell)) for cell in row))
    with console.capture() as printed:
        console.print(table)
    for line in printed.get().splitlines():
        sys.stdout.write(f"{_LINE_END.sub(lambda end: end[0].replace(' ', ''), line)}\n")


_LINE_END = re.compile(r"(?: |\x1b\[[0-9;]*m)+$")
"""Spaces at the end of a line, and the codes of styles among them."""


class _Cell:
    """The text of a cell for rich, which by itself wraps between words only."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.parts = re.findall(r"[^\s/]*/+|[^\s/]+\s*|\s+", text)

    def __rich_measure__(self, console: Any, options: Any) -> Any:
        from rich.cells import cell_len
        from rich.measure import Measurement

        least = max((cell_len(part.rstrip()) for part in self.parts), default=0)
        return Measurement(least, max(least, cell_len(self.text)))

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.cells import cell_len, chop_cells
        from rich.text import Text

        lines, width = [""], options.max_width
        for part in self.parts:
            for piece in [part] if cell_len(part.rstrip()) <= width else chop_cells(part, width):
                if cell_len(lines[-1]) + cell_len(piece.rstrip()) > width:
                    lines.append("")
                lines[-1] += piece
        yield Text("\n".join(line.rstrip() for line in lines), no_wrap=True)


def percent(share: float) -> str:
    """0.9755 → 97.55 %."""
    return f"{100 * share:.2f} %"


def four_decimals(loss: float | None) -> str:
    """A loss, which is None in JSON where it was NaN."""
    return f"{math.nan if loss is None else loss:.4f}"


def verdict(loss: float | None) -> int:
    """The exit status for this test loss, which is None or NaN if the model has diverged."""
    if loss is not None and math.isfinite(loss):
        return 0
    click.echo("gpucnn: the test loss is nan: training has diverged; lower the learning rate (--lr)", err=True)
    return 1


def peak_memory(record: dict[str, Any]) -> str:
    """The most memory that a run has occupied: arrays on a GPU, and the process (its resident set)."""
    device, host = (record.get(f"peak_{where}_bytes") for where in ("device", "host"))
    on_device = [] if device is None else [f"{readable(device)} GPU"]
    return ", ".join([*on_device, *([] if host is None else [f"{readable(host)} host"])]) or "–"
