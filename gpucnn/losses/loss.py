"""Losses as in Keras 3.

Called, a loss gives one number: `MeanSquaredError()(y_true, y_pred)`. Training uses `forward`, which returns the loss
of each sample together with its backward pass. A loss of your own is such a function, or a subclass of `Loss` with such
a `forward`:

    def squared(y_true, y_pred):
        error = y_pred - y_true
        return (error**2).mean(axis=-1), lambda dvalues: dvalues[:, None] * 2 * error / error.shape[-1]

    model.compile("sgd", loss=squared)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .. import config
from ..config import Configurable, snake_case
from ..devices import storage
from ..errors import ArgumentError, ShapeError
from ..ops import loss as ops
from ..retired import absent_error
from . import labels
from .labels import Shape

Backward = Callable[[np.ndarray], np.ndarray]

REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none", None)
"""How the losses of the samples become one number."""

_BY_SHAPE = ("crossentropy", "ce")


class Loss(Configurable):
    """Base of all losses.

    reduction  "sum_over_batch_size" or "mean": the weighted sum by the number of values; "mean_with_sample_weight": by
               the sum of the weights; "sum": the weighted sum; "none" or None: no reduction, an array.

    One of your own defines `forward`.
    """

    on_device = False
    """Whether `forward` takes predictions, and `backward` returns their gradient, as arrays of the device in use."""

    def __init__(
        self, name: str | None = None, reduction: str | None = "sum_over_batch_size", dtype: Any = None
    ) -> None:
        owner = type(self).__name__
        if reduction not in REDUCTIONS:
            raise ArgumentError(f"{owner}(reduction={reduction!r}): use one of {', '.join(map(repr, REDUCTIONS))}")
        if dtype not in (None, "float32", np.float32):
            raise ArgumentError(f"{owner}(dtype={dtype!r}): losses compute in float32; leave dtype out")
        self.name = name or snake_case(owner)
        self.reduction = reduction

    def forward(self, y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, Backward]:
        """The loss of each sample and its backward pass.

        y_true   (n, …) as given to fit
        y_pred   (n, …, K)
        →        values (n, …), and backward: dvalues (n, …) → dy_pred (n, …, K)

        All are arrays of the host, unless `on_device` says that y_pred and dy_pred are those of the device in use.
        """
        keras = "; without automatic differentiation, Keras' call() is not enough" if hasattr(self, "call") else ""
        raise NotImplementedError(
            f"{type(self).__name__} must define forward(y_true, y_pred) -> (values, backward){keras}"
        )

    def check(self, y_true: np.ndarray, output_shape: Shape) -> None:
        """Raise if these labels cannot belong to outputs of this shape (batch axis first, None or n)."""

    def values(self, y_true: Any, y_pred: Any) -> np.ndarray:
        """The loss of each sample, (n, …) float32."""
        return forward(self, np.asarray(y_true), storage.put(np.asarray(y_pred, np.float32)))[0]

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The reduced loss: a float, or an array with reduction "none"."""
        return reduce(self.values(y_true, y_pred), sample_weight, self.reduction)[0]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


