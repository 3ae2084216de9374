"""Where training stands between two batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import random
from ..config import check_fields, check_name
from ..errors import ArgumentError, one_line


@dataclass
class TrainingState:
    """Where training stands between two batches: with weights and optimizer state, all that a
    resumed run needs.

    `metrics` are those of the model; after loading, their states as the file has them, until the
    next `fit`.
    """

    epoch: int = 0
    batch: int = 0
    shuffles: int = 0
    seed: int = field(default_factory=random.global_seed)
    loss_sum: float = 0.0
    loss_count: float = 0.0
    metrics: list[Any] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    history: dict[str, list[float]] = field(default_factory=dict)
    resume: bool = False
    _latest: dict[str, float] = field(default_factory=dict, repr=False)
    _recorded: set[str] = field(default_factory=set, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The state as JSON values; floats keep every bit."""
        self.record()
        states = [m if isinstance(m, dict) else m.get_state() for m in self.metrics]
        values = dict(vars(self), metrics=[{k: np.asarray(v).tolist() for k, v in state.items()} for state in states])
        return {name: value for name, value in values.items() if name != "resume" and not name.startswith("_")}

    def end_epoch(self, logs: dict[str, float]) -> None:
        """Count the epoch and keep its logs; `record` adds what callbacks put into them later."""
        self.epochs.append(self.epoch)
        self.epoch, self.batch, self.shuffles = self.epoch + 1, 0, self.shuffles + 1
        self._latest, self._recorded = logs, set()
        self.record()

    def record(self) -> None:
        """Add those logs of the last epoch to the history that are not in it yet."""
        for name, value in self._latest.items():
            if name not in self._recorded:
                self.history.setdefault(name, []).append(float(value))
                self._recorded.add(name)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainingState:
        """The state that `to_json` described, marked to be resumed by the next `fit`.

        Raises `ArgumentError` for values that are not those of a state.
        """
        check_fields(cls, values)
        for name, value in values.items():
            if name == "resume" or name.startswith("_"):
                raise ArgumentError(f"{name} is unknown")
            numbers = value if isinstance(value, list) else [value]
            if name != "loss_sum" and any(number < 0 for number in numbers if isinstance(number, (int, float))):
                raise ArgumentError(f"{name} is {one_line(value)}, below zero")
        if values["seed"] >= 2**64:
            raise ArgumentError(f"seed is {values['seed']}, above 2**64 - 1")
        for state in values["metrics"]:
            if any(np.asarray(value).dtype.kind not in "biuf" for value in state.values()):
                raise ArgumentError(f"the state of a metric is {one_line(state)}")
        for name in values["history"]:
            check_name(name)
        return cls(**{**values, "resume": True})
