"""The command kernels plan: how each op of a model's training step is computed on a card."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from ..dispatch.precision import Precision
from .group import AS_JSON, PRECISION, options
from .kernels import kernels
from .screen import Screen, print_json


@kernels.command("plan")
@options(
    click.argument("model"),
    click.option("--card", metavar="NAME", default="h100", show_default=True, help="Such as a100, rtx3060 or t4."),
    click.option("--backend", metavar="NAME", default="cuda", show_default=True, help="cuda or numba."),
    PRECISION,
    AS_JSON,
)
def kernels_plan(model: str, card: str, backend: str, precision: Precision, as_json: bool) -> None:
    """Show how each op of a training step of MODEL is computed on a card that need not be here: the
    algorithm and why it was chosen, its tiles, into how many parts its sums are cut, and its
    predicted time next to that of the kernels that could take its place.

    Keys of --json: card, model, batch_size, precision, ops; of each op: op, operands (shapes), kernel, algorithm,
    tile, parts, waves, launches, flops, predicted_us, tolerance, branch and beside (the number of the branch of
    the graph that it is on, or next to which it runs), bottleneck, reason, predicted_us_of_others.
    """
    from ..devices import cards
    from ..runs import step_plan, zoo

    target, size = cards.find(card), zoo.find(model).training.batch_size
    rows = []
    with Screen(transient=True) as screen:
        for decision in step_plan.plan(model, target, backend, precision):
            rows.append(step_plan.row(decision))
            screen.progress(f"compiling for {target.arch}", len(rows), 0)
    if as_json:
        return print_json(
            {"card": asdict(target), "model": model, "batch_size": size, "precision": precision, "ops": rows}
        )
    for number, row in enumerate(rows, 1):
        click.echo("\n".join(_lines(number, row)))
    return click.echo(
        f"{model}, batch {size}, {precision}, on {target.title}; all times are predicted, none is measured"
    )


def _lines(number: int, row: dict[str, Any]) -> list[str]:
    shapes = ", ".join("×".join(map(str, shape)) for shape in row["operands"] if shape)
    tiles = "tiles of {}×{}, slabs of {}; ".format(*row["tile"]) if row["tile"] else ""
    parts = f"{row['parts']} parts; " if row["parts"] > 1 else ""
    branch = f", on branch {row['branch']}" if row["branch"] else ""
    branch = f", beside branch {row['beside']}" if row["beside"] else branch
    time, off = row["predicted_us"], row["tolerance"]
    others = [f"{name} {us:,.1f} µs" for name, us in row["predicted_us_of_others"].items()]
    return [
        f"{number:>3} {row['op']} {shapes}",
        f"    {row['algorithm']}: {tiles}{parts}{row['waves']:.2f} waves{branch}",
        f"    predicted, ± {off:.0%}: {time:,.1f} µs, bound by {row['bottleneck']}",
        f"    why: {row['reason']}" + (f"; predicted for {', '.join(others)}" if others else ""),
    ]
