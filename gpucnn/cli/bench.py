"""The command bench: kernels side by side, checked and timed."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..errors import ArgumentError
from .group import LOAD, main, options
from .screen import Bar, print_json, print_table


@main.command()
@options(
    click.argument("pattern", metavar="[OP]", required=False, default=""),
    click.option(
        "--case", "cases", metavar="NAME", multiple=True, help="Only this case; repeatable.  [default: all large ones]"
    ),
    click.option(
        "-a", "--axis", "axes", metavar="NAME=A,B", multiple=True, help="Other extents, such as batch=32,128."
    ),
    click.option("--backend", metavar="NAME", help="Only kernels in this language: numpy, njit, cuda or numba."),
    click.option("--precision", metavar="NAME", default="float32", help="What is computed in.  [default: float32]"),
    LOAD,
    click.option("--vs", metavar="A,B", default="", help="Put beside: numpy (the definition), torch, cublas."),
    click.option(
        "-d", "--device", "where", metavar="NAME", help="cpu or gpu[:N].  [default: what each kernel runs on]"
    ),
    click.option("--json", "json_file", metavar="FILE", help="Write a record; - for standard output."),
    click.option("--csv", "csv_file", metavar="FILE", help="Write the rows as CSV; - for standard output."),
    click.option("--md", "--markdown", "as_markdown", is_flag=True, help="Print the table as Markdown."),
    click.option("--compare", metavar="FILE", help="A record to compare with; exit with 1 if a row is SLOWER."),
    click.option("--check-only", is_flag=True, help="Check the kernels on the cases and time nothing."),
    click.option("--profile", is_flag=True, help="Launch each kernel once, for a profiler around the process."),
    click.option("-l", "--list", "listed", is_flag=True, help="List ops, cases and kernels, and measure nothing."),
    click.option("--min-samples", metavar="N", type=click.IntRange(min=2), default=10, show_default=True),
    click.option("--min-time", metavar="S", type=click.FloatRange(min=0), default=0.2, show_default=True),
    click.option("--max-noise", metavar="X", type=click.FloatRange(min=0), default=0.05, show_default=True),
    click.option("--timeout", metavar="S", type=click.FloatRange(min=0), default=5.0, show_default=True),
    click.option("-q", "--quiet", is_flag=True, help="Print no table."),
)
def bench(
    pattern: str,
    cases: Sequence[str],
    axes: Sequence[str],
    backend: str | None,
    precision: str,
    load: Sequence[str],
    vs: str,
    where: str | None,
    json_file: str | None,
    csv_file: str | None,
    as_markdown: bool,
    compare: str | None,
    check_only: bool,
    profile: bool,
    listed: bool,
    min_samples: int,
    min_time: float,
    max_noise: float,
    timeout: float,
    quiet: bool,
) -> int:
    """Check kernels, then time them side by side: those of an OP, or whose id contains it.

    Times are medians with the 10th and 90th percentile. Hot: the same arrays again and again. Cold: caches overwritten
    before each call. A kernel that disagrees with its definition gets no time. Kernels for GPUs are timed on a GPU
    alone.

    Keys of --json: device, versions, commit, date, rows; of each row: op, case, kernel, backend, precision, device,
    flops, bytes, hot, hot_low, hot_high, cold, cold_low, cold_high, host (microseconds), samples, gflops, gbytes,
    roof_share, workspace (bytes), note.
    """
    from ..dispatch import choice
    from ..dispatch.op import load as load_kernels
    from ..profiling import benchmark, records, timing, trials

    loaded = [kernel for file in load for kernel in load_kernels(file)]
    backends = tuple(choice.BACKENDS) if backend is None else (backend,)
    if backend is not None and backend not in choice.BACKENDS:
        raise ArgumentError(f"--backend {backend} is unknown: use one of {', '.join(choice.BACKENDS)}")
    found = trials.every_kernel(pattern, backends) if pattern or not loaded else _beside(loaded)
    plan = benchmark.Plan(
        [k for k in found if k.algorithm != "cublas"],
        tuple(cases),
        dict(map(_axis, axes)),
        precision,
        tuple(name for name in vs.split(",") if name),
        where,
        check_only,
        timing.Effort(min_samples, min_time, max_noise, timeout),
    )
    if listed:
        return _list(plan)
    if profile:
        for line in benchmark.profile(plan):
            click.echo(line)
        return 0
    old = None if compare is None else records.load(compare)
    measured = []
    with Bar("measuring", sum(len(kernels) + len(plan.vs) for _, _, kernels in plan.tasks())) as bar:
        for row in benchmark.rows(plan):
            measured.append(row)
            bar.step()
    if not quiet:
        _print(measured, as_markdown)
    if json_file == "-":
        print_json(records.record(measured))
    elif json_file is not None:
        records.save(json_file, measured)
    if csv_file is not None:
        _write_csv(csv_file, measured)
    wrong = any((row.note or "").startswith(("WRONG", "refused", "failed")) for row in measured)
    return 1 if _compared(old, measured) or wrong else 0


def _beside(loaded: list[Any]) -> list[Any]:
    """A user's kernels, and those of gpucnn for the same ops and backends."""
    known = [k for kernel in loaded for k in kernel.op.kernels((kernel.backend,)).values()]
    return list({id(k): k for k in [*loaded, *known]}.values())


