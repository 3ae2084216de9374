"""What every loss is, as in Keras 3, and how the losses of samples become one number.

Called, a loss gives one number: `MeanSquaredError()(y_true, y_pred)`. Training uses `forward`,
which returns the loss of each sample together with its backward pass. Your own loss is such a
function, or a subclass of `Loss` with such a `forward`:

    def squared(y_true, y_pred):
        error = y_pred - y_true
        return (error**2).mean(axis=-1), lambda dvalues: dvalues[:, None] * 2 * error / error.shape[-1]

    model.compile("sgd", loss=squared)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from ..arguments import float32, numbers
from ..config import Configurable, snake_case
from ..devices import storage
from ..errors import ArgumentError, ShapeError
from ..ops import loss as ops
from .labels import Shape, aligned

Backward = Callable[[np.ndarray], np.ndarray]

Reduction = Literal["sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none"] | None
"""How the losses of the samples become one number."""


class Loss(Configurable):
    """Base of all losses. A subclass defines `forward`.

    reduction  "sum_over_batch_size" or "mean": the weighted sum divided by the number of values;
               "mean_with_sample_weight": divided by the sum of the weights; "sum": the weighted
               sum; "none" or None: no reduction, an array.
    """

    on_device = False
    """Whether predictions, their gradient and the values are arrays on the device in use."""
    by_sample = True
    """Whether the loss of a sample depends on that sample alone, so that a batch can be computed in parts."""

    def __init__(
        self, name: str | None = None, reduction: Reduction = "sum_over_batch_size", dtype: Any = None
    ) -> None:
        owner = type(self).__name__
        float32(owner, dtype, "losses compute in float32")
        self.name = name or snake_case(owner)
        self.reduction = reduction

    def forward(self, y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, Backward]:
        """The loss of each sample and its backward pass.

        y_true   (n, …) as passed to fit; (n,) becomes (n, 1) for outputs (n, 1)
        y_pred   (n, …, K)
        →        values (n, …), and backward: dvalues (n, …) → dy_pred (n, …, K)

        All are arrays on the host; with `on_device`, y_pred, values and dy_pred are on the device
        in use.
        """
        keras = "; without automatic differentiation, Keras' call() is not enough" if hasattr(self, "call") else ""
        raise NotImplementedError(
            f"{type(self).__name__} must define forward(y_true, y_pred) -> (values, backward){keras}"
        )

    def check(self, y_true: np.ndarray, output_shape: Shape) -> None:
        """Raise if these labels cannot belong to outputs of this shape (batch axis first)."""

    def values(self, y_true: Any, y_pred: Any) -> np.ndarray:
        """The loss of each sample, (n, …) float32."""
        return storage.get(
            forward(self, numbers("y_true", y_true), storage.put(np.asarray(numbers("y_pred", y_pred), np.float32)))[0]
        )

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The reduced loss: a float, or an array with reduction "none"."""
        return reduce(self.values(y_true, y_pred), sample_weight, self.reduction)[0]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


