"""Checks that labels can belong to the outputs of a model; errors name the mistake and its cure.

Each check takes the name of the loss (for the message), the labels, and the shape of the outputs
with the batch axis first: None, or the number of samples. `DataError` means the wrong kind of
labels, `ShapeError` the wrong shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import numbers
from ..errors import DataError, ShapeError

Shape = tuple[int | None, ...]


def check_class_rows(name: str, y_true: np.ndarray, output_shape: Shape) -> None:
    """One row of class probabilities for each sample, such as one-hot labels."""
    classes = _check_classes(name, output_shape)
    if _is_one_per_sample(y_true.shape, output_shape):
        raise DataError(
            f"y_true has shape {y_true.shape}, one class number for each sample, and {name} needs one row of {classes} "
            f"probabilities: use sparse_{name}, or utils.to_categorical(y, {classes})"
        )
    if not fits(y_true.shape, output_shape):
        raise _wrong_shape(name, y_true, output_shape)
    _check_range(name, y_true, 0.0, np.inf, "probabilities of classes cannot be negative")


def check_class_numbers(name: str, y_true: np.ndarray, output_shape: Shape) -> None:
    """One class number for each sample, counted from 0."""
    classes = _check_classes(name, output_shape)
    if not _is_one_per_sample(y_true.shape, output_shape):
        if fits(y_true.shape, output_shape):
            raise DataError(
                f"y_true has shape {y_true.shape}, one row of {classes} values for each sample, and {name} needs one "
                f"class number: use {name.removeprefix('sparse_')}, or y.argmax(axis=-1)"
            )
        raise _wrong_shape(name, y_true, output_shape)
    _check_finite(name, y_true)
    if y_true.dtype.kind == "f" and (y_true != np.floor(y_true)).any():
        at, value = _first(y_true, y_true != np.floor(y_true))
        raise DataError(
            f"the label at {at} is {value} and {name} needs whole class numbers: give integers, or use "
            "mean_squared_error for measurements"
        )
    if y_true.size and y_true.min() == 1 and y_true.max() == classes:
        raise DataError(f"the labels are 1 … {classes} and {name} counts classes from 0: give y - 1")
    cure = f"the model has {classes} outputs, for the classes 0 … {classes - 1}"
    _check_range(name, y_true, 0, classes - 1, cure)


def check_fractions(name: str, y_true: np.ndarray, output_shape: Shape) -> None:
    """A value of 0 … 1 for each output; (n,) fits outputs (n, 1)."""
    if output_shape[-1:] == (1,) and fits(y_true.shape, (*output_shape[:-1], 2)):
        raise ShapeError(
            f"y_true has shape {y_true.shape} and the model one output: give y[:, 1], or use 2 outputs with softmax "
            "and categorical_crossentropy"
        )
    check_targets(name, y_true, output_shape)
    if y_true.size and y_true.min() == -1 and y_true.max() == 1:
        raise DataError(f"the labels are -1 and 1 and {name} needs 0 and 1: give (y + 1) / 2")
    _check_range(name, y_true, 0, 1, "for more than two classes use sparse_categorical_crossentropy")


def check_targets(name: str, y_true: np.ndarray, output_shape: Shape) -> None:
    """A finite number for each output; (n,) fits outputs (n, 1)."""
    one_per_sample = _is_one_per_sample(y_true.shape, output_shape)
    if not fits(y_true.shape, output_shape) and not (one_per_sample and output_shape[-1] == 1):
        if one_per_sample:
            raise DataError(
                f"y_true has shape {y_true.shape}, one number for each sample, and {name} needs one for each of the "
                f"model's {output_shape[-1]} outputs: for class numbers use sparse_categorical_crossentropy"
            )
        raise _wrong_shape(name, y_true, output_shape)
    _check_finite(name, y_true)


def kind_of(y_shape: Shape, output_shape: Shape) -> str:
    """The crossentropy and accuracy for labels: "binary", "sparse_categorical" or "categorical"."""
    if output_shape[-1] == 1:
        return "binary"
    if len(y_shape) < len(output_shape) or y_shape[-1] == 1:
        return "sparse_categorical"
    return "categorical"


def aligned(y_true: np.ndarray, y_pred: Any) -> tuple[np.ndarray, Any]:
    """Both with a last axis of 1 if one of them has it: (n,) and (n, 1) would make (n, n)."""
    if y_pred.shape == (*y_true.shape, 1):
        y_true = y_true.reshape(y_pred.shape)
    elif y_true.shape == (*y_pred.shape, 1):
        y_pred = y_pred.reshape(y_true.shape)
    return y_true, y_pred


def alike(name: str, y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays of one shape, a last axis of 1 added to the one that lacks it."""
    y_true, y_pred = aligned(numbers("y_true", y_true), numbers("y_pred", y_pred))
    if y_true.shape != y_pred.shape:
        hint = "; utils.to_categorical(y) makes rows of class numbers" if y_true.shape == y_pred.shape[:-1] else ""
        raise ShapeError(f"{name} needs y_true and y_pred of one shape and got {y_true.shape} and {y_pred.shape}{hint}")
    return y_true, y_pred


