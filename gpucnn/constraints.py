"""Conditions that weights meet again after each update.

`axis` names the axes over which a norm is taken: 0 for a dense weight (inputs, units) bounds each
unit's incoming weights; [0, 1, 2] for a convolution weight (R, S, C, K) bounds each filter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np

from . import config
from .arguments import Fraction, Length, Limit, NotNegative
from .config import Configurable
from .devices import storage
from .dispatch.op import Op
from .errors import ArgumentError
from .ops import constraint as ops
from .ops import update
from .retired import absent

Axes = Annotated[Sequence[int], Length(1)]
"""Several axes, over which one norm is taken."""


class Constraint(Configurable):
    """Base of all constraints.

    A user's subclass defines `__call__(w) -> array`, for arrays on the host: from another device,
    weights are copied to the host and back. gpucnn's constraints stay on the device.
    """

    def __call__(self, w: np.ndarray) -> np.ndarray:
        """A new array of w's shape that meets the condition."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(w) -> array")


class _InPlace:
    """A constraint that is an op: `change(w, run)` calls `run(op, w, **params)` to update w."""

    def change(self, w: Any, run: Callable[..., Any]) -> None:
        """Bring w back to the condition, in place."""
        raise NotImplementedError

    def __call__(self, w: np.ndarray) -> np.ndarray:
        """A new array of w's shape that meets the condition."""
        new = np.array(w)
        self.change(new, Op.reference)
        return new


class MaxNorm(_InPlace, Constraint):
    """Norms of at most `max_value`: Srivastava et al., JMLR 15 (2014), section 5.1."""

    def __init__(self, max_value: Limit = 2, axis: int | Axes = 0) -> None:
        self.max_value, self.axis = max_value, axis

    def change(self, w: Any, run: Callable[..., Any]) -> None:
        """Scale w down where its norm is too large."""
        run(ops.max_norm, w, max_value=self.max_value, axes=_axes(self.axis, w.ndim))


class NonNeg(_InPlace, Constraint):
    """No weight below 0."""

    def change(self, w: Any, run: Callable[..., Any]) -> None:
        """Put 0 in place of negative values."""
        run(update.non_neg, w.reshape(-1))


class UnitNorm(_InPlace, Constraint):
    """Norms of 1."""

    def __init__(self, axis: int | Axes = 0) -> None:
        self.axis = axis

    def change(self, w: Any, run: Callable[..., Any]) -> None:
        """Divide w by its norms."""
        run(ops.unit_norm, w, axes=_axes(self.axis, w.ndim))


class MinMaxNorm(_InPlace, Constraint):
    """Norms from `min_value` to `max_value`, approached by the fraction `rate` at each update."""

    def __init__(
        self,
        min_value: NotNegative = 0.0,
        max_value: Limit = 1.0,
        rate: Fraction = 1.0,
        axis: int | Axes = 0,
    ) -> None:
        if min_value > max_value:
            raise ArgumentError(f"MinMaxNorm: 0 <= min_value <= max_value must hold, not {min_value} and {max_value}")
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def change(self, w: Any, run: Callable[..., Any]) -> None:
        """Scale w towards the interval."""
        bounds = {"min_value": self.min_value, "max_value": self.max_value, "rate": self.rate}
        run(ops.min_max_norm, w, axes=_axes(self.axis, w.ndim), **bounds)


def get(identifier: Any) -> Any:
    """The constraint behind a name, an object, a class or a description; None stays None."""
    return config.get(Constraint, identifier)


def check(identifier: Any) -> None:
    """Raise `ArgumentError` for what `get` does not take, without creating an object."""
    config.find(Constraint, identifier)


def apply(constraint: Constraint, w: Any) -> None:
    """Bring w, a C-contiguous array on the device in use, back to the condition, in place."""
    if isinstance(constraint, _InPlace) and type(constraint).__call__ is _InPlace.__call__:
        constraint.change(w, Op.__call__)
    else:
        w[...] = storage.put(np.asarray(constraint(storage.get(w)), w.dtype))


max_norm, non_neg, unit_norm, min_max_norm = MaxNorm, NonNeg, UnitNorm, MinMaxNorm

__getattr__ = absent(
    __name__,
    {"maxnorm": "it is called max_norm", "nonneg": "it is called non_neg", "unitnorm": "it is called unit_norm"},
)


def _axes(axis: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    """The axes as ops take them: in rising order, counted from the front."""
    axes = [axis] if isinstance(axis, (int, np.integer)) else axis
    return tuple(sorted(int(a) + ndim if a < 0 else int(a) for a in axes))
