"""Metrics as in Keras 3: running sums over the batches of an epoch, kept in float64.

Your own metric is a function (y_true, y_pred) -> one number for each sample, or a subclass:

    class LargestError(gpucnn.metrics.Metric):
        def __init__(self, name="largest_error", dtype=None):
            super().__init__(dtype, name)
            self.largest = self.add_variable(name="largest")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.largest[...] = max(self.largest, abs(y_pred - y_true).max())

        def result(self):
            return float(self.largest)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import config, losses
from ..arguments import Count, Fraction, Natural, check, checked, numbers, wrong
from ..config import snake_case
from ..errors import ArgumentError
from ..losses import binary_crossentropy as binary_crossentropy
from ..losses import categorical_crossentropy as categorical_crossentropy
from ..losses import huber as huber
from ..losses import labels
from ..losses import mean_absolute_error as mean_absolute_error
from ..losses import mean_squared_error as mean_squared_error
from ..losses import sparse_categorical_crossentropy as sparse_categorical_crossentropy
from ..losses.labels import Shape
from ..retired import absent, absent_error
from .metric import Mean as Mean
from .metric import MeanMetricWrapper, Metric
from .report import classification_report as classification_report


class _Accuracy(MeanMetricWrapper):
    """The share of samples that a function counts as right."""

    direction = "up"


class Accuracy(_Accuracy):
    """How often y_pred equals y_true. The string "accuracy" means the one that fits the shapes."""

    def __init__(self, name: str | None = "accuracy", dtype: Any = None) -> None:
        super().__init__(_equality, name or "accuracy", dtype)


class BinaryAccuracy(_Accuracy):
    """How often y_pred > threshold equals y_true."""

    def __init__(self, name: str | None = "binary_accuracy", dtype: Any = None, threshold: float = 0.5) -> None:
        self.threshold = float(threshold)
        super().__init__(binary_accuracy, name, dtype, threshold=self.threshold)


class CategoricalAccuracy(_Accuracy):
    """How often the largest output is at the largest label of one-hot rows."""

    def __init__(self, name: str | None = "categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(categorical_accuracy, name, dtype)


class SparseCategoricalAccuracy(_Accuracy):
    """How often the largest output is at the class number."""

    def __init__(self, name: str | None = "sparse_categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(sparse_categorical_accuracy, name, dtype)


class TopKCategoricalAccuracy(_Accuracy):
    """How often the class of a one-hot row is among the k largest outputs."""

    def __init__(self, k: Count = 5, name: str | None = "top_k_categorical_accuracy", dtype: Any = None) -> None:
        self.k = int(k)
        super().__init__(top_k_categorical_accuracy, name, dtype, k=self.k)


class SparseTopKCategoricalAccuracy(_Accuracy):
    """How often the class number is among the k largest outputs."""

    def __init__(self, k: Count = 5, name: str | None = "sparse_top_k_categorical_accuracy", dtype: Any = None) -> None:
        self.k = int(k)
        super().__init__(sparse_top_k_categorical_accuracy, name, dtype, k=self.k)


class _MeanLoss(MeanMetricWrapper):
    """The mean of a loss over samples."""

    direction = "down"

    def __init__(self, loss: losses.Loss, name: str | None, dtype: Any) -> None:
        super().__init__(loss.values, name or loss.name, dtype)


class BinaryCrossentropy(_MeanLoss):
    """The mean of `losses.BinaryCrossentropy`."""

    def __init__(
        self,
        name: str | None = "binary_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: Fraction = 0.0,
    ) -> None:
        super().__init__(losses.BinaryCrossentropy(from_logits, label_smoothing), name, dtype)


class CategoricalCrossentropy(_MeanLoss):
    """The mean of `losses.CategoricalCrossentropy`."""

    def __init__(
        self,
        name: str | None = "categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: Fraction = 0.0,
        axis: Any = -1,
    ) -> None:
        super().__init__(losses.CategoricalCrossentropy(from_logits, label_smoothing, axis), name, dtype)


class SparseCategoricalCrossentropy(_MeanLoss):
    """The mean of `losses.SparseCategoricalCrossentropy`."""

    def __init__(
        self,
        name: str | None = "sparse_categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        ignore_class: Any = None,
        axis: Any = -1,
    ) -> None:
        super().__init__(losses.SparseCategoricalCrossentropy(from_logits, ignore_class, axis=axis), name, dtype)


class MeanSquaredError(_MeanLoss):
    """The mean of `losses.MeanSquaredError`."""

    def __init__(self, name: str | None = "mean_squared_error", dtype: Any = None) -> None:
        super().__init__(losses.MeanSquaredError(), name, dtype)


class MeanAbsoluteError(_MeanLoss):
    """The mean of `losses.MeanAbsoluteError`."""

    def __init__(self, name: str | None = "mean_absolute_error", dtype: Any = None) -> None:
        super().__init__(losses.MeanAbsoluteError(), name, dtype)


class _Share(Metric):
    """The weight of true positives divided by that of a set that contains them.

    thresholds  an output above this number counts as positive; 0.5 by default
    top_k       only the k largest outputs of each sample can be positive, at any threshold
    class_id    the only column that counts
    """

    direction = "up"
    _others: Callable[[np.ndarray, np.ndarray], np.ndarray]

    def __init__(
        self,
        thresholds: Any = None,
        top_k: Count | None = None,
        class_id: Natural | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(dtype, name)
        if isinstance(thresholds, (list, tuple)) and len(thresholds) == 1:
            thresholds = thresholds[0]
        owner = type(self).__name__
        if isinstance(thresholds, (list, tuple)):
            raise wrong(owner, "thresholds", thresholds, f"one number of 0 … 1, and one {owner} for each threshold")
        check(owner, "thresholds", thresholds, Fraction | None)
        self.top_k = top_k
        self.class_id = class_id
        self.threshold = (0.5 if top_k is None else -np.inf) if thresholds is None else float(thresholds)
        self.true_positives = self.add_variable(name="true_positives")
        self.others = self.add_variable(name="others")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count one batch; y_true (0 or 1) has the shape of y_pred."""
        y_true, y_pred = labels.alike(self.name, y_true, y_pred)
        if self.top_k is not None:
            best = np.argsort(-y_pred, axis=-1, kind="stable")[..., : self.top_k]
            among = np.zeros(y_pred.shape, bool)
            np.put_along_axis(among, best, True, axis=-1)
            y_pred = np.where(among, y_pred, -np.inf)
        if self.class_id is not None:
            y_true, y_pred = y_true[..., self.class_id], y_pred[..., self.class_id]
        weights = np.ones(y_pred.shape)
        if sample_weight is not None:
            weights *= np.asarray(sample_weight, np.float64).reshape(len(y_pred), *(1,) * (y_pred.ndim - 1))
        true, predicted = y_true.astype(bool), y_pred > self.threshold
        self.true_positives += weights[true & predicted].sum()
        self.others += weights[self._others(true, predicted)].sum()

    def result(self) -> float:
        """The share; 0 if nothing was counted."""
        both = self.true_positives + self.others
        return float(self.true_positives / both) if both else 0.0


