"""Penalties on the size of weights, added to the loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import config
from .arguments import NotNegative
from .config import Configurable
from .devices import storage
from .errors import ArgumentError
from .ops import update
from .retired import absent


class Regularizer(Configurable):
    """Base of all regularizers: l1 · Σ|x| + l2 · Σx².

    A user's subclass defines both `__call__(x) -> float` and `gradient(x) -> array`, for arrays on
    the host: from another device, weights are copied to the host and gradients back. gpucnn's
    regularizers stay on the device.
    """

    l1: float = 0.0
    l2: float = 0.0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__call__" in vars(cls) and "gradient" not in vars(cls):
            raise ArgumentError(f"{cls.__name__} defines __call__ only: define gradient(x), its derivative, as well")

    def __call__(self, x: np.ndarray) -> float:
        """The penalty, summed in float64."""
        penalty = 0.0
        if self.l1:
            penalty += self.l1 * float(np.sum(np.abs(x), dtype=np.float64))
        if self.l2:
            penalty += self.l2 * float(np.sum(np.square(x, dtype=np.float64)))
        return penalty

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """The penalty's derivative by x, an array like x; that of |x| at 0 is taken as 0."""
        if not self.l1:
            return x * (2.0 * self.l2)
        return np.sign(x) * self.l1 + x * (2.0 * self.l2)


class L1(Regularizer):
    """l1 · Σ|x|."""

    def __init__(self, l1: NotNegative = 0.01) -> None:
        self.l1 = float(l1)


class L2(Regularizer):
    """l2 · Σx²."""

    def __init__(self, l2: NotNegative = 0.01) -> None:
        self.l2 = float(l2)


class L1L2(Regularizer):
    """l1 · Σ|x| + l2 · Σx². Without arguments it does nothing, as in Keras."""

    def __init__(self, l1: NotNegative = 0.0, l2: NotNegative = 0.0) -> None:
        self.l1 = float(l1)
        self.l2 = float(l2)


def get(identifier: Any) -> Any:
    """The regularizer behind a name, an object, a class or a description; None stays None.

    "l2" means L2(0.01).
    """
    return config.get(Regularizer, identifier)


def check(identifier: Any) -> None:
    """Raise `ArgumentError` for what `get` does not take, without creating an object."""
    config.find(Regularizer, identifier)


def penalty(regularizer: Regularizer, values: Any, share: float = 1.0) -> Any:
    """`share` of the penalty on an array on the device in use, as an array (1,) there."""
    if _is_plain(regularizer):
        return update.penalty(values.reshape(-1), l1=share * regularizer.l1, l2=share * regularizer.l2)
    return storage.put(np.array([share * float(regularizer(storage.get(values)))], values.dtype))


def add_gradient(regularizer: Regularizer, gradients: Any, values: Any, share: float = 1.0) -> None:
    """Add `share` of the penalty's derivative by values to gradients.

    Both are C-contiguous arrays on the device in use.
    """
    flat = gradients.reshape(-1)
    if _is_plain(regularizer):
        update.regularize(flat, values.reshape(-1), l1=share * regularizer.l1, l2=share * regularizer.l2)
        return
    gradient = np.asarray(share * regularizer.gradient(storage.get(values)), gradients.dtype)
    update.accumulate(flat, storage.put(np.broadcast_to(gradient, values.shape).reshape(-1)))


def _is_plain(regularizer: Regularizer) -> bool:
    """Whether l1 and l2 define the penalty: no subclass redefines it."""
    cls = type(regularizer)
    return cls.__call__ is Regularizer.__call__ and cls.gradient is Regularizer.gradient


l1, l2, l1_l2 = L1, L2, L1L2

__getattr__ = absent(
    __name__,
    {
        "OrthogonalRegularizer": "subclass Regularizer with __call__ and gradient",
        "orthogonal_regularizer": "subclass Regularizer with __call__ and gradient",
        "l1l2": "it is called l1_l2",
        "WeightRegularizer": "use L1, L2 or L1L2",
        "activity_l2": "use L2 as the layer's activity_regularizer",
    },
)
