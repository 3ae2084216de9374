"""The predicted training steps of the five course models on cards that are not here.

    python bench/predict_steps.py

Writes results/predicted/: for each card all nodes of each step as JSON, steps.md with a row for each
model, and precisions.md with the steps in each precision on cards whose tensor cores have them. No
GPU is needed. The figures come from `gpucnn bench train --predict CARD`; they are predictions, and say
so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gpucnn.devices import cards
from gpucnn.dispatch.precision import BFLOAT16, PRECISIONS, TF32
from gpucnn.files import make_folder, write_atomically
from gpucnn.runs import step

CARDS = ("h100", "rtx3060", "t4", "gtx1660")
FOLDER = Path(__file__).parent / "results" / "predicted"


def rounded(value: Any) -> Any:
    """Numbers with four digits, for files that do not change with the last bit."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items() if key != "limits_us"}
    return [rounded(one) for one in value] if isinstance(value, list) else value


def table(steps: dict[str, list[step.Step]]) -> str:
    """The steps of all cards as Markdown."""
    titles = [one[0].card.title for one in steps.values()]
    lines = [
        "Predicted microseconds of a training step, launched by Python → as a CUDA graph; nothing here is measured.",
        f"Errors to expect: {', '.join(f'± {one[0].tolerance:.0%} on {one[0].card.name}' for one in steps.values())}.",
        "",
        f"| model | batch | nodes | GFLOP | {' | '.join(titles)} |",
        f"|{' --- |' * (4 + len(titles))}",
    ]
    for of_model in zip(*steps.values(), strict=True):
        first = of_model[0]
        flops = sum(node.flops for node in first.nodes) / 1e9
        times = (f"{one.eager_microseconds:,.0f} → {one.microseconds:,.0f}" for one in of_model)
        lines.append(f"| {first.model} | {first.batch_size} | {len(first.nodes)} | {flops:.2f} | {' | '.join(times)} |")
    return "\n".join(lines) + "\n"


def precisions(steps: dict[str, list[step.Step]]) -> str:
    """The steps in each precision as Markdown, as CUDA graphs."""
    lines = [
        "Predicted microseconds of a training step as a CUDA graph, by the precision of products; nothing is measured.",
        "",
        f"| model | batch | {' | '.join(f'{kind} on {name}' for name in steps for kind in PRECISIONS)} |",
        f"|{' --- |' * (2 + len(steps) * len(PRECISIONS))}",
    ]
    for of_model in zip(*steps.values(), strict=True):
        times = []
        for one in of_model:
            lower = (step.predicted(one.model, one.card, precision=kind) for kind in (TF32, BFLOAT16))
            times += [f"{each.microseconds:,.0f}" for each in (one, *lower)]
        lines.append(f"| {of_model[0].model} | {of_model[0].batch_size} | {' | '.join(times)} |")
    return "\n".join(lines) + "\n"


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), default=FOLDER, help="Folder of the records.")
@click.option("--model", "models", multiple=True, type=click.Choice(list(step.OPTIMIZERS)))
@click.option("--card", "names", multiple=True, type=click.Choice(list(cards.CARDS)))
def main(out: Path, models: Sequence[str], names: Sequence[str]) -> None:
    make_folder(out)
    steps = {}
    for name in names or CARDS:
        steps[name] = [step.predicted(model, cards.find(name)) for model in models or step.OPTIMIZERS]
        record = rounded({"predicted_for": name, "steps": [step.row(one) for one in steps[name]]})
        write_atomically(out / f"{name}.json", (json.dumps(record, indent=1) + "\n").encode())
        click.echo(f"{name}: " + ", ".join(f"{one.model} {one.microseconds:,.0f} µs" for one in steps[name]))
    write_atomically(out / "steps.md", table(steps).encode())
    with_tensor_cores = {name: of_card for name, of_card in steps.items() if cards.find(name).tf32}
    write_atomically(out / "precisions.md", precisions(with_tensor_cores).encode())


if __name__ == "__main__":
    main()
