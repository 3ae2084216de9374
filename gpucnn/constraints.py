"""Conditions that weights are brought back to after each update.

`axis` names the axes over which a norm is taken: 0 for a dense weight (inputs, units) bounds each unit's incoming
weights; [0, 1, 2] for a convolution weight (R, S, C, K) bounds each filter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import config
from .config import Configurable
from .errors import ArgumentError
from .retired import absent

_EPSILON = 1e-7
"""Keras' `backend.epsilon()`: keeps the norm of an all-zero weight from dividing by zero."""


class Constraint(Configurable):
    """Base of all constraints. One of your own defines `__call__(w) -> array`."""

    def __call__(self, w: np.ndarray) -> np.ndarray:
        """A new array of w's shape that meets the condition."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(w) -> array")


class MaxNorm(Constraint):
    """Norms of at most `max_value`: Srivastava et al., JMLR 15 (2014), section 5.1."""

    def __init__(self, max_value: float = 2, axis: int | Sequence[int] = 0) -> None:
        if not max_value >= 0:
            raise ArgumentError(f"MaxNorm: max_value={max_value} must be 0 or above")
        self.max_value, self.axis = max_value, axis

    def __call__(self, w: np.ndarray) -> np.ndarray:
        """w, scaled down where its norm is too large."""
        norms = _norms(w, self.axis)
        return w * (np.minimum(norms, self.max_value) / (_EPSILON + norms))


class NonNeg(Constraint):
    """No weight below 0."""

    def __call__(self, w: np.ndarray) -> np.ndarray:
        """w with 0 in place of its negative values."""
        return np.maximum(w, 0)


class UnitNorm(Constraint):
    """Norms of 1."""

    def __init__(self, axis: int | Sequence[int] = 0) -> None:
        self.axis = axis

    def __call__(self, w: np.ndarray) -> np.ndarray:
        """w divided by its norms."""
        return w / (_EPSILON + _norms(w, self.axis))


class MinMaxNorm(Constraint):
    """Norms between `min_value` and `max_value`, approached by the fraction `rate` at each update."""

    def __init__(
        self,
        min_value: float = 0.0,
        max_value: float = 1.0,
        rate: float = 1.0,
        axis: int | Sequence[int] = 0,
    ) -> None:
        if not 0 <= min_value <= max_value:
            raise ArgumentError(f"MinMaxNorm: 0 <= min_value <= max_value must hold, not {min_value} and {max_value}")
        if not 0 <= rate <= 1:
            raise ArgumentError(f"MinMaxNorm: rate={rate} must lie in 0 … 1")
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def __call__(self, w: np.ndarray) -> np.ndarray:
        """w, scaled towards the interval."""
        norms = _norms(w, self.axis)
        desired = self.rate * np.clip(norms, self.min_value, self.max_value) + (1 - self.rate) * norms
        return w * (desired / (_EPSILON + norms))


def get(identifier: Any) -> Any:
    """The constraint behind a name, an object, a class or a description; None stays None."""
    return config.get(Constraint, identifier)


max_norm, non_neg, unit_norm, min_max_norm = MaxNorm, NonNeg, UnitNorm, MinMaxNorm

__getattr__ = absent(
    __name__,
    {"maxnorm": "it is called max_norm", "nonneg": "it is called non_neg", "unitnorm": "it is called unit_norm"},
)


def _norms(w: np.ndarray, axis: int | Sequence[int]) -> np.ndarray:
    axes = axis if isinstance(axis, int) else tuple(axis)
    return np.sqrt(np.sum(np.square(w), axis=axes, keepdims=True))
