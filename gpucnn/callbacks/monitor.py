"""Watching whether one of the logs improves."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from ..errors import ArgumentError, did_you_mean, warn
from .callback import Callback

Mode = Literal["auto", "min", "max"]
"""Which way is better; "auto" by the metric."""
Verbose = Literal[0, 1, 2]
"""Whether lines are printed."""


class Monitor(Callback):
    """A callback that watches whether one of the logs improves."""

    def __init__(self, monitor: str, mode: Mode, min_delta: float = 0.0) -> None:
        self.monitor, self.mode = monitor, mode
        self.min_delta = abs(min_delta)
        self.best: float | None = None
        self._warned = False

    def on_train_begin(self, logs: Any = None) -> None:
        """Allow one warning in this `fit`."""
        self._warned = False

    def _current(self, logs: Any, consequence: str) -> float | None:
        """The monitored value; None, with one warning for each `fit`, if it is not in the logs."""
        logs = logs or {}
        if self.monitor in logs:
            return float(np.mean(logs[self.monitor]))
        if not self._warned:
            self._warned = True
            validated = self.monitor.startswith("val_")
            alike = [name for name in logs if name.startswith("val_") == validated]
            hint = "val_… needs validation data" if validated and not alike else did_you_mean(self.monitor, alike)
            warn(
                f"{type(self).__name__} monitors {self.monitor!r}, which is not in the logs: {consequence}. "
                f"Available are {', '.join(logs) or 'none'}{hint and f'; {hint}'}"
            )
        return None

    def _improves(self, current: float, reference: float | None) -> bool:
        """Whether `current` beats `reference` by more than `min_delta`; NaN never does."""
        if reference is None:
            return not math.isnan(current)
        return current + self.min_delta < reference if self._falls() else current - self.min_delta > reference

    def _falls(self) -> bool:
        """Whether lower is better."""
        if self.mode != "auto":
            return self.mode == "min"
        name = self.monitor.removeprefix("val_")
        directions = {m.name: m.direction for m in getattr(self.model, "metrics", [])} | {"loss": "down"}
        if directions.get(name) is None:
            raise ArgumentError(
                f"{type(self).__name__} does not know whether {self.monitor!r} should rise or fall: give mode='max' or "
                "mode='min'"
            )
        return directions[name] == "down"
