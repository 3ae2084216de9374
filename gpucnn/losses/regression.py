"""Losses of measurements: the mean over the last axis of a function of the error."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..arguments import Positive, checked
from ..ops import loss as ops
from . import labels
from .loss import Reduction, RowLoss


class MeanSquaredError(RowLoss):
    """(y_true - y_pred)², the mean over the last axis."""

    _check = staticmethod(partial(labels.check_targets, "mean_squared_error"))

    def __init__(
        self,
        reduction: Reduction = "sum_over_batch_size",
        name: str | None = "mean_squared_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)

    def of_rows(self, rows: Any, targets: Any) -> tuple[Any, Any]:
        """The loss of each row (N,) and its gradient by the rows (N, K)."""
        return ops.mean_squared_error(rows, targets)


class MeanAbsoluteError(RowLoss):
    """|y_true - y_pred|, the mean over the last axis."""

    _check = staticmethod(partial(labels.check_targets, "mean_absolute_error"))

    def __init__(
        self,
        reduction: Reduction = "sum_over_batch_size",
        name: str | None = "mean_absolute_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)

    def of_rows(self, rows: Any, targets: Any) -> tuple[Any, Any]:
        """The loss of each row (N,) and its gradient by the rows (N, K)."""
        return ops.mean_absolute_error(rows, targets)


class Huber(RowLoss):
    """Half the squared error up to `delta`, a straight line beyond; the mean over the last axis."""

    _check = staticmethod(partial(labels.check_targets, "huber"))

    def __init__(
        self,
        delta: Positive = 1.0,
        reduction: Reduction = "sum_over_batch_size",
        name: str | None = "huber_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.delta = float(delta)

    def of_rows(self, rows: Any, targets: Any) -> tuple[Any, Any]:
        """The loss of each row (N,) and its gradient by the rows (N, K)."""
        return ops.huber(rows, targets, delta=self.delta)


def mean_squared_error(y_true: Any, y_pred: Any) -> np.ndarray:
    """The squared error of each sample, (n, …) float32."""
    return MeanSquaredError().values(y_true, y_pred)


def mean_absolute_error(y_true: Any, y_pred: Any) -> np.ndarray:
    """The absolute error of each sample, (n, …) float32."""
    return MeanAbsoluteError().values(y_true, y_pred)


@checked
def huber(y_true: Any, y_pred: Any, delta: Positive = 1.0) -> np.ndarray:
    """Huber's loss of each sample, (n, …) float32."""
    return Huber(delta).values(y_true, y_pred)
