"""The base of all metrics, and means over samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from .. import initializers, losses
from ..arguments import float32
from ..config import Configurable, snake_case
from ..errors import ArgumentError, ShapeError
from ..losses import labels


class Metric(Configurable):
    """Base of all metrics.

    A subclass creates sums with `add_variable`, changes them in `update_state`, defines `result`.
    """

    direction: Literal["up", "down"] | None = None
    """Which way is better, for callbacks with mode="auto"."""

    def __init__(self, dtype: Any = None, name: str | None = None) -> None:
        owner = type(self).__name__
        float32(owner, dtype, "metrics keep their sums in float64")
        self.name = name or snake_case(owner)
        self._variables: dict[str, np.ndarray] = {}

    def add_variable(
        self, shape: tuple[int, ...] = (), initializer: Any = "zeros", dtype: Any = None, name: str | None = None
    ) -> np.ndarray:
        """A float64 array to change in place; `reset_state` zeroes it, checkpoints keep it."""
        variable = np.array(initializers.get(initializer)(shape), np.float64)
        self._variables[name or f"variable_{len(self._variables)}"] = variable
        return variable

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count one batch: y_true (n, …), y_pred (n, …, K), sample_weight (n,) or None.

        In training, labels (n,) come as (n, 1) to outputs (n, 1).
        """
        raise NotImplementedError(f"{type(self).__name__} must define update_state(y_true, y_pred, sample_weight=None)")

    def result(self) -> float:
        """The metric over all batches since the last `reset_state`."""
        raise NotImplementedError(f"{type(self).__name__} must define result()")

    def reset_state(self) -> None:
        """Forget all batches."""
        for variable in self._variables.values():
            variable[...] = 0.0

    def get_state(self) -> dict[str, np.ndarray]:
        """Copies of the sums by name, exact."""
        return {name: variable.copy() for name, variable in self._variables.items()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` returned."""
        for name, variable in self._variables.items():
            if name not in state or np.shape(state[name]) != variable.shape:
                raise ArgumentError(f"the state of the metric {self.name} needs {name} of shape {variable.shape}")
        for name, variable in self._variables.items():
            variable[...] = state[name]

    def __call__(self, *args: Any, **kwargs: Any) -> float:
        """`update_state`, then `result`."""
        self.update_state(*args, **kwargs)
        return self.result()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


class Mean(Metric):
    """The weighted mean of all values; 0 before the first."""

    def __init__(self, name: str | None = "mean", dtype: Any = None) -> None:
        super().__init__(dtype, name)
        self.total = self.add_variable(name="total")
        self.count = self.add_variable(name="count")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Count values (n, …), or one number; sample_weight has the shape of their first axes."""
        values, weights = _per_sample(values, sample_weight)
        self.total += values.sum()
        self.count += values.size if weights is None else weights.sum()

    def result(self) -> float:
        """Σ weight · value / Σ weight."""
        return float(self.total / self.count) if self.count else 0.0


class MeanMetricWrapper(Mean):
    """The mean of what a function (y_true, y_pred, **kwargs) returns for each sample."""

    _hands_keywords_on = False

    def __init__(self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None, **kwargs: Any) -> None:
        super().__init__(name or getattr(fn, "name", None) or getattr(fn, "__name__", "metric"), dtype)
        self._function, self._arguments_of_function = fn, kwargs
        if isinstance(fn, losses.Loss) or fn in losses.FUNCTIONS:
            self.direction = "down"

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Count one batch."""
        y_true, y_pred = labels.aligned(np.asarray(y_true), np.asarray(y_pred))
        values = self._function(y_true, y_pred, **self._arguments_of_function)
        if isinstance(values, tuple) or np.asarray(values).dtype.kind not in "biuf":
            kind = type(values).__name__
            raise ArgumentError(f"the metric function {self.name} returned a {kind}: return one number for each sample")
        if np.ndim(values) and y_pred.ndim and len(values) != len(y_pred):
            raise ShapeError(
                f"the metric function {self.name} returned values of shape {np.shape(values)} for {len(y_pred)} "
                "samples: return one number for each sample"
            )
        super().update_state(values, sample_weight)


def _per_sample(values: Any, sample_weight: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Keras' rule: average over the axes that weights lack, weigh, then average down to (n,)."""
    values = np.asarray(values, np.float64)
    weights = None
    if sample_weight is not None:
        weights = np.asarray(sample_weight, np.float64)
        if weights.ndim == values.ndim + 1 and weights.shape[-1] == 1:
            weights = weights[..., 0]
        values = values.mean(axis=tuple(range(weights.ndim, values.ndim)))
        try:
            weights = np.broadcast_to(weights, values.shape)
        except ValueError as error:
            shapes = f"sample_weight has shape {np.shape(sample_weight)} and the metric's values {values.shape}"
            raise ShapeError(f"{shapes}: give one weight for each sample") from error
        values = (values * weights).mean(axis=tuple(range(1, values.ndim)))
        weights = weights.mean(axis=tuple(range(1, weights.ndim)))
    return values.mean(axis=tuple(range(1, values.ndim))), weights
