"""The command kernels tune: the kernels of a model's training step, measured on this machine."""

from __future__ import annotations

from typing import Any

import click

from ..devices import choose
from ..dispatch import choice
from ..dispatch.precision import Precision
from ..profiling.tuning import Decision
from .group import AS_JSON, AT_LEAST_ONE, PRECISION, options
from .kernels import kernels
from .screen import Screen, print_json, print_table


@kernels.command("tune")
@options(
    click.argument("model"),
    click.option("--full", is_flag=True, help="Measure all kernels, and longer; else those that may be chosen."),
    click.option("--batch-size", metavar="N", type=AT_LEAST_ONE, help="Images per step.  [default: the model's]"),
    click.option("-d", "--device", metavar="NAME", default="auto", show_default=True, help="cpu or gpu[:N]."),
    click.option("--backend", metavar="NAME", default="auto", show_default=True, help="njit, cuda or numba."),
    PRECISION,
    AS_JSON,
)
def kernels_tune(
    model: str, full: bool, batch_size: int | None, device: str, backend: str, precision: Precision, as_json: bool
) -> None:
    """Check and time the kernels that serve the calls of a training step of MODEL, and keep the fastest for
    `gpucnn train --tune` and `gpucnn.use(tune=...)`. Calls that one kernel alone serves are left out.

    Keys of --json: model, device, decisions; of each: op, operands (shapes), static (the algorithm that is chosen
    without measuring), taken, microseconds (by algorithm; or what is wrong with it).
    """
    from ..runs import self_check, tuned_step

    mode = "full" if full else "fast"
    with Screen() as screen, choice.using(backend, device=self_check.device(device, screen.say), tune=mode):
        where = choose.current().name
        screen.say(f"measuring the kernels of {model} on {where}")
        found = tuned_step.decisions(model, batch_size, precision)
    if as_json:
        return print_json({"model": model, "device": where, "decisions": [_row(one) for one in found]})
    if not found:
        return click.echo(f"each op of {model} has one kernel on {where}: there is nothing to choose")
    print_table(("op", "operands", "µs of a call"), [_cells(one) for one in found])
    changed = sum(one.taken != one.static for one in found)
    return click.echo(f"* taken; {changed} of {len(found)} calls by another kernel than without --tune")


def _shapes(decision: Decision) -> list[list[int] | None]:
    return [None if spec is None else list(spec.shape) for spec in decision.operands]


def _cells(decision: Decision) -> tuple[str, str, str]:
    shapes = ", ".join("×".join(map(str, shape)) for shape in _shapes(decision) if shape)
    times = (
        f"{'*' if name == decision.taken else ''}{name} {found if isinstance(found, str) else f'{found * 1e6:,.1f}'}"
        for name, found in decision.found.items()
    )
    return decision.op, shapes, "; ".join(times)


def _row(decision: Decision) -> dict[str, Any]:
    found = {name: value if isinstance(value, str) else value * 1e6 for name, value in decision.found.items()}
    return {
        "op": decision.op,
        "operands": _shapes(decision),
        "static": decision.static,
        "taken": decision.taken,
        "microseconds": found,
    }
