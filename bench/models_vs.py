"""gpucnn compared with PyTorch, JAX and ONNX Runtime on the CPU: many kinds of models, in turns.

    python bench/models_vs.py --models slides,vgg,separable --out bench/results/cpu/models_vs.json

Each model is stated once, as layers of gpucnn, and translated. A training step is forward, loss,
backward and update, from a batch in memory to the loss as a Python number; predictions are those of
512 images in batches of 256, and of one image. Before anything is timed, the losses of two steps
with dropout off, and the predictions, must agree. PyTorch runs eagerly in both of its memory formats, of which the
faster counts, and compiled; the step of JAX is one jit; ONNX Runtime predicts.

A figure is a ratio, the rival's time / gpucnn's: the median over the rounds, with the lowest and the
highest. In each round, every contender has one turn of several runs, of which the median counts.
Nothing else may run at the same time. The share of the peak counts the operations of the definition,
three times those of the forward pass for a step. It exceeds 1 where kernels do fewer: Winograd's
products, and the gradients behind max pooling, of which three in four are zeros.

With `--check`, the contenders are compiled and compared but not timed, which fills their caches; with
`--memory`, the peak memory of a step is measured, too, in a new process each.
"""

from __future__ import annotations

import gc
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
from model_kinds import KINDS
from rival_loops import IMAGES, TORCH, Problem, Runs, contestants, prepare
from step_memory import peak_of_step
from train_step_vs_torch import machine

from gpucnn.devices import threads
from gpucnn.files import write_atomically
from gpucnn.layers import Dropout
from gpucnn.models.summary import flops_per_image
from gpucnn.ops.conv2d import conv2d
from gpucnn.ops.matmul import matmul
from gpucnn.runs.rivals import Absent

TOLERANCE = 1e-3
"""Largest relative difference of losses, and largest difference of probabilities."""

TURN_SECONDS = 0.04
JOBS = ("step", "predict", "one")
RIVALS = {"torch": TORCH, "torch-compile": ("torch-compile",), "jax": ("jax",)} | {"onnxruntime": ("onnxruntime",)}
"""The rivals that can be chosen, each with its contenders, of which the fastest counts."""

_SIDE = 1024

_PAUSE_SECONDS = 0.15
"""Between two turns, so that no thread of the last library is still spinning."""


# -- one model ---------------------------------------------------------------------------------------------------------


def contenders_of(rivals: Sequence[str]) -> list[str]:
    """gpucnn and all contenders of these rivals."""
    return ["gpucnn", *(contender for rival in rivals for contender in RIVALS[rival])]


def check(runs: dict[str, Runs]) -> None:
    """Raise unless all contenders agree with gpucnn on predictions and the losses of two steps."""
    outputs = {job: getattr(runs["gpucnn"], job)() for job in ("predict", "one")}
    losses = [runs["gpucnn"].step() for _ in range(2)]
    for name, rival in runs.items():
        for job, expected in outputs.items():
            run = getattr(rival, job)
            difference = 0.0 if run is None else float(np.abs(run() - expected).max())
            if not difference <= TOLERANCE:
                raise click.ClickException(f"{name}: {job} differs from gpucnn's by {difference:.2g}")
        for expected in losses if name != "gpucnn" and rival.step else ():
            loss = rival.step()
            if not abs(loss - expected) <= TOLERANCE * abs(expected):
                raise click.ClickException(f"{name}: a loss is {loss}, and gpucnn's {expected}")


