"""The command bench train: one training step, predicted for a card or measured on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ..dispatch.precision import Precision
from ..errors import ArgumentError
from .group import AS_JSON, PRECISION, main, options
from .screen import Screen, print_json, print_table

if TYPE_CHECKING:
    from ..runs.step import Step
    from ..runs.step_profile import Profile
    from ..runs.step_race import Row


@click.command("train", context_settings=main.context_settings)
@options(
    click.option("--model", "models", metavar="NAME", multiple=True, help="Repeatable.  [default: the course models]"),
    click.option("--predict", "card", metavar="CARD", help="Predict for h100, a100, rtx3060, t4, gtx1660 …"),
    click.option("--vs", metavar="A,B", default="", help="Compare with torch, torch-compile, torch-graph or jax."),
    click.option("-d", "--device", metavar="NAME", default="auto", show_default=True, help="cpu or gpu[:N]."),
    click.option("--backend", metavar="NAME", help="njit, cuda or numba.  [default: that of the device, or cuda]"),
    PRECISION,
    click.option("--kernels", is_flag=True, help="Time each kernel of a step where it stands in the step (CPU)."),
    click.option(
        "--seconds", type=click.FloatRange(min=0), default=10.0, show_default=True, help="How long to measure a model."
    ),
    AS_JSON,
)
def bench_train(
    models: Sequence[str],
    card: str | None,
    vs: str,
    device: str,
    backend: str | None,
    precision: Precision,
    kernels: bool,
    seconds: float,
    as_json: bool,
) -> None:
    """Measure one training step (forward, loss, backward, update) of models on this machine, in turns
    with other libraries; or predict it for a card that need not be here.

    Measured: all train on the same batches from the same weights, and are timed only if their losses
    agree with those of gpucnn on the CPU. Times are medians of a step with the 10th and 90th
    percentile.

    Predicted: from machine code, grids and bytes, with the error to expect; never measured.

    With --kernels: each kernel of a recorded step on the CPU is timed as the step is replayed, so that it
    finds in the caches what the kernels before it have left there.

    Keys of --json: device, versions, commit, date, rows; of each row: model, contender, device,
    batch_size, optimizer, variant, milliseconds, low, high, ratio, ratio_low, ratio_high, rounds,
    loss_difference, note. With --predict: card, steps; of each step: model, card, batch_size, precision, nodes,
    flops, bytes, predicted_us_per_step, tolerance, eager_nodes, predicted_eager_us_per_step, kernels;
    of each of these: kernel, op, function, blocks, threads, waves, flops, executed_flops, bytes,
    dram_bytes, predicted_us, tolerance, bottleneck, branch and beside (the number of the branch of the graph
    that it is on, or next to which it runs), limits_us. With --kernels: models; of each: model, batch_size,
    optimizer, threads, steps, microseconds (the median of whole steps), kernels; of each of these: op, kernel,
    result and operand (shapes), flops, nbytes, microseconds, low, high, share.
    """
    from ..runs import step

    names = models or tuple(step.OPTIMIZERS)
    if kernels:
        if card or vs:
            raise ArgumentError("--kernels times the kernels of gpucnn's own step: leave out --predict and --vs")
        if device not in ("auto", "cpu"):
            raise ArgumentError(f"--kernels with --device {device}: use cpu, or a profiler such as nsys for a GPU")
        return _profile(names, backend or "auto", precision, seconds, as_json)
    if card is None:
        return _measure(
            names, tuple(filter(None, vs.split(","))), device, backend or "auto", precision, seconds, as_json
        )
    if vs:
        raise ArgumentError("--predict predicts and --vs measures: give one of the two")
    return _predict(names, card, backend or "cuda", precision, as_json)


# -- predicted ---------------------------------------------------------------------------------------------------------


def _predict(names: Sequence[str], card: str, backend: str, precision: Precision, as_json: bool) -> None:
    from ..devices import cards
    from ..runs import step

    target, steps = cards.find(card), []
    with Screen(transient=True) as screen:
        for number, name in enumerate(names):
            screen.progress(f"compiling for {target.arch}", number, len(names))
            steps.append(step.predicted(name, target, backend, precision))
            if not as_json:
                _print_step(steps[-1])
    if as_json:
        print_json({"card": asdict(target), "steps": [step.row(one) for one in steps]})


def _print_step(step: Step) -> None:
    rows = [
        (
            node.function or node.kernel,
            f"on {node.branch}" if node.branch else f"beside {node.beside}" if node.beside else "",
            f"{node.waves:.2f}" if node.waves else "",
            f"{node.flops / 1e6:,.1f}" if node.flops else "",
            f"{node.nbytes / 1e6:,.1f}",
            f"{node.microseconds:,.1f} ± {node.tolerance * node.microseconds:,.1f}",
            node.bottleneck,
        )
        for node in step.nodes
    ]
    print_table(("kernel", "branch", "waves", "MFLOP", "MB", "predicted µs", "bound by"), rows)
    for line in (*step.summary(), ""):
        click.echo(line)


# -- measured ----------------------------------------------------------------------------------------------------------


def _measure(
    names: Sequence[str],
    vs: tuple[str, ...],
    device: str,
    backend: str,
    precision: Precision,
    seconds: float,
    as_json: bool,
) -> None:
    from ..dispatch import choice
    from ..profiling import records
    from ..runs import self_check, step_race

    step_race.require_known(vs)
    rows = []
    with Screen(transient=True) as screen:
        where = step_race.timed_device(self_check.device(device, screen.say))
        step_race.share_threads(vs)
        for number, name in enumerate(names):
            screen.progress(f"measuring on {where}", number, len(names))
            with choice.using(backend, device=where):
                rows += step_race.measure(name, where, backend, vs, seconds, precision=precision)
    if as_json:
        return print_json(records.about(sorted({row.device for row in rows})) | {"rows": [asdict(row) for row in rows]})
    header = ("model", "contender", "ms a step", "10 … 90 %", "ratio (low … high)", "note")
    shown = 6 if any(row.note for row in rows) else 5
    return print_table(header[:shown], [_cells(row)[:shown] for row in rows])


def _cells(row: Row) -> tuple[str, ...]:
    if row.milliseconds is None:
        return (row.model, row.contender, "", "", "", row.note or "")
    return (
        row.model,
        row.contender,
        f"{row.milliseconds:,.3f}",
        f"{row.low:,.3f} … {row.high:,.3f}",
        f"{row.ratio:.2f} ({row.ratio_low:.2f} … {row.ratio_high:.2f})",
        "",
    )


# -- kernel by kernel --------------------------------------------------------------------------------------------------


def _profile(names: Sequence[str], backend: str, precision: Precision, seconds: float, as_json: bool) -> None:
    from ..dispatch import choice
    from ..profiling import records
    from ..runs import step_profile

    profiles = []
    with Screen(transient=True) as screen, choice.using(backend, device="cpu"):
        for number, name in enumerate(names):
            screen.progress("measuring on cpu", number, len(names))
            profiles.append(step_profile.measure(name, seconds, precision))
            if not as_json:
                _print_profile(profiles[-1])
    if as_json:
        print_json(records.about(["cpu"]) | {"models": [asdict(profile) for profile in profiles]})


def _print_profile(profile: Profile) -> None:
    rows = [
        (
            one.op or "(between kernels)",
            one.kernel,
            "×".join(map(str, one.operand)),
            "×".join(map(str, one.result)),
            f"{one.flops / 1e6:,.1f}" if one.flops else "",
            f"{one.flops / one.microseconds / 1e3:,.0f}" if one.flops else "",
            f"{one.nbytes / one.microseconds / 1e3:,.0f}" if one.nbytes else "",
            f"{one.microseconds:,.1f} ({one.low:,.1f} … {one.high:,.1f})",
            f"{one.share:.1%}",
        )
        for one in profile.kernels
    ]
    print_table(("op", "kernel", "operand", "result", "MFLOP", "GFLOP/s", "GB/s", "µs (10 … 90 %)", "share"), rows)
    total = sum(one.microseconds for one in profile.kernels)
    click.echo(
        f"{profile.model}, batch {profile.batch_size}, {profile.optimizer}, threads: {profile.threads}; medians of "
        f"{profile.steps:,} steps\n"
        f"all kernels {total:,.0f} µs; whole steps in turn with these {profile.microseconds:,.0f} µs\n"
    )
