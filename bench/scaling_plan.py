"""The course models on up to 1,024 GPUs: predicted steps, where scaling ends, the page and its plot.

    python bench/scaling_plan.py --predict     # the steps of one GPU at all batch sizes: minutes, needs the compilers
    python bench/scaling_plan.py               # the page and the plot from that record: seconds

Writes results/scaling/predicted.json, and from it scaling.md and results/scaling/plan.svg. Nothing
here is measured: see gpucnn/profiling/scaling.py for the model and its parameters.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import Any

import click
import matplotlib
from matplotlib.figure import Figure
from predict_steps import rounded

from gpucnn.devices import cards
from gpucnn.files import write_atomically
from gpucnn.models.resident_parts import LARGE
from gpucnn.profiling import scaling
from gpucnn.profiling.scaling import DGX_H100, Prediction, Work
from gpucnn.runs import step, zoo

FOLDER = Path(__file__).parent
RECORD = FOLDER / "results" / "scaling" / "predicted.json"
PLOT = FOLDER / "results" / "scaling" / "plan.svg"
PAGE = FOLDER / "scaling.md"
CARD = "h100"
GPUS = tuple(2**power for power in range(11))
MEASURED = FOLDER / "results" / "cpu-amd-epyc" / "scaling.json"
ENOUGH = 0.8
"""Scaling ends where a GPU does less than this share of what it does alone."""

PROSE = """# Training over several processes

How far data-parallel training scales: measured on one machine, and predicted for many GPUs. Both
tables and the plot are generated from records by `python bench/scaling_plan.py`.

## Measured: processes on one machine

One thread for each process, bound to one of {cores} cores of an {processor}, {date} (`python bench/scaling.py`,
[record](results/cpu-amd-epyc/scaling.json)). Medians of the pairs, with the lowest and the highest.

| model | processes | batch | gradients | weak scaling | without exchange | strong scaling |
|---|---|---|---|---|---|---|
{measured}

*Weak scaling*: images per second of all processes, each with the batch of the training, compared
with one process of one thread. *Without exchange*: the same if each trains a model of its own, which
is what cores, caches and memory allow. *Strong scaling*: the processes share one batch.

The gradients lie in one flat array, which is exchanged in place: each process adds up one part of it
and sends the sum to the others. On a CPU, the exchange is not overlapped with the backward pass: the
core that copies the bytes is the one that computes.

On GPUs, NCCL adds up the gradients, and its launches are part of the recorded step. From {large} MB of
gradients on, those of the last layers, half of them or more, are added up during the backward pass
through the others.

## Predicted: up to 1,024 GPUs

