"""The learning-rate range test: which rates a model learns with, found in one short training.

The rate grows from step to step by a constant factor, and the loss of each batch is recorded. It
falls where the rate is large enough to learn, and rises where it is too large. After L. Smith,
"Cyclical Learning Rates for Training Neural Networks" (2017, arXiv 1506.01186), section 3.3, whose
rates grow linearly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import random
from ..datasets import Dataset, ProgressHook
from ..errors import ArgumentError, TrainingError
from . import commands, own_kernels
from .settings import RunSettings

if TYPE_CHECKING:
    from ..callbacks.curves import Picture

STEPS, LOWEST, HIGHEST = 100, 1e-6, 1.0
"""Batches, and the rates of the first and the last one, unless the user gives others."""

_DIVERGED = 4.0
"""The test ends where the mean loss of the last batches is so many times its lowest value."""

_REACH = 5
"""Steps before and after a step over which its loss is smoothed: single batches differ."""


@dataclass(frozen=True)
class RateSearch:
    """What a range test has found.

    rates, losses   of each step
    smoothed        of each step, the mean of the losses up to `_REACH` steps before and after it
    suggestion      the rate around which the loss falls fastest on its way to the lowest; None if it never falls
    ended           why the test ended before its last step; None if it did not
    """

    dataset: str
    model: str
    optimizer: str
    note: str | None
    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float | None
    ended: str | None

    def picture(self) -> Picture:
        """Loss by rate, and the suggestion."""
        from ..callbacks.curves import BLUE, GREY, ORANGE, Picture  # which imports matplotlib

        title = f"learning-rate range test: {self.model} on {self.dataset} with {self.optimizer}"
        drawn = Picture(7.5, 4.2, title, self.note or "")
        axes = drawn.subplots()
        axes.plot(self.rates, self.losses, ".", color=GREY, alpha=0.5, markersize=4, label="loss of each batch")
        axes.plot(self.rates, self.smoothed, color=BLUE, linewidth=2, label="smoothed")
        if self.suggestion is not None:
            text = f"suggestion: {self.suggestion:.2g}"
            axes.axvline(self.suggestion, color=ORANGE, linewidth=1.5, linestyle="--", label=text)
        low, high = min(self.losses), max(self.losses[:_REACH])
        margin = 0.15 * (high - low) or 0.1
        axes.set(xscale="log", xlabel="learning rate", ylabel="training loss")
        axes.set_ylim(low - margin, high + 3 * margin)
        axes.legend(frameon=False)
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
        return drawn


def search(
    settings: RunSettings,
    steps: int = STEPS,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    *,
    load: Sequence[str | Path] = (),
    progress: ProgressHook | None = None,
) -> RateSearch:
    """Train a new model for so many batches while the rate grows from `lowest` to `highest`.

    load  .py files with your kernels, which are executed

    Nothing is written, and no other model changes. The schedule and the rate of the settings are not
    used. Raises `ArgumentError` for settings that do not fit.
    """
    if settings.learning_rate is not None or settings.schedule is not None:
        raise ArgumentError("the rate is what this test finds: leave out the learning rate and the schedule")
    if steps < 2 * _REACH:
        raise ArgumentError(f"steps={steps} are too few: give {2 * _REACH} or more")
    if not 0 < lowest < highest < float("inf"):
        raise ArgumentError(f"the rates go from {lowest:g} to {highest:g}: the first must be above 0 and the lower one")
    settings = replace(settings, learning_rate=lowest, schedule="constant", load=own_kernels.load_for_new_run(load))
    settings, entry = commands.with_entry(settings.apply())
    data = settings.load_data(progress)
    settings, training, model = commands.planned(settings, entry, data)
    rates: list[float] = []
    losses: list[float] = []
    ended, best = None, float("inf")
    for step, (x, y) in zip(range(steps), _batches(model, data, training.batch_size, settings.seed)):
        rate = lowest * (highest / lowest) ** (step / (steps - 1))
        model.optimizer.learning_rate = rate
        model.reset_metrics()
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # which end the test
                losses.append(float(model.train_on_batch(x, y, return_dict=True)["loss"]))
        except TrainingError:
            ended = f"the loss is not finite at a rate of {rate:.2g}"
            break
        rates.append(rate)
        if progress is not None:
            progress("steps", step + 1, steps)
        recent = float(np.mean(losses[-_REACH:]))
        best = min(best, recent)
        if recent > _DIVERGED * best:
            ended = f"the loss is {_DIVERGED:g} times its lowest value at a rate of {rate:.2g}"
            break
    if len(rates) < 2 * _REACH:
        raise ArgumentError(f"{ended}, after {len(rates)} steps: begin with a lower rate than {lowest:g}")
    names = str(settings.dataset), str(settings.model), str(settings.optimizer)
    return RateSearch(*names, data.note, rates, losses, _smoothed(losses), _steepest(rates, losses), ended)


def _batches(model: Any, data: Dataset, size: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of prepared images and their labels without end, each pass in another order."""
    count = len(data.x_train)
    epoch = 0
    while True:
        order = random.permutation(count, seed=seed, epoch=epoch)
        for start in range(0, count, size):
            rows = order[start : start + size]
            yield model.signature.scaled(data.x_train[rows]), data.y_train[rows]
        epoch += 1


def _around(step: int, count: int) -> slice:
    """The steps over which a step is smoothed."""
    return slice(max(0, step - _REACH), min(count, step + _REACH + 1))


def _smoothed(losses: list[float]) -> list[float]:
    return [float(np.mean(losses[_around(step, len(losses))])) for step in range(len(losses))]


def _steepest(rates: list[float], losses: list[float]) -> float | None:
    """The rate around which the loss falls fastest over the logarithm of the rate, by the slope of the
    least-squares line through the steps around each step. Steps after the lowest smoothed loss do not
    count: there, a loss that has been driven up falls back."""
    logs, count = np.log(rates), int(np.argmin(_smoothed(losses))) + 1
    if count < 3:
        return None
    slopes = [np.polyfit(logs[near], losses[near], 1)[0] for near in (_around(step, count) for step in range(count))]
    ends = _REACH if count > 2 * _REACH else 0  # whose neighbours lie on one side alone
    steepest = ends + int(np.argmin(slopes[ends : count - ends]))
    return float(rates[steepest]) if slopes[steepest] < 0 else None