class _RowLoss(Loss):
    """A loss that one op computes from rows of outputs and rows of labels.

    Labels, values and their weights stay on the host, where they are checked and summed; outputs and their gradient are
    arrays of the device in use.
    """

    on_device = True
    _check: Callable[[np.ndarray, Shape], None]
    _of_rows: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

    def check(self, y_true: np.ndarray, output_shape: Shape) -> None:
        """Raise if these labels cannot belong to outputs of this shape."""
        self._check(y_true, output_shape)

    def forward(self, y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, Backward]:
        """The loss of each sample and its backward pass."""
        given = y_pred.shape
        if not given:
            raise ShapeError(f"{self.name}: y_pred is a single number and needs one axis at least")
        if len(given) == 1 and y_true.shape == (*given, 1):
            y_pred = y_pred.reshape(-1, 1)
        self.check(y_true, y_pred.shape)
        rows = y_pred.reshape(-1, y_pred.shape[-1])
        values, gradient = self._of_rows(rows, storage.put(self._targets(y_true, rows)))

        def backward(dvalues: np.ndarray) -> Any:
            factors = np.asarray(dvalues, gradient.dtype).reshape(-1)
            return ops.scale_rows(gradient, storage.put(factors)).reshape(given)

        return storage.get(values).reshape(y_pred.shape[:-1]), backward

    def _targets(self, y_true: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(y_true.reshape(rows.shape), rows.dtype)


class CategoricalCrossentropy(_RowLoss):
    """Crossentropy of one-hot labels (or class probabilities) and predicted probabilities (n, …, K).

    With `from_logits` the predictions are logits. `label_smoothing` mixes the labels with the uniform distribution.
    """

    _check = staticmethod(partial(labels.check_class_rows, "categorical_crossentropy"))

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        _check_axis("CategoricalCrossentropy", axis)
        self.from_logits = bool(from_logits)
        self.label_smoothing = _smoothing("CategoricalCrossentropy", label_smoothing)

    def _of_rows(self, rows: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        op = ops.softmax_cross_entropy if self.from_logits else ops.cross_entropy
        return op(rows, targets, label_smoothing=self.label_smoothing)


class SparseCategoricalCrossentropy(_RowLoss):
    """Crossentropy of class numbers (n, …) or (n, …, 1) and predicted probabilities (n, …, K), or logits."""

    _check = staticmethod(partial(labels.check_class_numbers, "sparse_categorical_crossentropy"))

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str | None = "sparse_categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        _check_axis("SparseCategoricalCrossentropy", axis)
        if ignore_class is not None:
            raise ArgumentError(
                f"SparseCategoricalCrossentropy(ignore_class={ignore_class!r}) is not supported: give those samples "
                "sample_weight 0 and any class, with reduction='mean_with_sample_weight'"
            )
        self.from_logits = bool(from_logits)

    def _targets(self, y_true: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(y_true.reshape(-1), np.int32)

    def _of_rows(self, rows: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (ops.sparse_softmax_cross_entropy if self.from_logits else ops.sparse_cross_entropy)(rows, targets)


class BinaryCrossentropy(_RowLoss):
    """Crossentropy of labels 0 … 1 and predicted probabilities (or logits) of that shape, the mean over the last axis.

    Labels (n,) fit outputs (n, 1). `label_smoothing` draws the labels towards 1/2.
    """

    _check = staticmethod(partial(labels.check_fractions, "binary_crossentropy"))

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "binary_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        _check_axis("BinaryCrossentropy", axis)
        self.from_logits = bool(from_logits)
        self.label_smoothing = _smoothing("BinaryCrossentropy", label_smoothing)

    def _of_rows(self, rows: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        op = ops.sigmoid_binary_cross_entropy if self.from_logits else ops.binary_cross_entropy
        return op(rows, targets, label_smoothing=self.label_smoothing)


class MeanSquaredError(_RowLoss):
    """(y_true - y_pred)², the mean over the last axis."""

    _check = staticmethod(partial(labels.check_targets, "mean_squared_error"))

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "mean_squared_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)

    def _of_rows(self, rows: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return ops.mean_squared_error(rows, targets)


class MeanAbsoluteError(_RowLoss):
    """|y_true - y_pred|, the mean over the last axis."""

    _check = staticmethod(partial(labels.check_targets, "mean_absolute_error"))

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "mean_absolute_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)

    def _of_rows(self, rows: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return ops.mean_absolute_error(rows, targets)


class Huber(_RowLoss):
    """Half the squared error where the error is at most `delta`, beyond that a line; the mean over the last axis."""

    _check = staticmethod(partial(labels.check_targets, "huber"))

    def __init__(
        self,
        delta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "huber_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        if not isinstance(delta, (int, float, np.number)) or not delta > 0:
            raise ArgumentError(f"Huber(delta={delta!r}) must be a number above 0")
        self.delta = float(delta)

    def _of_rows(self, rows: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return ops.huber(rows, targets, delta=self.delta)


class _FunctionLoss(Loss):
    """A user's function (y_true, y_pred) -> (values, backward)."""

    def __init__(self, function: Callable[[np.ndarray, np.ndarray], Any]) -> None:
        super().__init__(getattr(function, "__name__", "loss"))
        self.function = function

    def forward(self, y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, Backward]:
        """What the function returns."""
        result = self.function(y_true, y_pred)
        if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
            raise ArgumentError(
                f"the loss function {self.name} returned a {type(result).__name__}: it must return (values, backward), "
                "where backward(dvalues) gives the gradient of y_pred; gpucnn has no automatic differentiation"
            )
        return np.asarray(result[0]), result[1]


class _Crossentropy(Loss):
    """Keras' "crossentropy": binary, sparse or categorical, once the shapes of y and of the outputs are known."""

    on_device = True

    def __init__(self) -> None:
        super().__init__("crossentropy")
        self.chosen: Loss | None = None

    def check(self, y_true: np.ndarray, output_shape: Shape) -> None:
        """Choose, and raise if the labels do not fit the choice."""
        if output_shape[-1] == 1:
            self.chosen = BinaryCrossentropy()
        elif y_true.ndim < len(output_shape) or y_true.shape[-1] == 1:
            self.chosen = SparseCategoricalCrossentropy()
        else:
            self.chosen = CategoricalCrossentropy()
        self.chosen.check(y_true, output_shape)

    def forward(self, y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, Backward]:
        """The loss of each sample and its backward pass, by the loss that fits the shapes."""
        self.check(y_true, y_pred.shape)
        assert self.chosen is not None
        return self.chosen.forward(y_true, y_pred)


def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> np.ndarray:
    """The crossentropy of each sample, (n, …) float32."""
    return CategoricalCrossentropy(from_logits, label_smoothing, axis).values(y_true, y_pred)


def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: None = None, axis: int = -1
) -> np.ndarray:
    """The crossentropy of each sample, (n, …) float32."""
    return SparseCategoricalCrossentropy(from_logits, ignore_class, axis=axis).values(y_true, y_pred)


def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> np.ndarray:
    """The crossentropy of each sample, (n, …) float32."""
    return BinaryCrossentropy(from_logits, label_smoothing, axis).values(y_true, y_pred)


def mean_squared_error(y_true: Any, y_pred: Any) -> np.ndarray:
    """The squared error of each sample, (n, …) float32."""
    return MeanSquaredError().values(y_true, y_pred)


def mean_absolute_error(y_true: Any, y_pred: Any) -> np.ndarray:
    """The absolute error of each sample, (n, …) float32."""
    return MeanAbsoluteError().values(y_true, y_pred)


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> np.ndarray:
    """Huber's loss of each sample, (n, …) float32."""
    return Huber(delta).values(y_true, y_pred)


FUNCTIONS: dict[Callable, type[Loss]] = {
    categorical_crossentropy: CategoricalCrossentropy,
    sparse_categorical_crossentropy: SparseCategoricalCrossentropy,
    binary_crossentropy: BinaryCrossentropy,
    mean_squared_error: MeanSquaredError,
    mean_absolute_error: MeanAbsoluteError,
    huber: Huber,
}
"""The functions of this module and the class behind each."""


def get(identifier: Any) -> Any:
    """The loss behind a name, an object, a class, a description or a function; None stays None.

    "crossentropy" (or "ce") becomes binary, sparse or categorical when `check` or `forward` first sees shapes.
    """
    if isinstance(identifier, str):
        if identifier.lower() in _BY_SHAPE:
            return _Crossentropy()
        if identifier in ABSENT:
            raise absent_error("gpucnn.losses", identifier, ABSENT[identifier])
    elif callable(identifier) and not isinstance(identifier, (Loss, type)):
        return FUNCTIONS[identifier]() if identifier in FUNCTIONS else _FunctionLoss(identifier)
    return config.get(Loss, identifier, {"mse": MeanSquaredError, "mae": MeanAbsoluteError, "bce": BinaryCrossentropy})


def check_labels(loss: Loss, y_true: Any, output_shape: Shape) -> None:
    """Raise `DataError` or `ShapeError` if y_true cannot be the labels of outputs of this shape, batch axis first.

    The message names the mistake and its cure: class numbers for one-hot rows and the reverse, a label out of range, …
    """
    loss.check(np.asarray(y_true), tuple(output_shape))


def forward(loss: Loss, y_true: Any, y_pred: Any) -> tuple[np.ndarray, Callable[[np.ndarray], Any]]:
    """The loss of each sample on the host, and a backward pass from there to the device on which y_pred lies.

    A loss of yours computes with NumPy on the host, whichever device is in use.
    """
    if loss.on_device:
        return loss.forward(y_true, y_pred)
    values, backward = loss.forward(y_true, storage.get(y_pred))
    return np.asarray(values), lambda dvalues: storage.put(np.asarray(backward(dvalues), y_pred.dtype))


def from_logits_twin(loss: Loss, activation_name: str | None) -> Loss | None:
    """The same loss on logits, if it takes probabilities and belongs to that activation; else None.

    softmax belongs to the categorical crossentropies, sigmoid to the binary one.
    """
    if isinstance(loss, _Crossentropy):
        return None if loss.chosen is None else from_logits_twin(loss.chosen, activation_name)
    partners: dict[str | None, tuple[type[Loss], ...]] = {
        "softmax": (CategoricalCrossentropy, SparseCategoricalCrossentropy),
        "sigmoid": (BinaryCrossentropy,),
    }
    if type(loss) not in partners.get(activation_name, ()) or loss.get_config().get("from_logits"):
        return None
    return loss.from_config({**loss.get_config(), "from_logits": True})


def reduce(
    values: np.ndarray, sample_weight: Any = None, reduction: str | None = "sum_over_batch_size"
) -> tuple[Any, np.ndarray]:
    """One number from the losses of the samples, and its gradient by them.

    values         (n, …)
    sample_weight  (n,), (n, 1), or anything that broadcasts to values once axes are added at the end
    →              a float summed in float64 (with reduction "none": the weighted values), and dvalues like values
    """
    weights = _broadcast(sample_weight, values)
    weighted = values * weights
    if reduction in (None, "none"):
        return weighted, weights
    divisor = float(values.size)
    if reduction == "sum":
        divisor = 1.0
    elif reduction == "mean_with_sample_weight":
        divisor = float(weights.sum(dtype=np.float64))
    if divisor == 0.0:
        return 0.0, np.zeros_like(values)
    return float(weighted.sum(dtype=np.float64)) / divisor, weights / divisor


def _broadcast(sample_weight: Any, values: np.ndarray) -> np.ndarray:
    if sample_weight is None:
        return np.ones_like(values)
    weights = np.asarray(sample_weight, values.dtype)
    if weights.ndim == values.ndim + 1 and weights.shape[-1] == 1:
        weights = weights[..., 0]
    if weights.ndim:
        weights = weights.reshape(weights.shape + (1,) * (values.ndim - weights.ndim))
    try:
        return np.broadcast_to(weights, values.shape)
    except ValueError as error:
        given = np.shape(sample_weight)
        raise ShapeError(f"sample_weight has shape {given} and the losses {values.shape}: give one for each") from error


def _check_axis(owner: str, axis: Any) -> None:
    if axis != -1:
        raise ArgumentError(f"{owner}(axis={axis!r}): classes lie on the last axis in gpucnn; leave axis out")


def _smoothing(owner: str, label_smoothing: Any) -> float:
    if not isinstance(label_smoothing, (int, float, np.number)) or not 0 <= label_smoothing <= 1:
        raise ArgumentError(f"{owner}(label_smoothing={label_smoothing!r}) must be a number between 0 and 1")
    return float(label_smoothing)


_KERAS_ONLY = """
    BinaryFocalCrossentropy CategoricalFocalCrossentropy CategoricalGeneralizedCrossEntropy CategoricalHinge Circle
    CosineSimilarity CTC Dice Hinge KLDivergence LogCosh MeanAbsolutePercentageError MeanSquaredLogarithmicError Poisson
    SquaredHinge Tversky binary_focal_crossentropy categorical_focal_crossentropy categorical_generalized_cross_entropy
    categorical_hinge circle cosine_similarity ctc dice hinge kl_divergence kld KLD log_cosh logcosh
    mean_absolute_percentage_error mape MAPE mean_squared_logarithmic_error msle MSLE poisson squared_hinge tversky
"""

ABSENT = dict.fromkeys(
    _KERAS_ONLY.split(),
    "use a crossentropy, mean_squared_error, mean_absolute_error or huber, or write a function or a subclass of Loss",
)