class Precision(_Share):
    """The share of true positives among all predicted positives."""

    def _others(self, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        return ~true & predicted


class Recall(_Share):
    """The share of positives that were predicted as such."""

    def _others(self, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        return true & ~predicted


@checked
def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> np.ndarray:
    """1 where y_pred > threshold equals y_true, else 0: float32 like y_pred."""
    y_true, y_pred = labels.alike("binary_accuracy", y_true, y_pred)
    return ((y_pred > threshold) == y_true).astype(np.float32)


@checked
def categorical_accuracy(y_true: Any, y_pred: Any) -> np.ndarray:
    """1 where the largest output and label (n, …, K) are at one place, else 0: (n, …) float32."""
    y_true, y_pred = labels.alike("categorical_accuracy", y_true, y_pred)
    return (y_true.argmax(axis=-1) == y_pred.argmax(axis=-1)).astype(np.float32)


@checked
def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> np.ndarray:
    """1 where the largest output (n, …, K) is at the class number, else 0: (n, …) float32."""
    y_true, y_pred = _class_numbers("sparse_categorical_accuracy", y_true, y_pred)
    return (y_true == y_pred.argmax(axis=-1)).astype(np.float32)


@checked
def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: Count = 5) -> np.ndarray:
    """1 where the class of a one-hot row is among the k largest outputs, else 0: (n, …) float32."""
    y_true, y_pred = labels.alike("top_k_categorical_accuracy", y_true, y_pred)
    return _in_top_k(y_true.argmax(axis=-1), y_pred, k)


@checked
def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: Count = 5) -> np.ndarray:
    """1 where the class number is among the k largest outputs, else 0: (n, …) float32."""
    y_true, y_pred = _class_numbers("sparse_top_k_categorical_accuracy", y_true, y_pred)
    return _in_top_k(y_true.astype(np.int64), y_pred, k)


