"""A data set in memory, checked when it is created."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import DataError

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Dataset:
    """Training and test images with class numbers. Raises `DataError` if they do not match.

    x_train, x_test  (N, H, W, C), uint8 of 0 … 255 or float32; other floats become float32, and a
                     missing C is added
    y_train, y_test  (N,) int64 of 0 … K-1
    classes          the K names
    note             a remark to print with every figure from these data, or None
    warnings         the warnings issued while reading
    path             the file or folder that was read
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: list[str]
    note: str | None = None
    warnings: list[str] = field(default_factory=list)
    path: Path | None = None

    def __post_init__(self) -> None:
        where = f" in {self.path}" if self.path else ""
        for split in ("train", "test"):
            x, y = (getattr(self, f"{letter}_{split}") for letter in "xy")
            object.__setattr__(self, f"x_{split}", _images(x, f"{self.name}: x_{split}{where}"))
            object.__setattr__(self, f"y_{split}", _labels(y, f"{self.name}: y_{split}{where}", len(self.classes)))
            if len(x) != len(y):
                raise DataError(
                    f"{self.name}: {len(x)} images but {len(y)} labels for {split}{where}: give one label per image"
                )
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise DataError(
                f"{self.name}: the training images are {self.x_train.shape[1:]} and the test images "
                f"{self.x_test.shape[1:]} (H, W, C){where}: make them equal"
            )


def keras_pairs(dataset: Dataset) -> tuple[Pair, Pair]:
    """The four arrays as Keras returns them for grey images: (N, H, W) and (N,), all uint8."""
    return (
        (dataset.x_train[..., 0], dataset.y_train.astype(np.uint8)),
        (dataset.x_test[..., 0], dataset.y_test.astype(np.uint8)),
    )


def _images(x: np.ndarray, what: str) -> np.ndarray:
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or 0 in x.shape:
        raise DataError(f"{what} has shape {x.shape}: images are (N, H, W) or (N, H, W, C), with no axis of 0")
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind != "f":
        raise DataError(f"{what} is {x.dtype}: images are uint8 of 0 … 255 or float32; convert with astype")
    x = x.astype(np.float32, copy=False)
    if not np.isfinite(x).all():
        raise DataError(f"{what} has values that are not finite numbers: remove them")
    return x


def _labels(y: np.ndarray, what: str, classes: int) -> np.ndarray:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise DataError(
            f"{what} has shape {y.shape}: class numbers (N,) are required; from one-hot rows, use np.argmax(y, axis=1)"
        )
    if y.dtype.kind not in "iu":
        raise DataError(f"{what} is {y.dtype}: class numbers are integers; convert with astype('int64')")
    outside = np.flatnonzero((y < 0) | (y >= classes))
    if outside.size:
        raise DataError(
            f"{what}[{outside[0]}] is {y[outside[0]]}: with {classes} classes the labels are 0 … {classes - 1}"
        )
    return y.astype(np.int64, copy=False)