def timed(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds by contender, one figure a round; they take turns in changing order."""
    counts = {}
    for name, run in runs.items():
        run()
        counts[name] = max(1, min(25, int(TURN_SECONDS / _seconds(run))))
    figures: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for round_number in range(rounds):
        first = round_number % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()
            time.sleep(_PAUSE_SECONDS)
            if counts[name] > 1:
                runs[name]()
            figures[name].append(statistics.median(_seconds(runs[name]) for _ in range(counts[name])) * 1e3)
    return figures


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(name: str, rivals: Sequence[str], rounds: int, memory: bool) -> dict[str, Any]:
    """The record of one model."""
    kind, names = KINDS[name], contenders_of(rivals)
    runs = contestants(Problem(kind, dropout=False), names)
    check(runs)
    model = kind.build()
    if any(isinstance(layer, Dropout) for layer in model.layers):
        runs = contestants(Problem(kind, dropout=True), names)
    flops = flops_per_image(model)
    record: dict[str, Any] = {"model": name, "about": kind.about, "batch_size": kind.batch_size}
    record |= {"optimizer": kind.optimizer, "flops_per_image": flops, "jobs": {}}
    images = {"step": 3 * kind.batch_size, "predict": IMAGES, "one": 1}
    for job in JOBS:
        top = peak_flops()
        figures = timed({key: run for key, rival in runs.items() if (run := getattr(rival, job))}, rounds)
        top = max(top, peak_flops())
        record["jobs"][job] = {
            "milliseconds": {key: _spread(values) for key, values in figures.items()},
            "ratios": ratios(figures, rivals),
            "peak_gflops": top / 1e9,
            "defined_flops_of_peak": images[job] * flops / (statistics.median(figures["gpucnn"]) * 1e-3) / top,
        }
    if memory:
        record["step_bytes"] = {key: peak_of_step(name, key) for key, rival in runs.items() if rival.step}
    return record | {"date": datetime.now(UTC).isoformat(timespec="seconds")}


def ratios(figures: dict[str, list[float]], rivals: Sequence[str]) -> dict[str, dict[str, float]]:
    """By rival, the median of its ratios and their range, for its fastest contender."""
    result = {}
    for rival in rivals:
        present = [contender for contender in RIVALS[rival] if contender in figures]
        if present:
            best = min(present, key=lambda contender: statistics.median(figures[contender]))
            each = [a / b for a, b in zip(figures[best], figures["gpucnn"], strict=True)]
            result[rival] = _spread(each)
    return result


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def peak_flops() -> float:
    """Operations a second of a product of two matrices of 1,024 × 1,024 on all threads: BLAS or gpucnn's
    tiles, whichever is faster here."""
    a, window = np.ones((_SIDE, _SIDE), np.float32), {"strides": (1, 1), "padding": ((0, 0), (0, 0))}
    rows, filters = a.reshape(_SIDE, 1, 1, _SIDE), a.reshape(1, 1, _SIDE, _SIDE)
    with threads.one_blas_thread():
        products = (
            lambda: matmul(a, a, transpose_a=False, transpose_b=False),
            lambda: conv2d(rows, filters, dilation=(1, 1), groups=1, algorithm="implicit_gemm", **window),
        )
        return 2 * _SIDE**3 / min(_seconds(product) for product in products for _ in range(4))


# -- all models --------------------------------------------------------------------------------------------------------


def show(records: Sequence[dict[str, Any]]) -> None:
    """One line a model, and geometric means."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for header in ("model", "step ms", "× best of rivals", "", "peak", "512: × torch", "× ORT", "1: ms"):
        table.add_column(header, justify="left" if header in ("model", "") else "right")
    for header in ("× torch", "× ORT", "memory"):
        table.add_column(header, justify="right")
    for record in records:
        table.add_row(*_line(record))
    means = [_mean(records, "step", None), _mean(records, "predict", "torch"), _mean(records, "predict", "onnxruntime")]
    one = [_mean(records, "one", "torch"), _mean(records, "one", "onnxruntime")]
    table.add_row("geometric mean", "", means[0], "", "", *means[1:], "", *one, "")
    Console(width=100).print(table)


def _line(record: dict[str, Any]) -> list[str]:
    step, predict, one = (record["jobs"][job] for job in JOBS)
    rival, spread = _best(step["ratios"])
    cells = [f"{job['ratios'][r]['median']:.2f}" if r in job["ratios"] else "" for job in (predict, one) for r in _TWO]
    memory = record.get("step_bytes", {})
    rivals_memory = [memory[name] for name in TORCH if name in memory]
    return [
        record["model"],
        f"{step['milliseconds']['gpucnn']['median']:.1f}",
        f"{spread['median']:.2f} ({spread['low']:.2f} … {spread['high']:.2f})" if rival else "",
        _SHORT.get(rival, rival),
        f"{step['defined_flops_of_peak']:.0%}",
        *cells[:2],
        f"{one['milliseconds']['gpucnn']['median']:.2f}",
        *cells[2:],
        f"{memory['gpucnn'] / min(rivals_memory):.2f}" if rivals_memory else "",
    ]


_TWO = ("torch", "onnxruntime")
_SHORT = {"torch-compile": "compiled"}


def _best(by_rival: dict[str, dict[str, float]]) -> tuple[str, dict[str, float]]:
    """The fastest rival and its ratios; ("", {}) without any."""
    return min(by_rival.items(), key=lambda item: item[1]["median"], default=("", {}))


def _mean(records: Sequence[dict[str, Any]], job: str, rival: str | None) -> str:
    """The geometric mean over the models; None is the best rival of each."""
    by_model = [record["jobs"][job]["ratios"] for record in records]
    values = [(_best(found)[1] if rival is None else found.get(rival, {})).get("median") for found in by_model]
    logs = [math.log(value) for value in values if value]
    return f"{math.exp(statistics.mean(logs)):.2f}" if logs else ""


def merged(path: Path, about: dict[str, Any], records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """These records and those of other models in the file."""
    old = json.loads(path.read_text(encoding="utf-8"))["models"] if path.exists() else []
    by_name = {record["model"]: record for record in [*old, *records]}
    return {"machine": about, "models": [by_name[name] for name in KINDS if name in by_name]}


def _names(context: Any, parameter: Any, value: str | None) -> tuple[str, ...]:
    """The names of a list with commas, checked."""
    allowed = KINDS if parameter.name == "models" else RIVALS
    names = tuple(value.split(",")) if value else tuple(allowed)
    for name in names:
        if name not in allowed:
            raise click.BadParameter(f"{name!r} is unknown: use {', '.join(allowed)}")
    return names


@click.command(help=__doc__)
@click.option("--models", callback=_names, help=f"Names with commas.  [default: all of {', '.join(KINDS)}]")
@click.option("--rivals", callback=_names, help=f"Names with commas.  [default: all of {', '.join(RIVALS)}]")
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(5), help="Turns of each contender.")
@click.option("--threads", "thread_count", default=0, type=click.IntRange(0), help="Of each.  [default: all cores]")
@click.option("--memory", is_flag=True, help="Measure the peak memory of a step, too.")
@click.option("--check", "only_check", is_flag=True, help="Compile and compare; time nothing.")
@click.option("--out", type=click.Path(path_type=Path), help="The record; other models in it are kept.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def main(
    models: tuple[str, ...],
    rivals: tuple[str, ...],
    rounds: int,
    thread_count: int,
    memory: bool,
    only_check: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    from rich.console import Console
    from rich.progress import track

    try:
        prepare(thread_count or threads.available(), contenders_of(rivals))
    except Absent as reason:
        raise click.ClickException(str(reason)) from None
    about = {**machine(), "rounds": rounds}
    records = []
    for name in track(models, "models", console=Console(stderr=True), transient=True):
        if only_check:
            check(contestants(Problem(KINDS[name], dropout=False), contenders_of(rivals)))
            continue
        records.append(compare(name, rivals, rounds, memory))
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(out, (json.dumps(merged(out, about, records), indent=1) + "\n").encode())
    if as_json:
        click.echo(json.dumps({"machine": about, "models": records}, indent=1))
    elif records:
        click.echo(", ".join(f"{key} {value}" for key, value in about.items()))
        show(records)


if __name__ == "__main__":
    main()
