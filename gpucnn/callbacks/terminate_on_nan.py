"""Stopping at a loss that is NaN or infinite."""

from __future__ import annotations

import math
from typing import Any

from .. import progress
from ..errors import TrainingError
from .callback import Callback


class TerminateOnNaN(Callback):
    """Stops training, or with `raise_error` raises, after a batch whose loss is not finite.

    A gradient that is not finite counts as a loss of NaN. Without this callback either raises
    `TrainingError` too, with the largest gradients.
    """

    def __init__(self, raise_error: bool = False) -> None:
        self.raise_error = raise_error

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        """Check the loss."""
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        if self.raise_error:
            raise TrainingError(f"the loss is {loss} at batch {batch} (counted from 0): TerminateOnNaN stops training")
        progress.say(f"Batch {batch}: the loss is {loss}, training ends")
        self.model.stop_training = True
