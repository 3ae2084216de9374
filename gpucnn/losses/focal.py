"""Crossentropies that count well predicted samples less, or wrong labels less."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import numpy as np

from ..arguments import Bounds, Fraction, NotNegative, checked
from ..errors import ArgumentError
from ..ops import activation
from ..ops import row_losses as ops
from . import labels
from .loss import Reduction, RowLoss

BetweenZeroAndOne = Annotated[float, Bounds(0, 1, above=True, below=True)]


class _Focal(RowLoss, abstract=True):
    """Base of the focal crossentropies: a loss of probabilities, or of logits through their activation."""

    def __init__(
        self,
        gamma: float,
        from_logits: bool,
        label_smoothing: float,
        axis: Any,
        /,
        *common: Any,
    ) -> None:
        super().__init__(*common)
        if type(axis) is not int or axis != -1:
            raise ArgumentError(f"{type(self).__name__}(axis={axis!r}): classes lie on the last axis; leave axis out")
        self.gamma, self.from_logits, self.label_smoothing = float(gamma), bool(from_logits), float(label_smoothing)

    def targets(self, y_true: np.ndarray, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        """The labels as rows, mixed with the uniform distribution."""
        rows, smoothing = super().targets(y_true, shape, dtype), self.label_smoothing
        if not smoothing:
            return rows
        return np.asarray(rows * (1 - smoothing) + smoothing / self._classes(shape), dtype)

    def _classes(self, shape: tuple[int, ...]) -> int:
        """How many classes share the smoothing."""
        return shape[1]


class BinaryFocalCrossentropy(_Focal):
    """Binary crossentropy times (1 - p_t)^gamma, p_t being the probability of the truth; the mean over the
    last axis.

    apply_class_balancing  whether labels 1 have the weight alpha and labels 0 the weight 1 - alpha
    from_logits            whether predictions are what a sigmoid is still to be applied to
    label_smoothing        draws the labels towards 1/2

    Source: Lin et al., ICCV 2017, equation 4.
    """

    _check = staticmethod(partial(labels.check_fractions, "binary_focal_crossentropy"))

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: Fraction = 0.25,
        gamma: NotNegative = 2.0,
        from_logits: bool = False,
        label_smoothing: Fraction = 0.0,
        axis: Any = -1,
        reduction: Reduction = "sum_over_batch_size",
        name: str | None = "binary_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(gamma, from_logits, label_smoothing, axis, name, reduction, dtype)
        self.apply_class_balancing, self.alpha = bool(apply_class_balancing), float(alpha)

    def _classes(self, shape: tuple[int, ...]) -> int:
        return 2

    def of_rows(self, rows: Any, targets: Any) -> tuple[Any, Any]:
        """The loss of each row (N,) and its gradient by the rows (N, K)."""
        weights = (self.alpha, 1 - self.alpha) if self.apply_class_balancing else (1.0, 1.0)
        params: dict[str, Any] = {"gamma": self.gamma, "of_ones": weights[0], "of_zeros": weights[1]}
        if not self.from_logits:
            return ops.binary_focal(rows, targets, **params)
        sigmoid: dict[str, Any] = {"function": "sigmoid", "alpha": 0.0}
        values, gradient = ops.binary_focal(activation.activation(rows, **sigmoid), targets, **params)
        return values, activation.activation_grad(gradient, rows, **sigmoid)


class CategoricalFocalCrossentropy(_Focal):
    """alpha times the crossentropy of one-hot labels, each class times (1 - p)^gamma.

    alpha            weight of all classes; the list of weights that Keras also takes is not in gpucnn
    from_logits      whether predictions are what a softmax is still to be applied to
    label_smoothing  mixes the labels with the uniform distribution
    """

    _check = staticmethod(partial(labels.check_class_rows, "categorical_focal_crossentropy"))

    def __init__(
        self,
        alpha: Annotated[NotNegative, "for a weight for each class use class_weight= of fit"] = 0.25,
        gamma: NotNegative = 2.0,
        from_logits: bool = False,
        label_smoothing: Fraction = 0.0,
        axis: Any = -1,
        reduction: Reduction = "sum_over_batch_size",
        name: str | None = "categorical_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(gamma, from_logits, label_smoothing, axis, name, reduction, dtype)
        self.alpha = float(alpha)

    def of_rows(self, rows: Any, targets: Any) -> tuple[Any, Any]:
        """The loss of each row (N,) and its gradient by the rows (N, K)."""
        params: dict[str, Any] = {"alpha": self.alpha, "gamma": self.gamma}
        if not self.from_logits:
            return ops.categorical_focal(rows, targets, **params)
        probabilities = activation.softmax(rows)
        values, gradient = ops.categorical_focal(probabilities, targets, **params)
        return values, activation.softmax_grad(gradient, probabilities)


class CategoricalGeneralizedCrossEntropy(RowLoss):
    """(1 - p^q) / q for class numbers, p being the probability of the label: between the crossentropy (q
    near 0) and the mean absolute error (q near 1), for labels that are partly wrong.

    Source: Zhang, Sabuncu, NeurIPS 2018.
    """

    _check = staticmethod(partial(labels.check_class_numbers, "categorical_generalized_cross_entropy"))

    def __init__(
        self,
        q: BetweenZeroAndOne = 0.5,
        reduction: Reduction = "sum_over_batch_size",
        name: str | None = "categorical_generalized_cross_entropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.q = float(q)

    def targets(self, y_true: np.ndarray, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        """The class number of each row, (N,) int32."""
        return np.ascontiguousarray(y_true.reshape(-1), np.int32)

    def of_rows(self, rows: Any, targets: Any) -> tuple[Any, Any]:
        """The loss of each row (N,) and its gradient by the rows (N, K)."""
        return ops.power_loss(rows, targets, q=self.q)


@checked
def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: Fraction = 0.25,
    gamma: NotNegative = 2.0,
    from_logits: bool = False,
    label_smoothing: Fraction = 0.0,
    axis: Any = -1,
) -> np.ndarray:
    """The focal crossentropy of each sample, (n, …) float32."""
    loss = BinaryFocalCrossentropy(apply_class_balancing, alpha, gamma, from_logits, label_smoothing, axis)
    return loss.values(y_true, y_pred)


@checked
def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: NotNegative = 0.25,
    gamma: NotNegative = 2.0,
    from_logits: bool = False,
    label_smoothing: Fraction = 0.0,
    axis: Any = -1,
) -> np.ndarray:
    """The focal crossentropy of each sample, (n, …) float32."""
    return CategoricalFocalCrossentropy(alpha, gamma, from_logits, label_smoothing, axis).values(y_true, y_pred)


@checked
def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, q: BetweenZeroAndOne) -> np.ndarray:
    """The generalised crossentropy of each sample, (n, …) float32."""
    return CategoricalGeneralizedCrossEntropy(q).values(y_true, y_pred)
