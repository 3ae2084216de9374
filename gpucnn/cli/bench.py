"""The command bench: kernels checked, then timed and compared."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..dispatch.choice import BACKENDS
from ..dispatch.precision import scope
from ..errors import ArgumentError
from .bench_train import bench_train
from .group import LOAD, PRECISION, Number, main, options
from .screen import Screen, print_json, print_table


class _Bench(click.Command):
    """`bench`, which hands `bench train …` on."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> click.Context:
        if args[:1] == ["train"]:
            return bench_train.make_context(f"{info_name} train", args[1:], *rest, **extra)
        return super().make_context(info_name, args, *rest, **extra)


@main.command(cls=_Bench)
@options(
    click.argument("pattern", metavar="[OP]", required=False, default=""),
    click.option(
        "--case", "cases", metavar="NAME", multiple=True, help="Only this case; repeatable.  [default: all large cases]"
    ),
    click.option(
        "-a", "--axis", "axes", metavar="NAME=A,B", multiple=True, help="Other extents, such as batch=32,128."
    ),
    click.option("--backend", metavar="NAME", help="Only kernels in this language: numpy, njit, cuda or numba."),
    PRECISION,
    LOAD,
    click.option("--vs", metavar="A,B", default="", help="Compare with numpy (the definition), torch or cublas."),
    click.option(
        "-d", "--device", "where", metavar="NAME", help="cpu or gpu[:N].  [default: the device of each kernel]"
    ),
    click.option("--json", "json_file", metavar="FILE", help="Write a record; - is standard output."),
    click.option("--csv", "csv_file", metavar="FILE", help="Write the rows as CSV; - is standard output."),
    click.option("--md", "--markdown", "as_markdown", is_flag=True, help="Print the table as Markdown."),
    click.option("--compare", metavar="FILE", help="Compare with this record; exit with status 1 if a row is SLOWER."),
    click.option("--check-only", is_flag=True, help="Check the kernels on the cases, without timing."),
    click.option(
        "--predict", "card", metavar="CARD", help="Predict the kernels' times on h100, t4 …; measure nothing."
    ),
    click.option("--profile", is_flag=True, help="Launch each kernel once, to be run under a profiler."),
    click.option("-l", "--list", "listed", is_flag=True, help="List ops, cases and kernels, without measuring."),
    click.option("--min-samples", metavar="N", type=click.IntRange(2, 2**31 - 1), default=10, show_default=True),
    click.option("--min-time", metavar="S", type=Number(min=0), default=0.2, show_default=True),
    click.option("--max-noise", metavar="X", type=Number(min=0), default=0.05, show_default=True),
    click.option("--timeout", metavar="S", type=Number(min=0), default=5.0, show_default=True),
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
    card: str | None,
    profile: bool,
    listed: bool,
    min_samples: int,
    min_time: float,
    max_noise: float,
    timeout: float,
    quiet: bool,
) -> int:
    """Check kernels, then time and compare them: those of OP, or those whose id contains it.

    Times are medians with the 10th and 90th percentile. Hot: the same arrays in every call. Cold:
    caches overwritten before each call. A kernel that disagrees with its definition is not timed.
    Kernels for GPUs are timed on a GPU only. `gpucnn bench train` is about a whole training step.

    Keys of --json: device, versions, commit, date, rows; of each row: op, case, kernel, backend,
    precision, device, flops, bytes, hot, hot_low, hot_high, cold, cold_low, cold_high, host
    (microseconds), samples, gflops, gbytes, roof_share, workspace (bytes), note.
    """
    from ..dispatch import choice
    from ..dispatch.op import load as load_kernels
    from ..profiling import benchmark, records, timing, trials

    loaded = [kernel for file in load for kernel in load_kernels(file)]
    backends = tuple(choice.BACKENDS) if backend is None else (backend,)
    if backend is not None and backend not in choice.BACKENDS:
        raise ArgumentError(f"--backend {backend} is unknown: use one of {', '.join(choice.BACKENDS)}")
    kernels = trials.every_kernel(pattern, backends) if pattern or not loaded else _with_rivals(loaded)
    plan = benchmark.Plan(
        [k for k in kernels if k.algorithm != "cublas"],
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
    if card is not None:
        return _predict(plan, card, json_file)
    if profile:
        for line in benchmark.profile(plan):
            click.echo(line)
        return 0
    old = None if compare is None else records.load(compare)
    measured = []
    total = sum(len(task_kernels) + len(plan.vs) for _, _, task_kernels in plan.tasks())
    with Screen(transient=True) as screen:
        screen.progress("measuring", 0, total)
        for row in benchmark.rows(plan):
            measured.append(row)
            screen.progress("measuring", len(measured), total)
    if not quiet:
        _print(measured, as_markdown)
    if json_file == "-":
        print_json(records.record(measured))
    elif json_file is not None:
        records.save(json_file, measured)
    if csv_file is not None:
        _write_csv(csv_file, measured)
    wrong = any((row.note or "").startswith(("WRONG", "refused", "failed")) for row in measured)
    return 1 if _any_slower(old, measured) or wrong else 0


def _with_rivals(loaded: list[Any]) -> list[Any]:
    """A user's kernels, then gpucnn's kernels for the same ops and backends."""

    rivals = [k for kernel in loaded for k in kernel.op.kernels((kernel.backend,)).values()]
    return list({id(k): k for k in [*loaded, *rivals]}.values())


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
    print_table(("op", "case", "kernels"), rows)
    return 0


def _predict(plan: Any, name: str, json_file: str | None) -> int:
    """Predict each kernel on each case that it serves on a card."""
    from ..devices import cards
    from ..profiling import launches, prediction

    if json_file not in (None, "-"):
        raise ArgumentError(f"--predict with --json {json_file}: a record is measured; --json - prints the prediction")
    card = cards.find(name)
    rows: list[dict[str, Any]] = []
    with Screen(transient=True) as screen:
        for op, case, kernels in plan.tasks():
            for kernel in kernels:
                if BACKENDS[kernel.backend] != "gpu" or not launches.serves(kernel, case, card.arch):
                    continue
                screen.progress(f"compiling for {card.arch}", len(rows), 0)
                with scope(plan.precision):
                    nodes = prediction.of_step(launches.launches(kernel, case, card.arch), card)
                longest = max(nodes, key=lambda node: node.microseconds)
                rows.append(
                    {
                        "op": op.name,
                        "case": case.name,
                        "kernel": kernel.id,
                        "waves": longest.waves,
                        "predicted_us": prediction.total(nodes, card),
                        "tolerance": max(node.tolerance for node in nodes),
                        "bottleneck": longest.bottleneck,
                    }
                )
    if json_file == "-":
        print_json({"predicted_for": card.name, "precision": plan.precision, "rows": rows})
        return 0
    cells = [
        (
            *(row[key] for key in ("op", "case", "kernel")),
            f"{row['predicted_us']:,.1f} ± {row['tolerance'] * row['predicted_us']:,.1f}",
            row["bottleneck"],
        )
        for row in rows
    ]
    print_table(("op", "case", "kernel", "predicted µs", "bound by"), cells)
    click.echo(f"predicted for {card.title}, in a CUDA graph, operands in L2 where they fit")
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
    print_table(header, cells)


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


def _any_slower(old: Sequence[Any] | None, measured: Sequence[Any]) -> bool:
    """Print the comparison with an older record; return whether anything is slower."""
    from ..profiling import records

    if old is None:
        return False
    changes = records.compare(old, measured)
    if not changes:
        raise ArgumentError("--compare: the record has no row in common with this run: give a record of the same cases")
    rows = [
        (c.verdict, c.new.op, c.new.case, c.new.kernel, f"{c.old.hot:,.1f}", f"{c.new.hot:,.1f}", f"{c.ratio:.2f}×")
        for c in changes
    ]
    print_table(("verdict", "op", "case", "kernel", "before µs", "now µs", "speed"), rows)
    return any(change.verdict == "SLOWER" for change in changes)
