"""The commands for kernel authors: kernels list, kernels show and check."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from ..dispatch.choice import BACKENDS
from ..errors import ArgumentError
from .group import AS_JSON, LOAD, Number, main, options
from .screen import Screen, print_json, print_table


@main.group()
def kernels() -> None:
    """List the kernels and show their sources."""


ARCH = click.option(
    "--arch",
    metavar="SM",
    default="sm_90",
    show_default=True,
    help="Architecture to compile for when reporting figures, or none.",
)


@kernels.command("list")
@options(
    click.argument("pattern", required=False, default=""),
    click.option("--backend", type=click.Choice(list(BACKENDS)), help="List its kernels, and the ops that lack one."),
    ARCH,
    LOAD,
    AS_JSON,
)
def kernels_list(pattern: str, backend: str | None, arch: str, load: Sequence[str], as_json: bool) -> None:
    """List the kernels whose id, op or backend contains PATTERN, with the compiler's figures.

    Registers and spilled bytes are per thread, shared bytes per block. The figures are those of the
    largest case, and of the function with the largest share of multiply-adds (FFMA; HMMA on tensor
    cores) in its main loop.

    Keys of --json: kernels; gaps (with --backend: the ops without a kernel of it, of each op,
    instead, the id of the kernel that computes it there, or null, and idea); of each kernel: id,
    op, algorithm, backend, language, needs, runs (gpu, emulator, cpu or null), why_not (why not on
    a GPU, or null), idea, figures; of these, one for each function: case, function, arch, blocks,
    threads, registers, shared_bytes, spill_bytes, occupancy, ffma_share, flops_per_global_byte,
    flops_per_shared_byte, wide_loads (global, shared), fp64, waves (blocks by 132 multiprocessors).
    """
    from ..dispatch.op import load as load_kernels
    from ..profiling import catalogue

    for file in load:
        load_kernels(file)
    with Screen() as screen:
        architecture = _architecture(arch)
        progress = partial(screen.progress, "compiling for the figures")
        rows = catalogue.rows(pattern, architecture, progress, (backend,) if backend else tuple(BACKENDS))
    gaps = catalogue.gaps(backend) if backend else []
    if as_json:
        return print_json({"kernels": rows} | ({"gaps": gaps} if backend else {}))
    cells = [(r["id"], r["op"], r["language"], r["runs"] or "nothing", *_short(r["figures"])) for r in rows]
    print_table(("id", "op", "language", "runs on", *SHORT), cells)
    for reason in sorted({r["why_not"] for r in rows if r["why_not"]}):
        click.echo(f"not on a GPU: {reason}", err=True)
    if backend:
        click.echo(f"without a kernel of {backend}:" if gaps else f"every op has a kernel of {backend}")
    for gap in gaps:
        click.echo(f"  {gap['op']}" + (f": {gap['instead']} computes it. {gap['idea']}" if gap["instead"] else ""))
    return None


def _require_known(arch: str) -> None:
    from ..profiling import compilers

    if arch not in (*compilers.ARCHITECTURES, "none"):
        raise ArgumentError(f"--arch {arch} is unknown: use one of {', '.join(compilers.ARCHITECTURES)}, or none")


def _architecture(arch: str) -> str | None:
    """The architecture to compile for; None for "none" and, with a report, without a compiler."""
    from ..profiling import static_analysis

    _require_known(arch)
    if arch == "none":
        return None
    reason = static_analysis.unavailable()
    if reason is not None:
        click.echo(f"no compiler figures: {reason}", err=True)
        return None
    return arch


SHORT = ("regs", "shared B", "spills B", "occ", "FFMA", "FLOP/B", "FLOP/sB", "blocks")


def _short(figures: list[dict[str, Any]]) -> tuple[str, ...]:
    """The figures of the main function, one cell for each column of SHORT."""
    if not figures:
        return ("",) * len(SHORT)
    f = max(figures, key=lambda row: row["ffma_share"] or 0.0)
    return (
        str(f["registers"]),
        str(f["shared_bytes"]),
        str(f["spill_bytes"]),
        f"{f['occupancy']:.0%}",
        "" if not f["ffma_share"] else f"{f['ffma_share']:.0%}",
        *("" if f[key] is None else f"{f[key]:.2g}" for key in ("flops_per_global_byte", "flops_per_shared_byte")),
        f"{f['blocks']:,}",
    )


@kernels.command("show")
@options(click.argument("ident", metavar="ID"), ARCH, LOAD, AS_JSON)
def kernels_show(ident: str, arch: str, load: Sequence[str], as_json: bool) -> None:
    """Print the source of the kernel file ID, such as conv2d/direct_cuda, then its figures.

    Traffic is counted in the emulator: 32-byte sectors of global memory and passes through shared
    memory, compared with the minimum for the same bytes. 1.00× means perfect coalescing and no bank
    conflict.

    Keys of --json: id, ops, files (name, text), figures (as of `kernels list`, with the op),
    traffic (op, case, sectors, ideal_sectors, shared_wavefronts, ideal_shared_wavefronts, excess,
    conflicts).
    """
    from ..dispatch.op import load as load_kernels
    from ..profiling import catalogue

    for file in load:
        load_kernels(file)
    _require_known(arch)
    sources = catalogue.sources(ident)
    if not as_json:
        _print_sources(sources["files"])
    figures, traffic = [], []
    with Screen(transient=True) as screen:
        architecture = _architecture(arch)
        if architecture is not None:
            figures = catalogue.figures(ident, architecture, partial(screen.progress, "compiling for the figures"))
            traffic = catalogue.memory_traffic(ident, partial(screen.progress, "counting the memory traffic"))
    if as_json:
        return print_json({**sources, "figures": figures, "traffic": traffic})
    rows = [(f["op"], f["case"], f["function"], str(f["threads"]), *_short([f])) for f in figures]
    if rows:
        print_table(("op", "case", "function", "threads", *SHORT), rows)
    counts = [
        (t["op"], t["case"], f"{t['sectors']:,}", f"{t['excess']:.2f}×", f"{t['shared_wavefronts']:,}", _times(t))
        for t in traffic
    ]
    if counts:
        print_table(("op", "case", "sectors", "of ideal", "shared passes", "of ideal"), counts)
    return None


def _print_sources(files: Sequence[dict[str, str]]) -> None:
    from rich.console import Console
    from rich.syntax import Syntax

    console = Console(highlight=False)
    for file in files:
        console.rule(file["name"])
        if console.is_terminal:
            console.print(Syntax(file["text"], "python" if file["name"].endswith(".py") else "cuda"))
        else:
            click.echo(file["text"])


def _times(traffic: dict[str, Any]) -> str:
    return f"{traffic['conflicts']:.2f}×" if traffic["shared_wavefronts"] else ""


NOT_COMPILED = 3
"""The exit status of `check` if nothing is wrong but something cannot be compiled."""


@main.command()
@options(
    click.argument("pattern", required=False, default=""),
    LOAD,
    click.option(
        "--device",
        "where",
        metavar="NAME",
        help="gpu[:N], emulator, simulator or cpu.  [default: what this machine has]",
    ),
    click.option("--mode", type=click.Choice(["fast", "check"]), help="Mode of the emulator.  [default: fast]"),
    click.option(
        "--largest",
        metavar="MFLOP",
        type=Number(min=0),
        help="Skip larger cases, for slow tools such as compute-sanitizer.",
    ),
    AS_JSON,
)
def check(
    pattern: str, load: Sequence[str], where: str | None, mode: str | None, largest: float | None, as_json: bool
) -> int:
    """Compare kernels with the NumPy definition of their op; exit with status 1 if any disagrees,
    else with 3 if any cannot be compiled here.

    PATTERN is part of a kernel's id, op or backend; with --load alone, the kernels of FILE are
    checked. On a GPU, each family of kernels is checked in its own process, and what a kernel breaks
    there is not the fault of the next. In the emulator, --mode check also finds races, out-of-bounds and uninitialised
    accesses, and divergent barriers.

    Keys of --json: trials (kernel, op, case, device, mode, seconds, fault, not_compiled), kernels,
    failed, not_compiled.
    """
    from ..dispatch.op import load as load_kernels
    from ..profiling import trials
    from ..profiling.separate_trials import outcomes

    loaded = [kernel for file in load for kernel in load_kernels(file)]
    chosen = loaded if loaded and not pattern else trials.every_kernel(pattern)
    reasons = {b: trials.missing(b, where or trials.default_device(b)) for b in sorted({k.backend for k in chosen})}
    for backend, reason in reasons.items():
        if reason:
            click.echo(f"{backend} kernels are not checked: {reason}", err=True)
    chosen = [kernel for kernel in chosen if not reasons[kernel.backend]]
    planned = trials.trials(chosen, where, mode, math.inf if largest is None else largest * 1e6)
    if not planned:
        why = f"none of these {len(chosen)} kernels has such a case on {where}: leave out --device"
        raise click.ClickException(why if chosen else "nothing can be checked on this machine")
    rows: list[dict[str, Any]] = []
    with Screen(transient=True) as screen:
        screen.progress("checking", 0, len(planned))
        for number, (trial, outcome) in enumerate(zip(planned, outcomes(planned, load), strict=True), 1):
            screen.progress("checking", number, len(planned))
            fault, not_compiled = outcome.fault, outcome.not_compiled
            row = {
                "kernel": trial.kernel.id,
                "op": trial.kernel.op.name,
                "case": trial.case.name,
                "device": trial.device,
                "mode": trial.mode or None,
                "seconds": outcome.seconds,
                "fault": fault,
                "not_compiled": not_compiled,
            }
            rows.append(row)
            if not as_json:
                verdict = click.style("ok", fg="green") if fault is None else click.style(f"WRONG  {fault}", fg="red")
                if not_compiled is not None:
                    verdict = click.style(f"NOT COMPILED  {not_compiled}", fg="yellow")
                place = f"{row['device']} {row['mode'] or ''}".strip()
                click.echo(f"{row['kernel']:<34} {row['op']:<34} {row['case']:<22} {place:<15} {verdict}")
    count = len({(row["kernel"], row["op"]) for row in rows})
    failed, missed = (sum(row[key] is not None for row in rows) for key in ("fault", "not_compiled"))
    if as_json:
        print_json({"trials": rows, "kernels": count, "failed": failed, "not_compiled": missed})
    else:
        rest = f", {missed} could not be compiled" if missed else ""
        click.echo(f"{len(rows)} checks of {count} kernel{'s' * (count != 1)}: {failed} wrong{rest}")
    return 1 if failed else NOT_COMPILED if missed else 0
