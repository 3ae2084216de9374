"""What the kernels of a training step take on the CPU, each timed where it stands in the step.

A kernel that is called over and over finds its arrays in the caches and its branches predicted; in a
step it finds what the kernels before it have left.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np

from ..devices import threads
from ..dispatch import choice
from ..dispatch.precision import Precision
from ..dispatch.tape import Run
from ..models.sequential import Sequential
from . import step
from .rivals import Problem

_LEAST = 10
"""Steps that are timed."""


@dataclass(frozen=True)
class Timed:
    """One kernel of a step; what has no name is all that lies between two kernels.

    result, operand   shapes of its first result and of its first operand
    flops             of the call, by the op's definition
    nbytes            of its operands and results, each counted once
    microseconds      the median, with the 10th and 90th percentile `low` and `high`
    share             of the sum of these medians
    """

    op: str
    kernel: str
    result: tuple[int, ...]
    operand: tuple[int, ...]
    flops: float
    nbytes: int
    microseconds: float
    low: float
    high: float
    share: float


@dataclass(frozen=True)
class Profile:
    """The kernels of a step of a model, in order; `microseconds` is the median of whole steps."""

    model: str
    batch_size: int
    optimizer: str
    threads: int
    steps: int
    microseconds: float
    kernels: list[Timed]


def measure(name: str, seconds: float, precision: Precision = "float32") -> Profile:
    """`profile` of a model by name, on random images, with the batch size of its training."""
    problem = Problem.random(name, "cpu", 1, precision=precision)
    return replace(profile(step.compiled(name, precision=precision), problem.x[0], problem.y[0], seconds), model=name)


def profile(model: Sequential, x: np.ndarray, y: np.ndarray, seconds: float = 5.0) -> Profile:
    """Time the kernels of a compiled model's steps on a batch for about so long, in turns with whole steps. Each
    step changes the weights. Raises `KernelError` where steps are not recorded."""
    model._trainer.require_compiled("profile")
    batch = next(model._trainer.take(x, y, None, len(x), None).epoch(None))
    training = model._trainer.step
    whole: list[float] = []
    apart: list[list[float]] = []
    with threads.one_blas_thread(), choice.computing(training.settings.precision):
        recorded = training.recorded(batch)
        runs: list[Run | None] = [run for run, _ in recorded.times(batch)]
        start = time.perf_counter()
        while time.perf_counter() - start < seconds or len(whole) < _LEAST:
            begin = time.perf_counter()
            training.train(batch)
            whole.append(1e6 * (time.perf_counter() - begin))
            apart.append([1e6 * one for _, one in recorded.times(batch)])
    percentiles = np.percentile(apart, [10, 50, 90], axis=0).T
    total = float(percentiles[:, 1].sum())
    kernels = [_timed(run, one, total) for run, one in zip(runs, percentiles.tolist(), strict=True)]
    optimizer = training.settings.optimizer.name
    return Profile(model.name, len(x), optimizer, threads.in_use(), len(whole), float(np.median(whole)), kernels)


def _timed(run: Run | None, percentiles: list[float], total: float) -> Timed:
    low, median, high = percentiles
    if run is None:
        return Timed("", "", (), (), 0.0, 0, median, low, high, median / total)
    op = run.kernel.op
    specs, start = run.arrays, 0 if op.inplace else run.results
    operands = specs[start : start + len(op.operand_names)]
    flops = float(op.flops(*operands, **run.params)) if op.flops else 0.0
    result, operand = (next((spec.shape for spec in some if spec), ()) for some in (specs, operands))
    nbytes = sum(math.prod(spec.shape) * spec.dtype.itemsize for spec in (*specs[:start], *operands) if spec)
    return Timed(op.name, run.kernel.algorithm, result, operand, flops, nbytes, median, low, high, median / total)
