"""Progress of `fit`, `evaluate` and `predict`, as a bar or as lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from .. import progress
from ..errors import ArgumentError
from .callback import Callback

Verbose = Literal[0, 1, 2, "auto"]
"""How much progress is shown; `ProgbarLogger` explains it."""


class ProgbarLogger(Callback):
    """Shows progress, according to the `verbose` of the call.

    0       nothing.
    1       a bar on a terminal or in a notebook, elsewhere the same as 2.
    2       one line for each epoch.
    "auto"  the same as 1, but nothing for `predict` where no bar can be drawn.
    """

    takes_late_logs = True
    each_batch = False

    def __init__(self) -> None:
        self.verbose: Any = "auto"
        self.draws = False
        self._in_fit = False
        self._progress = progress.Progress(None, False)

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Take `verbose`, `epochs` and `steps`."""
        super().set_params(params)
        self.verbose = params.get("verbose", "auto")
        if self.verbose not in (0, 1, 2, "auto"):
            raise ArgumentError(f"verbose={self.verbose!r} is unknown: use 0, 1, 2 or 'auto'")
        self.draws = self.verbose in (1, "auto") and progress.is_interactive()

    def follows(self, hook: str) -> bool:
        """Whether the hook does anything: batches matter to a bar, or to count the steps."""
        if "batch" in hook and not self.draws and self.params.get("steps") is not None:
            return False
        return self.verbose != 0 and super().follows(hook)

    def on_train_begin(self, logs: Any = None) -> None:
        """Show no evaluations until training ends."""
        self._in_fit = True

    def on_train_end(self, logs: Any = None) -> None:
        """Show evaluations again."""
        self._in_fit = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Print the epoch, and start the bar."""
        if self.draws and self._title(epoch):
            progress.say(self._title(epoch))
        self._start()

    def on_epoch_resume(self, epoch: int, logs: Any = None) -> None:
        """Print the epoch, and start the bar for the rest of it."""
        self.on_epoch_begin(epoch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Move the bar."""
        self._progress.update(batch + 1, getattr(logs, "lately", None) or logs or {})

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Finish the bar, or write the line of the epoch."""
        self._finish(logs or {}, "" if self.draws else self._title(epoch))

    def on_test_begin(self, logs: Any = None) -> None:
        """Start the bar of an evaluation."""
        if not self._in_fit:
            self._start()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Move the bar of an evaluation."""
        if not self._in_fit:
            self._progress.update(batch + 1, {} if logs is None else logs)

    def on_test_end(self, logs: Any = None) -> None:
        """Finish the bar of an evaluation."""
        if not self._in_fit:
            self._finish(logs or {})

    def on_predict_begin(self, logs: Any = None) -> None:
        """Start the bar of a prediction."""
        self._start()

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """Move the bar of a prediction."""
        self._progress.update(batch + 1, {})

    def on_predict_end(self, logs: Any = None) -> None:
        """Finish the bar of a prediction."""
        if self.draws or self.verbose != "auto":
            self._finish({})

    def _start(self) -> None:
        self._progress = progress.Progress(self.params.get("steps"), self.draws)

    def _finish(self, logs: Mapping[str, Any], title: str = "") -> None:
        self._progress.target = self.params.get("steps")  # which a stream that ended early has corrected
        self._progress.finish(logs, title)

    def _title(self, epoch: int) -> str:
        epochs = self.params.get("epochs", 1)
        return f"Epoch {epoch + 1}/{epochs}" if epochs > 1 else ""
