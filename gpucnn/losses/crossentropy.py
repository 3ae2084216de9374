"""Crossentropies of labels and predictions: of classes, by rows or numbers, and of yes-or-no."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np

from ..arguments import Fraction, checked
from ..dispatch.op import Op
from ..errors import ArgumentError
from ..ops import loss as ops
from . import labels
from .labels import Shape
from .loss import Backward, Loss, Reduction, RowLoss


class Crossentropy(RowLoss, abstract=True):
    """Base of the crossentropies: an op on probabilities, and one on logits."""

    activation: ClassVar[str]
    """The activation that turns the logits into the probabilities of this loss."""

    _of_probabilities: Op
    _of_logits: Op

    def __init__(self, from_logits: bool, axis: Any, reduction: Reduction, name: str | None, dtype: Any) -> None:
        super().__init__(name, reduction, dtype)
        if type(axis) is not int or axis != -1:
            raise ArgumentError(
                f"{type(self).__name__}(axis={axis!r}): classes lie on the last axis in gpucnn; leave axis out"
            )
        self.from_logits = bool(from_logits)

    def of_rows(self, rows: Any, targets: Any) -> tuple[Any, Any]:
        """The loss of each row (N,) and its gradient by the rows (N, K)."""
        op = self._of_logits if self.from_logits else self._of_probabilities
        return op(rows, targets, **self._parameters())

    def _parameters(self) -> dict[str, Any]:
        """The parameters of the op."""
        return {}


class SmoothedCrossentropy(Crossentropy, abstract=True):
    """Base of the crossentropies of labels that are probabilities, with `label_smoothing`."""

    _default_name: ClassVar[str]

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: Fraction = 0.0,
        axis: Any = -1,
        reduction: Reduction = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(from_logits, axis, reduction, name or self._default_name, dtype)
        self.label_smoothing = float(label_smoothing)

    def _parameters(self) -> dict[str, Any]:
        return {"label_smoothing": self.label_smoothing}


class CategoricalCrossentropy(SmoothedCrossentropy):
    """Crossentropy of one-hot labels (or class probabilities) and predictions (n, …, K).

    The predictions are probabilities, or logits with `from_logits`. `label_smoothing` mixes the
    labels with the uniform distribution.
    """

    activation = "softmax"
    _default_name = "categorical_crossentropy"
    _check = staticmethod(partial(labels.check_class_rows, "categorical_crossentropy"))
    _of_probabilities = ops.cross_entropy
    _of_logits = ops.softmax_cross_entropy


class BinaryCrossentropy(SmoothedCrossentropy):
    """Crossentropy of labels 0 … 1 and probabilities (or logits), the mean over the last axis.

    Labels have the shape of the outputs; labels (n,) also fit outputs (n, 1). `label_smoothing`
    draws the labels towards 1/2.
    """

    activation = "sigmoid"
    _default_name = "binary_crossentropy"
    _check = staticmethod(partial(labels.check_fractions, "binary_crossentropy"))
    _of_probabilities = ops.binary_cross_entropy
    _of_logits = ops.sigmoid_binary_cross_entropy


class SparseCategoricalCrossentropy(Crossentropy):
    """Crossentropy of class numbers (n, …) or (n, …, 1) and probabilities (or logits) (n, …, K)."""

    activation = "softmax"
    _check = staticmethod(partial(labels.check_class_numbers, "sparse_categorical_crossentropy"))
    _of_probabilities = ops.sparse_cross_entropy
    _of_logits = ops.sparse_softmax_cross_entropy

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: Any = None,
        reduction: Reduction = "sum_over_batch_size",
        axis: Any = -1,
        name: str | None = "sparse_categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(from_logits, axis, reduction, name, dtype)
        if ignore_class is not None:
            raise ArgumentError(
                f"SparseCategoricalCrossentropy(ignore_class={ignore_class!r}) is not supported: give those samples "
                "sample_weight 0 and any class, with reduction='mean_with_sample_weight'"
            )

    def targets(self, y_true: np.ndarray, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        """The class number of each row, (N,) int32."""
        return np.ascontiguousarray(y_true.reshape(-1), np.int32)


class CrossentropyByShape(Loss, abstract=True):
    """Keras' "crossentropy": binary, sparse or categorical by the shapes of y and the outputs."""

    on_device = True

    def __init__(self) -> None:
        super().__init__("crossentropy")
        self.chosen: Crossentropy | None = None

    def check(self, y_true: np.ndarray, output_shape: Shape) -> None:
        """Choose, and raise if the labels do not fit the choice."""
        self.chosen = _KINDS[labels.kind_of(y_true.shape, output_shape)]()
        self.chosen.check(y_true, output_shape)

    def forward(self, y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, Backward]:
        """The loss of each sample and its backward pass, by the loss that fits the shapes."""
        self.chosen = _KINDS[labels.kind_of(y_true.shape, y_pred.shape)]()
        return self.chosen.forward(y_true, y_pred)


_KINDS: dict[str, Callable[[], Crossentropy]] = {
    "binary": BinaryCrossentropy,
    "sparse_categorical": SparseCategoricalCrossentropy,
    "categorical": CategoricalCrossentropy,
}


@checked
def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: Fraction = 0.0, axis: Any = -1
) -> np.ndarray:
    """The crossentropy of each sample, (n, …) float32."""
    return CategoricalCrossentropy(from_logits, label_smoothing, axis).values(y_true, y_pred)


@checked
def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: Any = None, axis: Any = -1
) -> np.ndarray:
    """The crossentropy of each sample, (n, …) float32."""
    return SparseCategoricalCrossentropy(from_logits, ignore_class, axis=axis).values(y_true, y_pred)


@checked
def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: Fraction = 0.0, axis: Any = -1
) -> np.ndarray:
    """The crossentropy of each sample, (n, …) float32."""
    return BinaryCrossentropy(from_logits, label_smoothing, axis).values(y_true, y_pred)


def from_logits_twin(loss: Loss, activation_name: str | None) -> Loss | None:
    """The same loss on logits, if it takes probabilities and belongs to that activation; else None.

    softmax belongs to the categorical crossentropies, sigmoid to the binary one. A subclass has no
    twin.
    """
    if isinstance(loss, CrossentropyByShape):
        return None if loss.chosen is None else from_logits_twin(loss.chosen, activation_name)
    if not isinstance(loss, Crossentropy) or loss.activation != activation_name or loss.from_logits:
        return None
    if type(loss) not in (CategoricalCrossentropy, SparseCategoricalCrossentropy, BinaryCrossentropy):
        return None
    return loss.from_config({**loss.get_config(), "from_logits": True})
