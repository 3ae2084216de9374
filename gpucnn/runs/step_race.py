"""The training step of gpucnn measured in turns with its rivals, in one process.

All of them train on the same batches from the same weights. Before anything is timed, their losses
must agree with those of gpucnn on the CPU, without dropout.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..devices import choose, threads
from ..dispatch.precision import Precision
from ..errors import ArgumentError, did_you_mean
from . import rivals
from .rivals import Absent, Loop, Problem
from .translations import Untranslated

BATCHES = 16
"""How many steps are timed as one: as many as gpucnn replays as one graph."""


@dataclass(frozen=True)
class Row:
    """One contender on one model. Milliseconds of a step: median, 10th and 90th percentile over the
    rounds; `ratio` is its time divided by gpucnn's: of the medians, and of the lowest and highest
    round. `note` says why there are no times."""

    model: str
    contender: str
    device: str
    batch_size: int
    optimizer: str
    variant: str = ""
    milliseconds: float | None = None
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    rounds: int = 0
    loss_difference: float | None = None
    note: str | None = None


def require_known(names: Sequence[str]) -> None:
    """Raise `ArgumentError` for a name of `--vs` that is unknown."""
    for name in names:
        if name not in rivals.NAMES:
            hint = did_you_mean(name, rivals.NAMES) or f"use some of {', '.join(rivals.NAMES)}"
            raise ArgumentError(f"--vs {name} is unknown: {hint}")


def timed_device(name: str) -> str:
    """The device of this name. Raises `ArgumentError` for one whose times mean nothing."""
    if name.partition(":")[0] not in ("cpu", "gpu"):
        raise ArgumentError(f"--device {name} is not timed: use cpu or gpu, or --predict CARD")
    if choose.is_emulated(name):
        raise ArgumentError(f"--device {name} is emulated and is not timed: use cpu or a GPU, or --predict CARD")
    return name


def measure(
    model: str,
    where: str,
    backend: str,
    vs: Sequence[str],
    seconds: float,
    batches: int = BATCHES,
    size: int | None = None,
    precision: Precision = "float32",
) -> list[Row]:
    """gpucnn on a device (cpu, gpu or gpu:N) and its rivals on a model, in turns for about this many
    seconds; `size` images a batch, by default as in the model's training."""
    problem = Problem.random(model, where, batches, size, precision)
    expected = _losses(rivals.gpucnn_maker(replace(problem, where="cpu", precision="float32"))(False))
    rows, contestants = [], {}
    for name in ("gpucnn", *vs):
        try:
            makers = [rivals.gpucnn_maker(problem, backend)] if name == "gpucnn" else rivals.makers(problem, name)
            contestants[name] = [_checked(maker, expected, problem) for maker in makers]
        except (Absent, Untranslated) as reason:
            rows.append(Row(model, name, where, problem.x.shape[1], problem.optimizer, note=f"not here: {reason}"))
    times = _timed(contestants, seconds, batches)
    ours = times["gpucnn"][0]
    for name, variants in contestants.items():
        medians = np.median(times[name], axis=1)
        best = int(medians.argmin())
        loop, difference = variants[best]
        low, median, high = np.percentile(times[name][best], [10, 50, 90])
        ratios = np.array(times[name][best]) / np.array(ours)
        rows.append(
            Row(
                model,
                name,
                loop.notes["device"],
                problem.x.shape[1],
                problem.optimizer,
                loop.notes.get("memory_format") or loop.notes.get("backend", ""),
                float(median),
                float(low),
                float(high),
                float(median / np.median(ours)),
                float(ratios.min()),
                float(ratios.max()),
                len(ours),
                difference,
            )
        )
    return sorted(rows, key=lambda row: ("gpucnn", *vs).index(row.contender))


def _checked(maker: rivals.Maker, expected: list[float], problem: Problem) -> tuple[Loop, float]:
    """(the loop that is timed, the difference of its losses); warmed up, with dropout on."""
    loop = maker(False)
    difference = rivals.agree(_losses(loop), expected, problem.precision)
    if rivals.has_dropout(problem.model):
        loop = maker(True)
        _losses(loop)
    return loop, difference


def _losses(loop: Loop) -> list[float]:
    return loop.losses(loop.run())


def _timed(
    contestants: dict[str, list[tuple[Loop, float]]], seconds: float, batches: int
) -> dict[str, list[list[float]]]:
    """Milliseconds of a step in each round, by contender and variant."""
    times: dict[str, list[list[float]]] = {name: [[] for _ in loops] for name, loops in contestants.items()}
    start = time.perf_counter()
    while time.perf_counter() - start < seconds or len(times["gpucnn"][0]) < 5:
        for name, loops in contestants.items():
            for place, (loop, _) in enumerate(loops):
                gc.collect()
                begin = time.perf_counter()
                _losses(loop)
                times[name][place].append((time.perf_counter() - begin) / batches * 1e3)
    return times


def share_threads(vs: Sequence[str]) -> None:
    """Give PyTorch as many threads of the CPU as gpucnn uses."""
    if any(name.startswith("torch") for name in vs):
        try:
            import torch
        except ImportError:
            return
        torch.set_num_threads(threads.in_use())
