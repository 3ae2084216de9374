"""Losses of each prediction on its own, and of the angle and the margins of a row."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np

from ..errors import ArgumentError
from ..ops import row_losses as ops
from . import labels
from .loss import Reduction, RowLoss


class ValueLoss(RowLoss, abstract=True):
    """Base of losses that are a function of a prediction and its target, reduced over the last axis."""

    _function: ClassVar[str]

    def __init__(
        self, reduction: Reduction = "sum_over_batch_size", name: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__(name or self._function, reduction, dtype)

    def of_rows(self, rows: Any, targets: Any) -> tuple[Any, Any]:
        """The loss of each row (N,) and its gradient by the rows (N, K)."""
        return ops.value_loss(rows, targets, function=self._function)


class MeanAbsolutePercentageError(ValueLoss):
    """100 · |y_true - y_pred| / |y_true|, the mean over the last axis."""

    _function = "mean_absolute_percentage_error"
    _check = staticmethod(partial(labels.check_targets, _function))


class MeanSquaredLogarithmicError(ValueLoss):
    """(log(y_pred + 1) - log(y_true + 1))², the mean over the last axis; values below 0 count as 0."""

    _function = "mean_squared_logarithmic_error"
    _check = staticmethod(partial(labels.check_targets, _function))


class LogCosh(ValueLoss):
    """log(cosh(y_pred - y_true)), the mean over the last axis: like half the squared error near 0, like
    the absolute error far away."""

    _function = "log_cosh"
    _check = staticmethod(partial(labels.check_targets, _function))


class Poisson(ValueLoss):
    """y_pred - y_true · log(y_pred), the mean over the last axis: for counts and their expected values."""

    _function = "poisson"
    _check = staticmethod(partial(labels.check_targets, _function))


class KLDivergence(ValueLoss):
    """y_true · log(y_true / y_pred), the sum over the last axis: how far one distribution is from another."""

    _function = "kl_divergence"
    _check = staticmethod(partial(labels.check_targets, _function))


class Hinge(ValueLoss):
    """max(1 - y_true · y_pred, 0), the mean over the last axis, for labels -1 and 1; labels 0 and 1 become
    these."""

    _function = "hinge"
    _check = staticmethod(partial(labels.check_targets, _function))

    def targets(self, y_true: np.ndarray, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        """Rows of -1 and 1."""
        return _signs(super().targets(y_true, shape, dtype))


class SquaredHinge(Hinge):
    """max(1 - y_true · y_pred, 0)², the mean over the last axis, for labels -1 and 1; labels 0 and 1 become
    these."""

    _function = "squared_hinge"
    _check = staticmethod(partial(labels.check_targets, _function))


class CategoricalHinge(RowLoss):
    """max(1 + the largest wrong score - the right score, 0), for one-hot labels."""

    _check = staticmethod(partial(labels.check_targets, "categorical_hinge"))

    def __init__(
        self,
        reduction: Reduction = "sum_over_batch_size",
        name: str | None = "categorical_hinge",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)

    def of_rows(self, rows: Any, targets: Any) -> tuple[Any, Any]:
        """The loss of each row (N,) and its gradient by the rows (N, K)."""
        return ops.categorical_hinge(rows, targets)


class CosineSimilarity(RowLoss):
    """Minus the cosine of the angle between y_true and y_pred along the last axis: -1 for one direction,
    1 for opposite ones."""

    _check = staticmethod(partial(labels.check_targets, "cosine_similarity"))

    def __init__(
        self,
        axis: Any = -1,
        reduction: Reduction = "sum_over_batch_size",
        name: str | None = "cosine_similarity",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        if type(axis) is not int or axis != -1:
            raise ArgumentError(f"CosineSimilarity(axis={axis!r}): vectors lie along the last axis; leave axis out")

    def of_rows(self, rows: Any, targets: Any) -> tuple[Any, Any]:
        """The loss of each row (N,) and its gradient by the rows (N, K)."""
        return ops.cosine(rows, targets)


def _signs(targets: np.ndarray) -> np.ndarray:
    """Labels 0 and 1 as -1 and 1; all others as they are."""
    return 2 * targets - 1 if np.isin(targets, (0, 1)).all() else targets


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> np.ndarray:
    """The percentage error of each sample, (n, …) float32."""
    return MeanAbsolutePercentageError().values(y_true, y_pred)


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> np.ndarray:
    """The squared logarithmic error of each sample, (n, …) float32."""
    return MeanSquaredLogarithmicError().values(y_true, y_pred)


def log_cosh(y_true: Any, y_pred: Any) -> np.ndarray:
    """The logarithm of the hyperbolic cosine of the error of each sample, (n, …) float32."""
    return LogCosh().values(y_true, y_pred)


def poisson(y_true: Any, y_pred: Any) -> np.ndarray:
    """The loss of counts of each sample, (n, …) float32."""
    return Poisson().values(y_true, y_pred)


def kl_divergence(y_true: Any, y_pred: Any) -> np.ndarray:
    """The divergence of Kullback and Leibler of each sample, (n, …) float32."""
    return KLDivergence().values(y_true, y_pred)


def hinge(y_true: Any, y_pred: Any) -> np.ndarray:
    """The hinge loss of each sample, (n, …) float32."""
    return Hinge().values(y_true, y_pred)


def squared_hinge(y_true: Any, y_pred: Any) -> np.ndarray:
    """The squared hinge loss of each sample, (n, …) float32."""
    return SquaredHinge().values(y_true, y_pred)


def categorical_hinge(y_true: Any, y_pred: Any) -> np.ndarray:
    """The hinge loss of the classes of each sample, (n, …) float32."""
    return CategoricalHinge().values(y_true, y_pred)


def cosine_similarity(y_true: Any, y_pred: Any, axis: Any = -1) -> np.ndarray:
    """Minus the cosine of the angle of each sample, (n, …) float32."""
    return CosineSimilarity(axis).values(y_true, y_pred)
