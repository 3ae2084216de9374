"""A training step of gpucnn compared with one of PyTorch, on the CPU, in one process, in turns.

    python bench/train_step_vs_torch.py --model slides --pairs 9

A step is forward, loss, backward and update, from a batch in memory to the loss as a Python number.
Both use the same number of threads, the same initial weights and the same optimizer. PyTorch runs
eagerly, once with its default memory format and once with channels_last; the faster of the two
counts. Before anything is timed, both take a step from equal weights, with dropout off, and must
agree on the loss before and after it.

Nothing else may run at the same time: the threads of PyTorch wait for each other at every
operation, so that one busy core makes its steps up to ten times longer and the ratio meaningless.
The initial load is printed.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import click
import numpy as np

import gpucnn
from gpucnn import layers
from gpucnn.devices import threads
from gpucnn.runs import zoo
from gpucnn.runs.step import OPTIMIZERS
from gpucnn.runs.step import optimizer as gpucnn_optimizer
from gpucnn.runs.translations import as_torch

TOLERANCE = 1e-3
"""Largest relative difference of the losses; reordering float32 sums changes far less."""

Step = Callable[[], float]


@dataclass
class Comparison:
    """One line of the table; times in milliseconds, medians over the pairs.

    `ratio_of_fastest` compares the fastest step of each, which other programs disturb least.
    """

    model: str
    batch_size: int
    optimizer: str
    gpucnn_ms: float
    torch_ms: float
    memory_format: str
    ratio: float
    ratio_low: float
    ratio_high: float
    ratio_of_fastest: float
    loss_difference: float


def gpucnn_step(model: gpucnn.Sequential, x: np.ndarray, y: np.ndarray) -> Step:
    """One update of the model; returns the loss."""

    def step() -> float:
        model.reset_metrics()
        return float(np.ravel(model.train_on_batch(x, y))[0])

    return step


def torch_step(net, optimizer, x, y) -> Step:
    """One update of a PyTorch module that returns logits; returns the loss."""
    from torch.nn.functional import cross_entropy

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def torch_optimizer(name: str, parameters):
    """PyTorch's fastest version of the optimizer."""
    import torch

    if name == "adam":
        return torch.optim.Adam(parameters, 1e-3, eps=1e-8, fused=True)
    return torch.optim.SGD(parameters, 0.01)


def compare(name: str, pairs: int) -> Comparison:
    """Check that both give the same losses, then time them in turns."""
    import torch

    entry = zoo.find(name)
    size = entry.training.batch_size
    rng = np.random.default_rng(0)
    x = rng.random((size, *entry.input_shape), np.float32)
    y = rng.integers(0, 10, size)
    images, labels = torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(y)

    gpucnn.utils.set_random_seed(0)
    model = entry.build()
    steps: dict[str, Step] = {}
    for memory_format in (torch.contiguous_format, torch.channels_last):
        net = as_torch(model).to(memory_format=memory_format)
        optimizer = torch_optimizer(OPTIMIZERS[name], net.parameters())
        batch = images.contiguous(memory_format=memory_format)
        steps[str(memory_format).removeprefix("torch.")] = torch_step(net, optimizer, batch, labels)
    model.compile(gpucnn_optimizer(OPTIMIZERS[name]), entry.training.loss)
    step = gpucnn_step(model, x, y)
    difference = agree(step, model, steps["channels_last"], net)

    times: dict[str, list[float]] = {key: [] for key in ("gpucnn", *steps)}
    for _ in range(pairs + 2):
        for key, run in {"gpucnn": step, **steps}.items():
            times[key].append(_seconds(run))
    measured = {key: np.array(values[2:]) * 1e3 for key, values in times.items()}
    best = min(steps, key=lambda key: float(np.median(measured[key])))
    ratios = measured[best] / measured["gpucnn"]
    return Comparison(
        name,
        size,
        OPTIMIZERS[name],
        float(np.median(measured["gpucnn"])),
        float(np.median(measured[best])),
        best,
        float(np.median(measured[best]) / np.median(measured["gpucnn"])),
        float(ratios.min()),
        float(ratios.max()),
        float(measured[best].min() / measured["gpucnn"].min()),
        difference,
    )


def agree(step: Step, model: gpucnn.Sequential, other: Step, net) -> float:
    """The largest relative difference of the losses of two steps, without dropout.

    Raises if it is above TOLERANCE.
    """
    from torch import nn

    dropouts = [layer for layer in model.layers if isinstance(layer, layers.Dropout)]
    rates = [layer.rate for layer in dropouts]
    for layer in dropouts:
        layer.rate = 0.0
    modules = [module for module in net.modules() if isinstance(module, nn.Dropout)]
    for module in modules:
        module.p = 0.0
    losses = [(step(), other()) for _ in range(2)]
    for layer, rate in zip(dropouts, rates, strict=True):
        layer.rate = rate
    for module, rate in zip(modules, rates, strict=True):
        module.p = rate
    difference = max(abs(a - b) / abs(b) for a, b in losses)
    if not difference <= TOLERANCE:
        raise click.ClickException(f"{model.name}: gpucnn and PyTorch do not agree: losses {losses}")
    return difference


def _seconds(run: Step) -> float:
    gc.collect()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def processor() -> str:
    """The name of the processor."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def machine() -> dict[str, str | int | float]:
    """The machine and the versions that produce the figures."""
    import torch

    return {
        "processor": processor(),
        "cores": threads.available(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else "unknown",
        "threads": threads.in_use(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "gpucnn": gpucnn.__version__,
        "precision": "float32, both",
    }


@click.command(help=__doc__)
@click.option(
    "--model", "models", multiple=True, type=click.Choice(list(OPTIMIZERS)), help="Only this model; repeatable."
)
@click.option("--pairs", default=9, show_default=True, type=click.IntRange(5), help="Steps of each, taken in turns.")
@click.option(
    "--threads", "thread_count", default=2, show_default=True, type=click.IntRange(1), help="Threads of each."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def main(models: tuple[str, ...], pairs: int, thread_count: int, as_json: bool) -> None:
    try:
        import torch
    except ImportError:
        raise click.ClickException("PyTorch is not installed: pip install torch (the CPU build is enough)") from None
    torch.set_num_threads(thread_count)
    threads.use(thread_count)
    about = machine()
    if not as_json:
        click.echo(", ".join(f"{key} {value}" for key, value in about.items()))
        click.echo(
            f"{pairs} pairs of steps in turns; ratio: PyTorch's time / gpucnn's, of medians (lowest … highest pair) "
            "and of the fastest steps"
        )
        click.echo(
            "model        batch  optimizer  gpucnn ms  PyTorch ms  format             ratio                 fastest"
        )
    rows = []
    for name in models or OPTIMIZERS:
        row = compare(name, pairs)
        rows.append(row)
        if not as_json:
            click.echo(
                f"{row.model:<12} {row.batch_size:>5}  {row.optimizer:<9}  {row.gpucnn_ms:>9.1f}  "
                f"{row.torch_ms:>10.1f}  {row.memory_format:<17}  "
                f"{f'{row.ratio:.2f} ({row.ratio_low:.2f} … {row.ratio_high:.2f})':<20}  {row.ratio_of_fastest:.2f}"
            )
    if as_json:
        click.echo(json.dumps({"machine": about, "pairs": pairs, "rows": [asdict(row) for row in rows]}, indent=2))


if __name__ == "__main__":
    main()
