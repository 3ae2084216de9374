"""Resuming a `fit` that was interrupted."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from ..arguments import PathLike
from ..errors import ArgumentError
from ..files import MODEL_SUFFIX, explained, make_folder
from .callback import Callback
from .kept import Kept
from .model_checkpoint import BatchCounter, Frequency


class BackupAndRestore(Callback):
    """Resumes a `fit` that was interrupted when the same program is started again.

    It saves a checkpoint in `backup_dir` after each epoch (or each `save_freq` batches), and
    restores it at the start of `fit`, the states of the other callbacks included. At the end the
    checkpoint is deleted unless `delete_checkpoint` is False.
    """

    saves_training: ClassVar[bool] = True

    def __init__(
        self,
        backup_dir: PathLike,
        save_freq: Frequency = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ) -> None:
        if not backup_dir:
            raise ArgumentError(f"BackupAndRestore(backup_dir={backup_dir!r}): give the path of a folder")
        if double_checkpoint:
            raise ArgumentError(
                "BackupAndRestore(double_checkpoint=True): one is enough, since a write replaces it whole"
            )
        self.path = Path(backup_dir) / f"latest{MODEL_SUFFIX}"
        self.save_freq = save_freq
        self.delete_checkpoint = delete_checkpoint
        self._batches = BatchCounter()

    def follows(self, hook: str) -> bool:
        """Whether the hook does anything: batches count only if `save_freq` is a number."""
        return super().follows(hook) and not (hook == "on_train_batch_end" and self.save_freq == "epoch")

    def get_state(self) -> dict[str, Any]:
        """The count of batches since the last backup."""
        return {"batches": self._batches.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        self._batches.set_state(Kept(self, state), "batches")

    def on_train_begin(self, logs: Any = None) -> None:
        """Restore the checkpoint if there is one."""
        with explained("make the folder", self.path.parent):
            make_folder(self.path.parent)
        if self.path.exists():
            self.model.load_checkpoint(self.path)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save if enough batches have passed."""
        if self.save_freq != "epoch" and self._batches.passed(batch, self.save_freq):
            self.model.save_checkpoint(self.path)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save if `save_freq` is "epoch"."""
        if self.save_freq == "epoch":
            self.model.save_checkpoint(self.path)

    def on_train_end(self, logs: Any = None) -> None:
        """Delete the checkpoint, and the folder if nothing else is in it."""
        if not self.delete_checkpoint:
            return
        with explained("delete", self.path):
            self.path.unlink(missing_ok=True)
        with suppress(OSError):  # the folder is not empty
            self.path.parent.rmdir()