def fits(shape: tuple[int, ...], pattern: Shape) -> bool:
    """Whether a shape equals a pattern in which None stands for any extent."""
    return len(shape) == len(pattern) and all(p is None or e == p for e, p in zip(shape, pattern, strict=True))


def _is_one_per_sample(shape: tuple[int, ...], output_shape: Shape) -> bool:
    return fits(shape, output_shape[:-1]) or fits(shape, (*output_shape[:-1], 1))


def _check_classes(name: str, output_shape: Shape) -> int:
    if not output_shape or output_shape[-1] == 0:
        raise ShapeError(f"{name}: y_pred of shape {output_shape} has no outputs: it needs one for each class")
    classes = output_shape[-1] or 0
    if classes == 1:
        raise ShapeError(
            f"{name} needs one output for each class and the model has 1: give the last layer as many units as there "
            "are classes, or use binary_crossentropy with a sigmoid"
        )
    return classes


def _check_finite(name: str, y_true: np.ndarray) -> None:
    if y_true.dtype.kind not in "biuf":
        raise DataError(f"the labels for {name} have dtype {y_true.dtype}: give numbers, such as class numbers from 0")
    if y_true.dtype.kind == "f" and not np.isfinite(y_true).all():
        at, value = _first(y_true, ~np.isfinite(y_true))
        raise DataError(f"the label at {at} is {value}: remove that sample or repair its label")


def _check_range(name: str, y_true: np.ndarray, low: float, high: float, cure: str) -> None:
    _check_finite(name, y_true)
    if y_true.size and (y_true.min() < low or y_true.max() > high):
        at, value = _first(y_true, (y_true < low) | (y_true > high))
        raise DataError(f"the label at {at} is {value}, out of range for {name}: {cure}")


def _first(y_true: np.ndarray, wrong: np.ndarray) -> tuple[str, Any]:
    """The place and the value of the first wrong label."""
    place = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return f"y[{', '.join(str(int(i)) for i in place)}]", y_true[place].item()


def _wrong_shape(name: str, y_true: np.ndarray, output_shape: Shape) -> ShapeError:
    outputs = str(tuple("n" if e is None else e for e in output_shape)).replace("'", "")
    cure = "y and the model's last layer must agree"
    if y_true.shape[:1] != output_shape[:1] and output_shape[0] is not None:
        cure = "both need the same number of samples"
    elif y_true.ndim == len(output_shape) and y_true.shape[-1] != output_shape[-1]:
        cure = f"y has {y_true.shape[-1]} columns and the model {output_shape[-1]} outputs; make them equal"
    elif y_true.ndim < len(output_shape) - 1:
        cure = "put layers.Flatten() or a global pooling before the Dense layers, for one row of outputs a sample"
    return ShapeError(f"{name}: y_true has shape {y_true.shape} and the outputs have shape {outputs}: {cure}")


def class_numbers(y: np.ndarray) -> np.ndarray | None:
    """The class number of each sample, from class numbers or one-hot rows; None if y is neither."""
    if y.ndim == 2 and y.shape[1] > 1:
        return y.argmax(axis=1)
    flat = y.reshape(len(y), -1)
    if flat.shape[1] == 1 and np.all(flat == np.floor(flat)) and flat.min() >= 0:
        return flat[:, 0].astype(np.int64)
    return None
