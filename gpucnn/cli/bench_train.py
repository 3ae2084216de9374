"""The command bench train: one training step, predicted for a card or measured on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from .group import AS_JSON, main, options
from .screen import Screen, print_json, print_table


@click.command("train", context_settings=main.context_settings)
@options(
    click.option("--model", "models", metavar="NAME", multiple=True, help="Repeatable.  [default: the course models]"),
    click.option("--predict", "card", metavar="CARD", help="Predict for h100, a100, rtx3060, t4, gtx1660 and others."),
    click.option("--backend", metavar="NAME", default="cuda", show_default=True, help="With --predict: cuda or numba."),
    AS_JSON,
)
def bench_train(models: Sequence[str], card: str | None, backend: str, as_json: bool) -> None:
    """Predict one training step (forward, loss, backward, update) of models on a card."""
    from ..devices import cards
    from ..runs import step

    target = cards.find(card or "h100")
    steps = []
    with Screen(transient=True) as screen:
        for number, name in enumerate(models or step.OPTIMIZERS):
            screen.progress(f"compiling for {target.arch}", number, len(models or step.OPTIMIZERS))
            steps.append(step.predicted(name, target, backend))
    if as_json:
        return print_json({"card": asdict(target), "steps": [step.row(one) for one in steps]})
    for one in steps:
        _print_step(one)
    return None


def _print_step(step: Any) -> None:
    rows = [
        (
            node.function or node.kernel,
            f"{node.waves:.2f}" if node.waves else "",
            f"{node.flops / 1e6:,.1f}" if node.flops else "",
            f"{node.nbytes / 1e6:,.1f}",
            f"{node.microseconds:,.1f} ± {node.tolerance * node.microseconds:,.1f}",
            node.bottleneck,
        )
        for node in step.nodes
    ]
    print_table(("kernel", "waves", "MFLOP", "MB", "predicted µs", "bound by"), rows, wrapped=1)
    for line in step.summary():
        click.echo(line)
    click.echo()