class RowLoss(Loss, abstract=True):
    """A loss that one op computes from rows of outputs and rows of labels.

    Labels and weights stay on the host, where they are checked; outputs, their gradient and the
    values are arrays on the device in use.
    """

    on_device = True
    _check: Callable[[np.ndarray, Shape], None]

    def check(self, y_true: np.ndarray, output_shape: Shape) -> None:
        """Raise if these labels cannot belong to outputs of this shape."""
        self._check(y_true, output_shape)

    def forward(self, y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, Backward]:
        """The loss of each sample and its backward pass."""
        shape = y_pred.shape
        if not shape:
            raise ShapeError(f"{self.name}: y_pred is a single number and needs at least one axis")
        if len(shape) == 1 and y_true.shape == (*shape, 1):
            y_pred = y_pred.reshape(-1, 1)
        self.check(y_true, y_pred.shape)
        rows = y_pred.reshape(-1, y_pred.shape[-1])
        values, gradient = self.of_rows(rows, storage.put(self.targets(y_true, rows.shape, rows.dtype)))

        def backward(dvalues: np.ndarray) -> Any:
            factors = np.asarray(dvalues, gradient.dtype).reshape(-1)
            return ops.scale_rows(gradient, storage.put(factors)).reshape(shape)

        return values.reshape(y_pred.shape[:-1]), backward

    def targets(self, y_true: np.ndarray, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        """The labels as `of_rows` takes them, for rows of outputs (N, K): by default, such rows."""
        return np.ascontiguousarray(y_true.reshape(shape), dtype)

    def of_rows(self, rows: Any, targets: Any) -> tuple[Any, Any]:
        """The loss of each row (N,) and its gradient by the rows (N, K), all on the device."""
        raise NotImplementedError


class FunctionLoss(Loss, abstract=True):
    """A loss that calls a user's function (y_true, y_pred) -> (values, backward)."""

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


def check_labels(loss: Loss, y_true: Any, output_shape: Shape) -> None:
    """Raise `DataError` or `ShapeError` if y_true cannot be the labels of outputs of this shape.

    The batch axis comes first, None or n. The message names the mistake and its cure: class numbers
    for one-hot rows and the reverse, a label out of range, …
    """
    loss.check(np.asarray(y_true), tuple(output_shape))


def forward(loss: Loss, y_true: Any, y_pred: Any) -> tuple[Any, Callable[[np.ndarray], Any]]:
    """The loss of each sample, on any device, and a backward pass to the one that holds y_pred.

    A user's loss computes with NumPy on the host, whichever device is in use. Raises `ShapeError`
    if what it returns does not fit the outputs.
    """
    if loss.on_device:
        return loss.forward(aligned(y_true, y_pred)[0], y_pred)
    targets, outputs = aligned(y_true, storage.get(y_pred))
    values, own_backward = loss.forward(targets, outputs)
    values = np.asarray(values)
    shapes = f"y_true has shape {targets.shape} and the outputs {outputs.shape}"
    if values.ndim and len(values) != len(outputs):
        raise ShapeError(f"{loss.name} returned values of shape {values.shape} for {len(outputs)} samples: {shapes}")

    def backward(dvalues: np.ndarray) -> Any:
        gradient = np.asarray(own_backward(dvalues), y_pred.dtype)
        if gradient.shape != outputs.shape:
            raise ShapeError(f"{loss.name} returned a gradient of shape {gradient.shape}, not that of y_pred: {shapes}")
        return storage.put(gradient.reshape(y_pred.shape))

    return values, backward


def reduce(
    values: np.ndarray, sample_weight: Any = None, reduction: str | None = "sum_over_batch_size"
) -> tuple[Any, np.ndarray]:
    """One number from the losses of the samples, and its gradient by them.

    values         (n, …)
    sample_weight  (n,), (n, 1), or anything that broadcasts to values with axes added at the end
    →              a float summed in float64 (with reduction "none": the weighted values), and
                   dvalues, shaped like values
    """
    weights, divisor = _weights(values, sample_weight, reduction)
    weighted = values * weights
    if reduction in (None, "none"):
        return weighted, weights
    total = float(weighted.sum(dtype=np.float64)) / divisor if divisor else 0.0
    return total, shares(values, sample_weight, reduction)


def reduce_each(values: np.ndarray, reduction: str | None) -> list[float]:
    """What `reduce` makes of the values of each batch (batches, n, …) without weights, to the bit."""
    size = math.prod(values.shape[1:])
    sums = values.reshape(len(values), size).sum(axis=1, dtype=np.float64)
    return (sums / (1.0 if reduction == "sum" else size)).tolist()


def shares(values: Any, sample_weight: Any, reduction: str | None) -> np.ndarray:
    """The gradient of the reduced loss by the values, (n, …) on the host.

    It depends on their shape alone: on a device, the values need not be there yet.
    """
    weights, divisor = _weights(values, sample_weight, reduction)
    return weights / divisor if divisor else np.zeros(values.shape, values.dtype)


def _weights(values: Any, sample_weight: Any, reduction: str | None) -> tuple[np.ndarray, float]:
    """The weight of each value, and what their sum is divided by."""
    weights = _broadcast(sample_weight, values)
    if reduction in ("sum", "none", None):
        return weights, 1.0
    by_weight = reduction == "mean_with_sample_weight"
    return weights, float(weights.sum(dtype=np.float64)) if by_weight else float(weights.size)


def _broadcast(sample_weight: Any, values: Any) -> np.ndarray:
    """One weight for each value."""
    if sample_weight is None:
        return np.ones(values.shape, values.dtype)
    weights = np.asarray(sample_weight, values.dtype)
    if weights.ndim == values.ndim + 1 and weights.shape[-1] == 1:
        weights = weights[..., 0]
    if weights.ndim:
        weights = weights.reshape(weights.shape + (1,) * (values.ndim - weights.ndim))
    try:
        return np.broadcast_to(weights, values.shape)
    except ValueError as error:
        shape = np.shape(sample_weight)
        raise ShapeError(f"sample_weight has shape {shape} and the losses {values.shape}: give one for each") from error
