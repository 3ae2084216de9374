"""Stopping when training no longer improves the model."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import progress
from ..arguments import Natural
from ..errors import warn
from .kept import Kept
from .monitor import Mode, Monitor, Verbose


class EarlyStopping(Monitor):
    """Stops training once `monitor` has not improved for `patience` epochs.

    min_delta             a smaller change is not an improvement.
    baseline              epochs count as without improvement until this value is beaten.
    restore_best_weights  at the end, restore the weights of the best epoch.
    start_from_epoch      ignore the epochs before this one.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: Natural = 0,
        verbose: Verbose = 0,
        mode: Mode = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: Natural = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self.verbose = patience, verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._reset()

    def _reset(self) -> None:
        self.best = None
        self.best_epoch = self.stopped_epoch = self.wait = 0
        self.best_weights: list[np.ndarray] | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Forget the last `fit`."""
        super().on_train_begin(logs)
        self._reset()

    def get_state(self) -> dict[str, Any]:
        """The best epoch with its weights, and how long ago it was."""
        return {
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
            "stopped_epoch": self.stopped_epoch,
            "wait": self.wait,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on waiting; if training was stopped already, it is stopped again, with a warning."""
        kept = Kept(self, state)
        self.best, self.best_epoch = kept.number("best"), kept.count("best_epoch")
        self.best_weights = kept.arrays("best_weights")
        self.stopped_epoch, self.wait = kept.count("stopped_epoch"), kept.count("wait")
        if self.stopped_epoch:
            warn(f"EarlyStopping had stopped this training after epoch {self.stopped_epoch + 1}: it trains no further")
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Check whether the epoch was an improvement."""
        current = self._current(logs, "training is not stopped early")
        if current is None or epoch < self.start_from_epoch:
            return
        self.wait += 1
        improved = self._improves(current, self.best)
        if self.restore_best_weights and (improved or self.best_weights is None):
            self.best_weights = self.model.get_weights()
            self.best_epoch = epoch
        if improved:
            self.best, self.best_epoch = current, epoch
            if self.baseline is None or self._improves(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        """Restore the best weights."""
        if self.stopped_epoch and self.verbose:
            progress.say(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            if self.verbose:
                progress.say(f"Restoring the weights of the best epoch, {self.best_epoch + 1}")
            self.model.set_weights(self.best_weights)
