"""Changing the learning rate between epochs: by a schedule, or on a plateau."""

from __future__ import annotations

import math
from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np

from .. import progress
from ..arguments import BelowOne, Natural, NotNegative
from ..errors import ArgumentError
from ..retired import reject
from .callback import Callback
from .kept import Kept
from .monitor import Mode, Monitor, Verbose


class ReduceLROnPlateau(Monitor):
    """Multiplies the learning rate by `factor` after `patience` epochs without improvement.

    min_delta  a smaller change is not an improvement.
    cooldown   epochs to wait after a reduction before looking again.
    min_lr     the learning rate never falls below this.

    Adds `learning_rate` to the logs.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: BelowOne = 0.1,
        patience: Natural = 10,
        verbose: Verbose = 0,
        mode: Mode = "auto",
        min_delta: float = 1e-4,
        cooldown: Natural = 0,
        min_lr: NotNegative = 0.0,
        **unknown: Any,
    ) -> None:
        if unknown:
            names = "monitor factor patience verbose mode min_delta cooldown min_lr"
            reject("ReduceLROnPlateau", unknown, names.split(), {"epsilon": "min_delta"})
        super().__init__(monitor, mode, min_delta)
        self.factor, self.min_lr = factor, min_lr
        self.patience, self.cooldown = patience, cooldown
        self.verbose = verbose
        self.wait = self.cooldown_counter = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Forget the last `fit`. Raises `ArgumentError` if a schedule sets the learning rate."""
        super().on_train_begin(logs)
        self.model.optimizer.learning_rate = self.model.optimizer.learning_rate
        self.best = None
        self.wait = self.cooldown_counter = 0

    def get_state(self) -> dict[str, Any]:
        """The best value, and how many epochs have passed."""
        return {"best": self.best, "wait": self.wait, "cooldown_counter": self.cooldown_counter}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on waiting."""
        kept = Kept(self, state)
        self.best = kept.number("best")
        self.wait, self.cooldown_counter = kept.count("wait"), kept.count("cooldown_counter")

    def in_cooldown(self) -> bool:
        """Whether the callback still waits after a reduction."""
        return self.cooldown_counter > 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Check whether the epoch was an improvement."""
        logs = {} if logs is None else logs
        current = self._current(logs, "the learning rate stays as it is")
        logs["learning_rate"] = self.model.optimizer.learning_rate
        if current is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self._improves(current, self.best):
            self.best, self.wait = current, 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch)

    def _reduce(self, epoch: int) -> None:
        optimizer = self.model.optimizer
        if optimizer.learning_rate <= self.min_lr:
            return
        optimizer.learning_rate = max(optimizer.learning_rate * self.factor, self.min_lr)
        self.cooldown_counter, self.wait = self.cooldown, 0
        if self.verbose:
            progress.say(f"Epoch {epoch + 1}: learning rate reduced to {optimizer.learning_rate:g}")


class LearningRateScheduler(Callback):
    """Sets the learning rate of each epoch to `schedule(epoch, learning_rate)`, and logs it."""

    def __init__(self, schedule: Callable[..., float], verbose: Verbose = 0) -> None:
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Set the learning rate."""
        optimizer = self.model.optimizer
        arguments = (epoch, optimizer.learning_rate)
        rate = self.schedule(*arguments[: _arguments_taken(self.schedule, 2)])
        if isinstance(rate, bool) or not isinstance(rate, (int, float, np.number)) or not math.isfinite(rate):
            raise ArgumentError(f"the schedule returned {rate!r} for epoch {epoch}: it must return the learning rate")
        optimizer.learning_rate = float(rate)
        if self.verbose:
            progress.say(f"Epoch {epoch + 1}: learning rate {float(rate):g}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add the learning rate to the logs."""
        if logs is not None:
            logs["learning_rate"] = self.model.optimizer.learning_rate


def _arguments_taken(function: Callable[..., Any], at_most: int) -> int:
    """How many positional arguments a function accepts, up to `at_most`."""
    try:
        kinds = [p.kind for p in signature(function).parameters.values()]
    except (TypeError, ValueError):
        return at_most
    if any(kind is kind.VAR_POSITIONAL for kind in kinds):
        return at_most
    return min(at_most, sum(kind in (kind.POSITIONAL_ONLY, kind.POSITIONAL_OR_KEYWORD) for kind in kinds))
