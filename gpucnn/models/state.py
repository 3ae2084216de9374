"""Where training stands between two batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import random
from ..config import check_fields, check_name
from ..errors import ArgumentError, one_line

_NOT_SAVED = ("resume", "collect")


def nothing_to_collect() -> None:
    """Where every step is counted at once, there is nothing to take in later."""


@dataclass
class TrainingState:
    """Where training stands between two batches: with weights and optimizer state, all that a
    resumed run needs.

    `metrics` are those of the model, `callbacks` the `CallbackList` of its last `fit`; after
    loading, their states as the file has them, until the next `fit`. `seed` and `shuffles` decide
    the order of the samples; `calls` counts the calls of the model in training, each of which draws
    other random numbers. `collect` takes in batches that are trained but not counted yet.
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
    calls: int = 0
    callbacks: Any = field(default_factory=dict)
    resume: bool = False
    collect: Callable[[], None] = field(default=nothing_to_collect, repr=False)
    _shuffled_before: int = 0
    _latest: dict[str, float] = field(default_factory=dict, repr=False)
    _recorded: set[str] = field(default_factory=set, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """All but the callbacks themselves: a copy has their states."""
        self.collect()
        return {**vars(self), "callbacks": self._callback_states(), "collect": nothing_to_collect}

    def to_json(self) -> dict[str, Any]:
        """The state as JSON values, but for arrays of callbacks; floats keep every bit."""
        self.collect()
        self.record()
        states = [m if isinstance(m, dict) else m.get_state() for m in self.metrics]
        values = dict(vars(self), metrics=[{k: np.asarray(v).tolist() for k, v in state.items()} for state in states])
        values["callbacks"] = self._callback_states()
        return {name: value for name, value in values.items() if name not in _NOT_SAVED and not name.startswith("_")}

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

    def _callback_states(self) -> dict[str, Any]:
        return self.callbacks if isinstance(self.callbacks, dict) else self.callbacks.get_state()

    def anew(self) -> TrainingState:
        """The state of a new training: its orders follow those of the file that the model is from."""
        before = self._shuffled_before
        return TrainingState(shuffles=before, calls=self.calls, _shuffled_before=before)

    def draws(self) -> dict[str, int]:
        """What decides the next random numbers. An order that was begun is not drawn again."""
        return {"seed": self.seed, "shuffles": self.shuffles + (self.batch > 0), "calls": self.calls}

    @classmethod
    def drawing_on(cls, draws: dict[str, int]) -> TrainingState:
        """A state that goes on where `draws` of another one was taken."""
        limits = {"seed": 2**64, "shuffles": 2**63, "calls": 2**63}
        known = isinstance(draws, dict) and draws.keys() == limits.keys()
        if not known or not all(type(draws[name]) is int and 0 <= draws[name] < limits[name] for name in limits):
            raise ArgumentError(f"the counts of random numbers are {draws!r}")
        seed, shuffles, calls = (draws[name] for name in limits)
        return cls(seed=seed, shuffles=shuffles, calls=calls, _shuffled_before=shuffles)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainingState:
        """The state that `to_json` described, marked to be resumed by the next `fit`.

        Raises `ArgumentError` for values that are not those of a state.
        """
        if values.keys() != cls().to_json().keys():
            raise ArgumentError(f"the names in the training state are {', '.join(values)}")
        check_fields(cls, values)
        for name, value in values.items():
            if name in _NOT_SAVED or name.startswith("_"):
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