Nothing in this section is measured. The cluster: {cluster}. The step of
one GPU comes from [the predictor](README.md#predicted-for-cards-that-are-not-here), and the time of
an all-reduce from the model by which NCCL itself chooses between rings and trees
([gpucnn/profiling/scaling.py](../gpucnn/profiling/scaling.py)).

![efficiency of weak scaling and speed-up of strong scaling](results/scaling/plan.svg)

| model | batch | gradients | 1 GPU | 8 GPUs | 64 | 1,024 | exposed on 1,024 | weak ends at | strong ends at |
|---|---|---|---|---|---|---|---|---|---|
{plan}

In weak scaling, each GPU has the batch of the training; it ends at the largest number of GPUs that
still do {enough} of what one does alone. In strong scaling, the GPUs share the batch of the training;
it ends where the step is shortest. *Exposed* is what the backward pass does not hide of all
all-reduces.

* These models are small. With a step of 0.08 to 1.1 ms, the latency of the network decides, not its
  bandwidth: 7 levels of a tree between 128 nodes take 70 µs in both directions together.
* Strong scaling ends early: a step consists of 17 to 35 kernels, each of which takes microseconds to
  start however few images there are.
* Accuracy limits the batch before the network does. 1,024 GPUs with 128 images each are a batch of
  131,072, more than twice MNIST. The model says how fast steps are, not how much they teach.

| parameter | value | source |
|---|---|---|
| link | {link} GB/s from a GPU to its node | NCCL, `src/graph/topo.h`: 20.6 GB/s for each of 18 NVLinks |
| rails | {rails} GB/s from node to node | DGX H100 datasheet: 8 adapters of 400 Gbit/s; 85 % reached: estimate |
| latencies | by algorithm, protocol and link | NCCL, `src/graph/tuning.cc`: `baseLat`, `hwLat` |
| compute | by model and batch | gpucnn's predictor for an H100, 15 to 20 % too short where it was compared |
| backward | ⅔ of forward and backward, shared among layers by their operations | two products to one |
| buckets | two from {large} MB of gradients on, else one | as `gpucnn/models/resident_parts.py` does |

A second bucket changes the steps of the models by so much on 8, 64 and 1,024 GPUs:
{buckets}.
So it is used for the models with large gradients. For the others, it would save microseconds within a
node, and cost more than it saves on many nodes.

Not modelled: GPUs that wait for the slowest, multiprocessors that NCCL takes from the kernels, a
network that others use, sums inside switches, and how data reach the GPUs.
"""


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
    return [predicted(work(record, images), gpus) for gpus in GPUS]


def strong(record: dict[str, Any]) -> list[Prediction]:
    """The GPUs share the batch of the training, down to one image each."""
    images = max(map(int, record["steps"]))
    return [predicted(work(record, ceil(images / gpus)), gpus) for gpus in GPUS if gpus <= images]


def predicted(step: Work, gpus: int) -> Prediction:
    """The step, with as many buckets as gpucnn makes."""
    return scaling.predict(step, gpus, DGX_H100, (2 if step.nbytes >= LARGE else 1,))


def of_second_bucket(models: list[dict[str, Any]]) -> str:
    """How much longer or shorter steps are with two buckets than with one."""
    texts = []
    for record in models:
        step, changes = work(record, max(map(int, record["steps"]))), []
        for gpus in (8, 64, 1024):
            one, two = (scaling.predict(step, gpus, DGX_H100, (count,)).step for count in (1, 2))
            changes.append(f"{100 * (two / one - 1):+.0f} %")
        texts.append(f"{record['model']} {', '.join(changes)}")
    return ";\n".join(texts)


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


def measured_rows(record: dict[str, Any]) -> str:
    """The table of the processes on one machine."""

    def ratio(values: list[float]) -> str:
        return f"{values[0]:.2f} ({values[1]:.2f} … {values[2]:.2f})"

    return "\n".join(
        f"| {row['model']} | {row['ranks']} | {row['batch_size']} | {4 * row['parameters'] / 1e6:.1f} MB | "
        f"**{ratio(row['weak'])}** | {ratio(row['apart'])} | {ratio(row['strong'])} |"
        for row in record["rows"]
    )


def plan_rows(models: list[dict[str, Any]]) -> str:
    """The table of the plan."""
    rows = []
    for record in models:
        steps, shared = weak(record), strong(record)
        best, last = end_of_strong(shared), steps[-1]
        at = dict(zip(GPUS, efficiency(steps), strict=True))
        cells = (
            record["model"],
            f"{max(map(int, record['steps']))}",
            f"{work(record, 1).nbytes / 1e6:,.2f} MB",
            f"{steps[0].step:,.0f} µs",
            *(f"{at[gpus]:.0%}" for gpus in (8, 64, 1024)),
            f"{last.exposed:,.0f} of {last.reduce:,.0f} µs, {last.algorithm}",
            "beyond 1,024" if end_of_weak(steps) == GPUS[-1] else f"{end_of_weak(steps):,}",
            f"{shared[0].step / best.step:.1f} × on {best.gpus}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def page(models: list[dict[str, Any]], measured: dict[str, Any]) -> str:
    """Both tables, and how to read them, in Markdown."""
    return PROSE.format(
        **{key: measured[key] for key in ("processor", "cores", "date")},
        measured=measured_rows(measured),
        plan=plan_rows(models),
        cluster=DGX_H100.title,
        link=f"{DGX_H100.link / 1e3:,.0f}",
        rails=f"{DGX_H100.rails / 1e3:,.0f}",
        enough=f"{ENOUGH:.0%}",
        large=f"{LARGE / 2**20:.0f}",
        buckets=of_second_bucket(models),
    )


@click.command(help=__doc__)
@click.option("--predict", is_flag=True, help="Predict the steps of one GPU again.")
def main(predict: bool) -> None:
    if predict:
        write_atomically(RECORD, (json.dumps(predicted_steps(), indent=1) + "\n").encode())
    models = json.loads(RECORD.read_text(encoding="utf-8"))["models"]
    write_atomically(PAGE, page(models, json.loads(MEASURED.read_text(encoding="utf-8"))).encode())
    with matplotlib.rc_context({"svg.hashsalt": "gpucnn"}):  # equal plots are equal files
        plot(models).savefig(PLOT, metadata={"Date": None})
    click.echo(f"{PAGE} and {PLOT}")


if __name__ == "__main__":
    main()
