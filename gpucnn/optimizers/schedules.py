"""Learning rates that change with the number of trained batches, in float64 on the host."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np

from .. import config
from ..arguments import Bounds, Fraction, NotNegative, Positive
from ..config import Configurable
from ..errors import ArgumentError


class LearningRateSchedule(Configurable):
    """Base of all schedules. A subclass defines `__call__(step) -> float`."""

    def __call__(self, step: Any) -> Any:
        """The learning rate of batch `step`, from 0. gpucnn's schedules also take arrays."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(step) -> float")


class ExponentialDecay(LearningRateSchedule):
    """initial_learning_rate · decay_rate^(step / decay_steps).

    `staircase` rounds the exponent down.
    """

    def __init__(
        self,
        initial_learning_rate: NotNegative,
        decay_steps: Positive,
        decay_rate: NotNegative,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        self.initial_learning_rate, self.decay_steps, self.decay_rate = initial_learning_rate, decay_steps, decay_rate
        self.staircase, self.name = staircase, name

    def __call__(self, step: Any) -> Any:
        """The learning rate at `step`."""
        fraction = np.divide(step, self.decay_steps)
        return self.initial_learning_rate * self.decay_rate ** (np.floor(fraction) if self.staircase else fraction)


class InverseTimeDecay(LearningRateSchedule):
    """initial_learning_rate / (1 + decay_rate · step / decay_steps).

    `staircase` rounds step / decay_steps down.
    """

    def __init__(
        self,
        initial_learning_rate: NotNegative,
        decay_steps: Positive,
        decay_rate: NotNegative,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        self.initial_learning_rate, self.decay_steps, self.decay_rate = initial_learning_rate, decay_steps, decay_rate
        self.staircase, self.name = staircase, name

    def __call__(self, step: Any) -> Any:
        """The learning rate at `step`."""
        fraction = np.divide(step, self.decay_steps)
        return self.initial_learning_rate / (1 + self.decay_rate * (np.floor(fraction) if self.staircase else fraction))


class PolynomialDecay(LearningRateSchedule):
    """From the initial to the end rate as (1 - step / decay_steps)^power.

    After `decay_steps` the rate stays at its end; with `cycle`, the next multiple of `decay_steps`
    takes the place of `decay_steps`.
    """

    def __init__(
        self,
        initial_learning_rate: NotNegative,
        decay_steps: Positive,
        end_learning_rate: NotNegative = 0.0001,
        power: NotNegative = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, decay_steps
        self.end_learning_rate, self.power, self.cycle, self.name = end_learning_rate, power, cycle, name

    def __call__(self, step: Any) -> Any:
        """The learning rate at `step`."""
        fraction = np.divide(step, self.decay_steps)
        if self.cycle:
            fraction = fraction / np.maximum(np.ceil(fraction), 1.0)
        else:
            fraction = np.minimum(fraction, 1.0)
        height = self.initial_learning_rate - self.end_learning_rate
        return height * (1.0 - fraction) ** self.power + self.end_learning_rate


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[0] up to and including step boundaries[0], then values[1] up to boundaries[1], …"""

    def __init__(
        self, boundaries: Sequence[float], values: Sequence[NotNegative], name: str = "PiecewiseConstant"
    ) -> None:
        if len(values) != len(boundaries) + 1:
            raise ArgumentError(
                f"PiecewiseConstantDecay: {len(boundaries)} boundaries need one value more and got {len(values)} values"
            )
        if any(b <= a for a, b in itertools.pairwise(boundaries)):
            raise ArgumentError(f"PiecewiseConstantDecay: boundaries={list(boundaries)} must increase")
        self.boundaries, self.values, self.name = boundaries, values, name

    def __call__(self, step: Any) -> Any:
        """The learning rate at `step`."""
        return np.asarray(self.values, np.float64)[np.searchsorted(self.boundaries, step, side="left")]


class CosineDecay(LearningRateSchedule):
    """Half a cosine wave from the initial rate down to `alpha` times it, over `decay_steps`.

    With `warmup_target` the rate first climbs in a straight line from initial_learning_rate to
    warmup_target over `warmup_steps`, and falls from there. Source: Loshchilov and Hutter, ICLR
    2017, section 3; for the warm-up Goyal et al., arXiv:1706.02677, section 2.2.
    """

    def __init__(
        self,
        initial_learning_rate: NotNegative,
        decay_steps: Positive,
        alpha: Fraction = 0.0,
        name: str = "CosineDecay",
        warmup_target: NotNegative | None = None,
        warmup_steps: NotNegative = 0,
    ) -> None:
        self.initial_learning_rate, self.decay_steps, self.alpha = initial_learning_rate, decay_steps, alpha
        self.name, self.warmup_target, self.warmup_steps = name, warmup_target, warmup_steps

    def __call__(self, step: Any) -> Any:
        """The learning rate at `step`."""
        if self.warmup_target is None:
            return self._decayed(self.initial_learning_rate, step)
        step = np.asarray(step, np.float64)
        climb = (self.warmup_target - self.initial_learning_rate) / max(self.warmup_steps, 1)
        return np.where(
            step < self.warmup_steps,
            self.initial_learning_rate + climb * step,
            self._decayed(self.warmup_target, step - self.warmup_steps),
        )[()]

    def _decayed(self, top: float, step: Any) -> Any:
        fraction = np.minimum(np.divide(step, self.decay_steps), 1.0)
        return top * ((1.0 - self.alpha) * _half_wave(fraction) + self.alpha)


class CosineDecayRestarts(LearningRateSchedule):
    """Half cosine waves, each `t_mul` times as long and `m_mul` times as high as the one before.

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR
    2017, section 3.
    """

    def __init__(
        self,
        initial_learning_rate: NotNegative,
        first_decay_steps: Positive,
        t_mul: Annotated[float, Bounds(1)] = 2.0,
        m_mul: NotNegative = 1.0,
        alpha: Fraction = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        self.initial_learning_rate, self.first_decay_steps = initial_learning_rate, first_decay_steps
        self.t_mul, self.m_mul, self.alpha, self.name = t_mul, m_mul, alpha, name

    def __call__(self, step: Any) -> Any:
        """The learning rate at `step`."""
        time = np.divide(step, self.first_decay_steps)
        if self.t_mul == 1:
            restarts = np.floor(time)
        else:
            restarts = np.floor(np.log1p(time * (self.t_mul - 1)) / np.log(self.t_mul))
            # Rounding of the logarithms may miss the boundary between two waves by one.
            restarts = restarts + (self._start(restarts + 1) <= time) - (self._start(restarts) > time)
        fraction = (time - self._start(restarts)) / self.t_mul**restarts
        wave = self.m_mul**restarts * _half_wave(fraction)
        return self.initial_learning_rate * ((1.0 - self.alpha) * wave + self.alpha)

    def _start(self, restarts: Any) -> Any:
        """When the wave after so many restarts begins, in units of the first wave."""
        return restarts if self.t_mul == 1 else (self.t_mul**restarts - 1) / (self.t_mul - 1)


def get(identifier: Any) -> Any:
    """The schedule behind an object or a description; None stays None."""
    return config.get(LearningRateSchedule, identifier)


def _half_wave(fraction: Any) -> Any:
    """Half a cosine wave: from 1 at fraction 0 down to 0 at fraction 1."""
    return 0.5 * (1.0 + np.cos(np.pi * fraction))
