"""The course models on up to 1,024 GPUs: predicted steps, where scaling ends, the page and its plot.

    python bench/scaling_plan.py --predict     # the steps of one GPU at all batch sizes: minutes, needs the compilers
    python bench/scaling_plan.py               # the page and the plot from that record: seconds

Writes results/predicted/scaling.json, and from it scaling.md and results/predicted/scaling.svg. Nothing
here is measured: see gpucnn/profiling/scaling.py for the model and its parameters.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import Any

import click
from matplotlib.figure import Figure
from predict_steps import rounded

from gpucnn.devices import cards
from gpucnn.files import write_atomically
from gpucnn.profiling import scaling
from gpucnn.profiling.scaling import DGX_H100, Prediction, Work
from gpucnn.runs import step, zoo

FOLDER = Path(__file__).parent
RECORD = FOLDER / "results" / "predicted" / "scaling.json"
PLOT = FOLDER / "results" / "predicted" / "scaling.svg"
PAGE = FOLDER / "scaling.md"
CARD = "h100"
GPUS = tuple(2**power for power in range(11))
ENOUGH = 0.8
"""Scaling ends where a GPU does less than this share of what it does alone."""


def batch_sizes(model: str) -> list[int]:
    """That of the training, halved until one image is left."""
    size = zoo.find(model).training.batch_size
    return sorted({ceil(size / gpus) for gpus in GPUS}, reverse=True)


def predicted_steps() -> dict[str, Any]:
    """The record: for each model, the step of one GPU by the number of images, and its layers."""
    models = []
    for name in step.OPTIMIZERS:
        model = zoo.find(name).build()
        flops = sum(layer.flops(layer.input_shape or ()) for layer in model.layers)
        layers = [
            [layer.flops(layer.input_shape or ()) / flops, 4 * sum(weight.size for weight in layer.trainable_weights)]
            for layer in model.layers
        ]
        steps = {}
        for size in batch_sizes(name):
            one = step.predicted(name, cards.find(CARD), batch_size=size)
            update = sum(node.microseconds for node in one.nodes if node.kernel.startswith("update/"))
            steps[str(size)] = {"step_us": one.microseconds, "update_us": update}
            click.echo(f"{name}, {size} images: {one.microseconds:,.1f} µs")
        models.append({"model": name, "layers": layers, "steps": steps})
    return rounded({"predicted_for": CARD, "cluster": asdict(DGX_H100), "models": models})


def work(record: dict[str, Any], images: int) -> Work:
    """The step of one GPU with so many images."""
    one = record["steps"][str(images)]
    layers = tuple((share, size) for share, size in record["layers"])
    return Work(one["step_us"] - one["update_us"], one["update_us"], layers)


def weak(record: dict[str, Any]) -> list[Prediction]:
    """Each GPU computes the batch of the training."""
    images = max(map(int, record["steps"]))
    return [scaling.predict(work(record, images), gpus, DGX_H100) for gpus in GPUS]


def strong(record: dict[str, Any]) -> list[Prediction]:
    """The GPUs share the batch of the training, down to one image each."""
    images = max(map(int, record["steps"]))
    return [scaling.predict(work(record, ceil(images / gpus)), gpus, DGX_H100) for gpus in GPUS if gpus <= images]


def efficiency(steps: list[Prediction]) -> list[float]:
    """In weak scaling: what a GPU does of what it does alone."""
    return [steps[0].step / one.step for one in steps]


def speed_up(steps: list[Prediction]) -> list[float]:
    """In strong scaling."""
    return [steps[0].step / one.step for one in steps]


def end_of_weak(steps: list[Prediction]) -> int:
    """The most GPUs with `ENOUGH` efficiency."""
    return max(one.gpus for one, share in zip(steps, efficiency(steps), strict=True) if share >= ENOUGH)


def end_of_strong(steps: list[Prediction]) -> Prediction:
    """The shortest step."""
    return min(steps, key=lambda one: one.step)


def plot(models: list[dict[str, Any]]) -> Figure:
    """Efficiency of weak scaling, and speed-up of strong scaling."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, record in enumerate(models):
        style = {"marker": "osD^v"[number], "markersize": 4, "label": record["model"]}
        steps = weak(record)
        left.plot(GPUS, [100 * share for share in efficiency(steps)], **style)
        steps = strong(record)
        right.plot([one.gpus for one in steps], speed_up(steps), **style)
    left.axhline(100 * ENOUGH, color="grey", linewidth=0.8, linestyle="--")
    left.set(title="weak scaling: the batch of the training on each GPU", ylabel="efficiency in %", ylim=(0, 105))
    right.set(title="strong scaling: one batch for all GPUs", ylabel="speed-up")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(GPUS, [f"{gpus:,}" for gpus in GPUS], fontsize=8)
        axes.set_xlabel("GPUs (predicted, not measured)")
        axes.grid(alpha=0.3)
    left.legend(fontsize=8)
    return figure


def page(models: list[dict[str, Any]]) -> str:
    """The plan in Markdown."""
    rows = []
    for record in models:
        steps, shared = weak(record), strong(record)
        shares, best, last = efficiency(steps), end_of_strong(shared), steps[-1]
        at = {one.gpus: f"{one.step:,.0f} µs ({share:.0%})" for one, share in zip(steps, shares, strict=True)}
        rows.append(
            f"| {record['model']} | {max(map(int, record['steps']))} | {work(record, 1).nbytes / 1e6:,.2f} MB | "
            f"{steps[0].step:,.0f} µs | {at[8]} | {at[64]} | {at[1024]} | {last.exposed:,.0f} of {last.reduce:,.0f} µs, "
            f"{last.algorithm} | {end_of_weak(steps):,} | {best.gpus}: {shared[0].step / best.step:.1f} × |"
        )
    return (FOLDER / "scaling_page.md").read_text(encoding="utf-8").replace("{rows}", "\n".join(rows))


@click.command(help=__doc__)
@click.option("--predict", is_flag=True, help="Predict the steps of one GPU again.")
def main(predict: bool) -> None:
    if predict:
        write_atomically(RECORD, (json.dumps(predicted_steps(), indent=1) + "\n").encode())
    models = json.loads(RECORD.read_text(encoding="utf-8"))["models"]
    write_atomically(PAGE, page(models).encode())
    plot(models).savefig(PLOT, metadata={"Date": None})
    click.echo(f"{PAGE} and {PLOT}")


if __name__ == "__main__":
    main()