@checked
def get(identifier: Any, y_shape: Shape | None = None, pred_shape: Shape | None = None) -> Any:
    """The metric behind a name (which it keeps), an object, a class, a description or a function.

    "accuracy" (or "acc") becomes binary, sparse or categorical by the two shapes.
    """
    if identifier is None:
        raise ArgumentError("None is not a metric: give a name, an object or a function")
    if isinstance(identifier, str):
        if identifier in _ABSENT:
            raise absent_error(__name__, identifier, _ABSENT[identifier])
        if identifier.lower() in ("accuracy", "acc") and y_shape is not None and pred_shape is not None:
            return _ACCURACIES[labels.kind_of(y_shape, pred_shape)](name=identifier)
        metric: Any = config.get(Metric, identifier, _ALIASES)
        metric.name = identifier
        return metric
    if callable(identifier) and not isinstance(identifier, (Metric, type)):
        return MeanMetricWrapper(identifier)
    return config.get(Metric, identifier)


def _equality(y_true: Any, y_pred: Any) -> np.ndarray:
    """True where y_pred equals y_true."""
    y_true, y_pred = labels.alike("accuracy", y_true, y_pred)
    return y_true == y_pred


def _class_numbers(name: str, y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
    """Class numbers (n, …) and outputs (n, …, K)."""
    y_true, y_pred = numbers("y_true", y_true), numbers("y_pred", y_pred)
    labels.check_class_numbers(name, y_true, y_pred.shape)
    return y_true.reshape(y_pred.shape[:-1]), y_pred


def _in_top_k(classes: np.ndarray, y_pred: np.ndarray, k: int) -> np.ndarray:
    """Fewer than k outputs are above that of the class: ties count as within, NaN as outside."""
    score = np.take_along_axis(y_pred, classes[..., None], axis=-1)
    return ((y_pred > score).sum(axis=-1) < k).astype(np.float32) * np.isfinite(score[..., 0])


_ACCURACIES: dict[str, Callable[..., Metric]] = {
    "binary": BinaryAccuracy,
    "sparse_categorical": SparseCategoricalAccuracy,
    "categorical": CategoricalAccuracy,
}

_ALIASES = {
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "bce": BinaryCrossentropy,
    "acc": Accuracy,
    "top_k_categorical_accuracy": TopKCategoricalAccuracy,
    "sparse_top_k_categorical_accuracy": SparseTopKCategoricalAccuracy,
}

_KERAS_ONLY = """
    AUC BinaryIoU CategoricalHinge ConcordanceCorrelation CosineSimilarity F1Score FBetaScore FalseNegatives
    FalsePositives Hinge IoU KLDivergence kl_divergence LogCoshError MAPE MSLE MeanAbsolutePercentageError MeanIoU
    MeanSquaredLogarithmicError OneHotIoU OneHotMeanIoU PearsonCorrelation Poisson PrecisionAtRecall R2Score
    RecallAtPrecision RootMeanSquaredError SensitivityAtSpecificity SpecificityAtSensitivity SquaredHinge Sum
    TrueNegatives TruePositives
"""

_ABSENT = dict.fromkeys(
    [*_KERAS_ONLY.split(), *map(snake_case, _KERAS_ONLY.split())],
    "use an accuracy, a crossentropy, Precision or Recall, or write a function or a subclass of Metric",
)

__getattr__ = absent(__name__, _ABSENT)
