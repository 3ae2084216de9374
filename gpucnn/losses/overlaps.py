"""Losses of regions of images: how little a predicted region and the true one overlap."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arguments import NotNegative, checked
from ..devices import storage
from ..errors import ArgumentError, ShapeError
from ..ops import row_losses as ops
from ..ops.loss import EPSILON, scale_rows
from ..ops.reshaping import transpose
from . import labels
from .labels import Shape
from .loss import Backward, Loss, Reduction


class Overlap(Loss, abstract=True):
    """Base of losses that look at all values along some axes together.

    `axis` names them: None for all, the batch included, as in Keras. There is a value for each place
    along the other axes.
    """

    on_device = True
    by_sample = False

    def __init__(self, axis: Any, /, *common: Any) -> None:
        super().__init__(*common)
        axes = axis if isinstance(axis, (tuple, list)) else (axis,)
        if axis is not None and (not axes or not all(type(number) is int for number in axes)):
            raise ArgumentError(
                f"{type(self).__name__}(axis={axis!r}): give axes in a tuple, such as (1, 2, 3), or None"
            )
        self.axis = None if axis is None else tuple(axes)

    def of_rows(self, rows: Any, targets: Any) -> tuple[Any, Any]:
        """The loss of each row (N,) and its gradient by the rows (N, K)."""
        raise NotImplementedError

    def check(self, y_true: np.ndarray, output_shape: Shape) -> None:
        """Raise if these labels cannot belong to outputs of this shape."""
        labels.check_targets(self.name, y_true, output_shape)
        self._axes(len(output_shape))

    def forward(self, y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, Backward]:
        """The losses and their backward pass."""
        if not y_pred.shape:
            raise ShapeError(f"{self.name}: y_pred is a single number and needs at least one axis")
        self.check(y_true, y_pred.shape)
        shape, reduced = y_pred.shape, self._axes(y_pred.ndim)
        order = (*(axis for axis in range(len(shape)) if axis not in reduced), *reduced)
        kept = tuple(shape[axis] for axis in order[: len(shape) - len(reduced)])
        rows = math.prod(kept), math.prod(shape[axis] for axis in reduced)
        turned = tuple(shape[axis] for axis in order)
        targets = np.ascontiguousarray(y_true.reshape(shape).transpose(order), y_pred.dtype).reshape(rows)
        values, gradient = self.of_rows(transpose(y_pred, axes=order).reshape(rows), storage.put(targets))

        def backward(dvalues: np.ndarray) -> Any:
            factors = storage.put(np.asarray(dvalues, gradient.dtype).reshape(-1))
            back = tuple(order.index(axis) for axis in range(len(shape)))
            return transpose(scale_rows(gradient, factors).reshape(turned), axes=back)

        return values.reshape(kept), backward

    def _axes(self, rank: int) -> tuple[int, ...]:
        """The axes that are looked at together, counted from 0."""
        axes = range(rank) if self.axis is None else self.axis
        numbers = sorted({axis % rank for axis in axes if -rank <= axis < rank})
        if len(numbers) < len(axes):
            raise ArgumentError(f"{self.name}: axis={self.axis} of outputs of {rank} axes, batch included")
        return tuple(numbers)


class Dice(Overlap):
    """1 - 2 · Σ y_true · y_pred / (Σ y_true + Σ y_pred), for regions as values of 0 … 1.

    axis  axes of the sums: None for all; (1, 2, 3) for each image
    """

    def __init__(
        self,
        reduction: Reduction = "sum_over_batch_size",
        name: str | None = "dice",
        axis: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(axis, name, reduction, dtype)

    def of_rows(self, rows: Any, targets: Any) -> tuple[Any, Any]:
        """The loss of each row (N,) and its gradient by the rows (N, K)."""
        return ops.overlap(rows, targets, alpha=0.5, beta=0.5, epsilon=EPSILON / 2)


class Tversky(Overlap):
    """1 - I / (I + alpha · Σ y_true · (1 - y_pred) + beta · Σ y_pred · (1 - y_true)), I = Σ y_true · y_pred.

    alpha  how much what is missed counts
    beta   how much what is wrongly predicted counts
    axis   axes of the sums: None for all; (1, 2, 3) for each image
    """

    def __init__(
        self,
        alpha: NotNegative = 0.5,
        beta: NotNegative = 0.5,
        reduction: Reduction = "sum_over_batch_size",
        name: str | None = "tversky",
        axis: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(axis, name, reduction, dtype)
        self.alpha, self.beta = float(alpha), float(beta)

    def of_rows(self, rows: Any, targets: Any) -> tuple[Any, Any]:
        """The loss of each row (N,) and its gradient by the rows (N, K)."""
        return ops.overlap(rows, targets, alpha=self.alpha, beta=self.beta, epsilon=EPSILON)


def dice(y_true: Any, y_pred: Any, axis: Any = None) -> np.ndarray:
    """One minus the coefficient of Dice, for each place along the axes that are not summed."""
    return Dice(axis=axis).values(y_true, y_pred)


@checked
def tversky(
    y_true: Any, y_pred: Any, alpha: NotNegative = 0.5, beta: NotNegative = 0.5, axis: Any = None
) -> np.ndarray:
    """One minus the index of Tversky, for each place along the axes that are not summed."""
    return Tversky(alpha, beta, axis=axis).values(y_true, y_pred)
