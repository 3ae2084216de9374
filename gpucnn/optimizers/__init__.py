"""Keras' `optimizers`, and their `schedules`."""

from __future__ import annotations

from typing import Any

from .. import config
from ..errors import ArgumentError
from ..retired import absent
from . import schedules
from .algorithms import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Ftrl, Lion, Nadam, RMSprop
from .by_weight import Lamb, Muon
from .optimizer import Optimizer

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Ftrl",
    "Lamb",
    "Lion",
    "Muon",
    "Nadam",
    "Optimizer",
    "RMSprop",
    "get",
    "schedules",
]

_OPTIMIZERS = "SGD, Adam, AdamW, Adamax, Nadam, RMSprop, Adagrad, Adadelta, Ftrl, Lamb, Lion and Muon"
_KERAS_ONLY = (
    "Adafactor",
    "LossScaleOptimizer",
    "MultiOptimizer",
    "OptimizerMap",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
)
"""Optimizers of Keras that gpucnn lacks."""

__getattr__ = absent(
    __name__,
    {name: f"use one of {_OPTIMIZERS}" for name in _KERAS_ONLY}
    | {
        cls.__name__.lower(): f"it is called {cls.__name__}"
        for cls in (SGD, Adam, AdamW, Adamax, Nadam, RMSprop, Adagrad, Adadelta, Ftrl, Lamb, Lion, Muon)
    }
    | {"legacy": "leave the word legacy out; schedules.InverseTimeDecay does what decay= did"},
)


def get(identifier: Any) -> Any:
    """The optimizer behind a name, an object, a class or a description; None stays None."""
    if isinstance(identifier, str) and identifier.lower() in map(str.lower, _KERAS_ONLY):
        raise ArgumentError(f"optimizer {identifier!r} is not in gpucnn: use one of {_OPTIMIZERS}")
    return config.get(Optimizer, identifier, {"adamw": AdamW})
