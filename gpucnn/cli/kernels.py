"""The commands for who writes kernels: kernels list, kernels show, check."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click

from .group import AS_JSON, LOAD, main, options
from .screen import Bar, print_json, print_table


@main.group()
def kernels() -> None:
    """All kernels: what they compute, in which language, and where they run here."""


@kernels.command("list")
@options(click.argument("pattern", required=False, default=""), LOAD, AS_JSON)
def kernels_list(pattern: str, load: Sequence[str], as_json: bool) -> None:
    """The kernels whose id, op or backend contains PATTERN.

    Keys of --json: kernels; of each kernel: id, op, algorithm, backend, language, needs, runs (gpu, emulator, cpu or
    null), why_not (of the GPU, null where there is one), idea.
    """
    from .. import catalogue, registry

    for file in load:
        registry.load(file)
    rows = catalogue.rows(pattern)
    if as_json:
        return print_json({"kernels": rows})
    print_table(
        ("id", "op", "language", "runs here on", "idea"),
        [(r["id"], r["op"], r["language"], r["runs"] or "nothing", r["idea"]) for r in rows],
        wrapped=2,
    )
    reasons = sorted({r["why_not"] for r in rows if r["why_not"]})
    for reason in reasons:
        click.echo(f"not on a GPU: {reason}", err=True)


@kernels.command("show")
@options(click.argument("ident", metavar="ID"), LOAD, AS_JSON)
def kernels_show(ident: str, load: Sequence[str], as_json: bool) -> None:
    """The source of the kernel file ID, such as conv2d/direct_cuda, its idea on top.

    Keys of --json: id, ops, files (name, text).
    """
    from .. import catalogue, registry

    for file in load:
        registry.load(file)
    shown = catalogue.sources(ident)
    if as_json:
        return print_json(shown)
    from rich.console import Console
    from rich.syntax import Syntax

    console = Console(highlight=False)
    for file in shown["files"]:
        console.rule(file["name"])
        if console.is_terminal:
            console.print(Syntax(file["text"], "python" if file["name"].endswith(".py") else "cuda"))
        else:
            click.echo(file["text"])


@main.command()
@options(
    click.argument("pattern", required=False, default=""),
    LOAD,
    click.option(
        "--device", "where", metavar="NAME", help="gpu[:N], emulator, simulator or cpu.  [default: what is here]"
    ),
    click.option("--mode", type=click.Choice(["fast", "check"]), help="Of the emulator.  [default: fast]"),
    AS_JSON,
)
def check(pattern: str, load: Sequence[str], where: str | None, mode: str | None, as_json: bool) -> int:
    """Compare kernels with the NumPy definition of their op, on every case; exit with 1 if one disagrees.

    PATTERN is a part of a kernel's id, an op or a backend; with --load alone, the kernels of FILE are checked. In the
    emulator, --mode check also finds races, accesses out of bounds and uninitialised, and diverging barriers.

    Keys of --json: trials (kernel, op, case, device, mode, seconds, fault), kernels, failed.
    """
    from .. import registry, trials

    loaded = [kernel for file in load for kernel in registry.load(file)]
    chosen = loaded if loaded and not pattern else trials.every_kernel(pattern)
    planned = trials.trials(chosen, where, mode)
    if not planned:
        raise click.ClickException(f"none of these {len(chosen)} kernels runs on {where}: leave --device out")
    rows: list[dict[str, Any]] = []
    with Bar("checking", len(planned)) as bar:
        for trial in planned:
            start = time.perf_counter()
            fault = trial.fault()
            row = {
                "kernel": trial.kernel.id,
                "op": trial.kernel.op.name,
                "case": trial.case.name,
                "device": trial.device,
                "mode": trial.mode or None,
                "seconds": round(time.perf_counter() - start, 4),
                "fault": fault,
            }
            rows.append(row)
            if not as_json:
                verdict = click.style("ok", fg="green") if fault is None else click.style(f"WRONG  {fault}", fg="red")
                place = f"{row['device']} {row['mode'] or ''}".strip()
                bar.print(f"{row['kernel']:<34} {row['op']:<34} {row['case']:<22} {place:<15} {verdict}")
            bar.step()
    failed = sum(row["fault"] is not None for row in rows)
    if as_json:
        print_json({"trials": rows, "kernels": len({(r["kernel"], r["op"]) for r in rows}), "failed": failed})
    else:
        click.echo(f"{len(rows)} checks of {len({(r['kernel'], r['op']) for r in rows})} kernels: {failed} wrong")
    return 1 if failed else 0