def _axis(text: str) -> tuple[str, list[int]]:
    name, _, values = text.partition("=")
    try:
        numbers = [int(value) for value in values.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise ArgumentError(f"--axis {text!r} must be NAME=A,B with numbers from 1, such as batch=32,128")
    return name, numbers


def _list(plan: Any) -> int:
    rows = [(op.name, case.name, ", ".join(kernel.id for kernel in kernels)) for op, case, kernels in plan.tasks()]
    print_table(("op", "case", "kernels"), rows, wrapped=1)
    return 0


def _print(measured: Sequence[Any], as_markdown: bool) -> None:
    header = (
        "op",
        "case",
        "kernel",
        "precision",
        "hot µs",
        "10 … 90 %",
        "cold µs",
        "host µs",
        "GFLOP/s",
        "GB/s",
        "roof",
        "",
    )
    cells = [_cells(row) for row in measured]
    if as_markdown:
        for line in (header, ["---"] * len(header), *cells):
            click.echo(f"| {' | '.join(line)} |")
        return
    print_table(header, cells, wrapped=1)


def _cells(row: Any) -> tuple[str, ...]:
    if row.hot is None:
        return (row.op, row.case, row.kernel, row.precision, *[""] * 7, row.note or "")
    return (
        row.op,
        row.case,
        row.kernel,
        row.precision,
        f"{row.hot:,.1f}",
        f"{row.hot_low:,.1f} … {row.hot_high:,.1f}",
        f"{row.cold:,.1f}",
        f"{row.host:,.1f}",
        f"{row.gflops:,.1f}",
        f"{row.gbytes:,.1f}",
        "" if row.roof_share is None else f"{row.roof_share:.0%}",
        row.device,
    )


def _write_csv(path: str, measured: Sequence[Any]) -> None:
    from dataclasses import asdict

    from ..files import write_atomically

    text = io.StringIO()
    rows = [asdict(row) for row in measured]
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    if path == "-":
        click.echo(text.getvalue(), nl=False)
    else:
        write_atomically(Path(path), text.getvalue().encode())


def _compared(old: Sequence[Any] | None, measured: Sequence[Any]) -> bool:
    """Print the comparison with an older record; whether anything is slower."""
    from ..profiling import records

    if old is None:
        return False
    changes = records.compare(old, measured)
    if not changes:
        raise ArgumentError("--compare: the record has no row in common with this run: give one of the same cases")
    rows = [
        (c.verdict, c.new.op, c.new.case, c.new.kernel, f"{c.old.hot:,.1f}", f"{c.new.hot:,.1f}", f"{c.ratio:.2f}×")
        for c in changes
    ]
    print_table(("verdict", "op", "case", "kernel", "before µs", "now µs", "speed"), rows)
    return any(change.verdict == "SLOWER" for change in changes)
