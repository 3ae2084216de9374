"""Saving the model or its weights during training."""

from __future__ import annotations

import os
import string
from pathlib import Path
from typing import Any, ClassVar, Literal

from .. import progress
from ..arguments import Count, PathLike
from ..errors import ArgumentError
from ..files import MODEL_SUFFIX, explained, make_folder
from .kept import Kept
from .monitor import Mode, Monitor, Verbose

Frequency = Literal["epoch"] | Count
"""When a file is written: after each epoch, or after so many batches."""


class ModelCheckpoint(Monitor):
    """Saves the model (or its weights) after each epoch, or after each `save_freq` batches.

    filepath        ends in `.safetensors` or, for Keras 3, in `.keras` (`.weights.h5` with
                    `save_weights_only`; extra keras-files); `{epoch:02d}`, `{batch}` and logs such as
                    `{val_loss:.2f}` are filled in, folders are created.
    save_best_only  save only when `monitor` improves on its best value, which starts at
                    `initial_value_threshold`.
    """

    writes: ClassVar[bool] = True

    def __init__(
        self,
        filepath: PathLike,
        monitor: str = "val_loss",
        verbose: Verbose = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: Mode = "auto",
        save_freq: Frequency = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        self.filepath = _checked_path(os.fspath(filepath), save_weights_only)
        self.verbose = verbose
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        self.save_freq = save_freq
        self.best = initial_value_threshold
        self._epoch = 0
        self._batches = BatchCounter()

    def follows(self, hook: str) -> bool:
        """Whether the hook does anything: batches count only if `save_freq` is a number."""
        return super().follows(hook) and not (hook == "on_train_batch_end" and self.save_freq == "epoch")

    def get_state(self) -> dict[str, Any]:
        """The best value, and the count of batches since the last file."""
        return {"best": self.best, "batches": self._batches.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from that best value and count."""
        kept = Kept(self, state)
        self.best = kept.number("best")
        self._batches.set_state(kept, "batches")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch."""
        self._epoch = epoch

    def on_epoch_resume(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save if enough batches have passed."""
        if self.save_freq != "epoch" and self._batches.passed(batch, self.save_freq):
            self._save(self._epoch, {"batch": batch + 1, **(logs or {})}, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save if `save_freq` is "epoch"."""
        if self.save_freq == "epoch":
            self._save(epoch, logs or {}, logs)

    def _save(self, epoch: int, fields: dict[str, Any], logs: Any) -> None:
        try:
            path = self.filepath.format(epoch=epoch + 1, **fields)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise ArgumentError(
                f"ModelCheckpoint cannot fill in filepath={self.filepath!r}: there are {', '.join(['epoch', *fields])}"
            ) from error
        if self.save_best_only and not self._is_best(epoch, logs):
            return
        with explained("make the folder of", path):
            make_folder(Path(path).parent)
        save = self.model.save_weights if self.save_weights_only else self.model.save
        save(path, overwrite=True)
        if self.verbose:
            progress.say(f"Epoch {epoch + 1}: saved {path}")

    def _is_best(self, epoch: int, logs: Any) -> bool:
        current = self._current(logs, "every checkpoint is kept")
        if current is None:
            return True
        before = "" if self.best is None else f" from {self.best:.5f}"
        improved = self._improves(current, self.best)
        if improved:
            self.best = current
        if self.verbose:
            change = f"improved{before} to {current:.5f}" if improved else f"did not improve{before}"
            progress.say(f"Epoch {epoch + 1}: {self.monitor} {change}")
        return improved


def _checked_path(filepath: str, weights_only: bool) -> str:
    of_keras = ".weights.h5" if weights_only else ".keras"
    if not filepath.endswith((MODEL_SUFFIX, of_keras)):
        what = "weights" if weights_only else "models"
        raise ArgumentError(
            f"ModelCheckpoint(filepath={filepath!r}) ends in {Path(filepath).suffix or 'no suffix'!r}: {what} are "
            f"saved in {MODEL_SUFFIX} or {of_keras} files, such as "
            f"{Path(filepath).name.split('.')[0] or 'model'}{MODEL_SUFFIX}"
        )
    try:
        list(string.Formatter().parse(filepath))
    except ValueError as error:
        raise ArgumentError(f"ModelCheckpoint(filepath={filepath!r}): {error}; write {{epoch:02d}}") from error
    return filepath


class BatchCounter:
    """Counts batches across epochs, even if some are not reported one by one."""

    def __init__(self) -> None:
        self._last = -1
        self._since = 0

    def get_state(self) -> list[int]:
        """How many batches of the epoch are counted, and how many since `passed` was last True."""
        return [self._last + 1, self._since]

    def set_state(self, kept: Kept, name: str) -> None:
        """Take what `get_state` returned from the state of a callback."""
        counted, self._since = kept.counts(name, 2)
        self._last = counted - 1

    def passed(self, batch: int, count: int) -> bool:
        """Whether `count` batches up to `batch` have passed since this was last True."""
        self._since += batch - self._last if batch > self._last else batch + 1
        self._last = batch
        if self._since < count:
            return False
        self._since = 0
        return True
