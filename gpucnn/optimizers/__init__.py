"""Keras' `optimizers`, and their `schedules`."""

from __future__ import annotations

from typing import Any

from .. import config
from ..errors import ArgumentError
from ..retired import absent
from . import schedules
from .algorithms import SGD, Adadelta, Adagrad, Adam, AdamW, Nadam, RMSprop
from .optimizer import Optimizer

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Nadam", "Optimizer", "RMSprop", "get", "schedules"]

_KNOWN = "SGD, Adam, AdamW, Nadam, RMSprop, Adagrad and Adadelta"
_OTHERS = (
    "Adafactor",
    "Adamax",
    "Ftrl",
    "Lamb",
    "Lion",
    "LossScaleOptimizer",
    "MultiOptimizer",
    "Muon",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
)
"""Keras' optimizers that gpucnn has not."""

__getattr__ = absent(
    __name__,
    {name: f"use one of {_KNOWN}" for name in _OTHERS}
    | {
        cls.lower(): f"it is called {cls}"
        for cls in ("SGD", "Adam", "AdamW", "Nadam", "RMSprop", "Adagrad", "Adadelta")
    }
    | {"legacy": "leave the word legacy out; schedules.InverseTimeDecay does what decay= did"},
)


def get(identifier: Any) -> Any:
    """The optimizer behind a name, an object, a class or a description; None stays None."""
    if isinstance(identifier, str) and identifier.lower() in map(str.lower, _OTHERS):
        raise ArgumentError(f"optimizer {identifier!r} is not in gpucnn: use one of {_KNOWN}")
    return config.get(Optimizer, identifier, {"adamw": AdamW})
