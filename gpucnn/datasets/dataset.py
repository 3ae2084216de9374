"""A data set in memory, checked when it is created."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..errors import ArgumentError, DataError
from ..models.signature import check_classes
from ..models.stored import StoredImages

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class ImageSet:
    """Images with class numbers, to test a model. Raises `DataError` if they do not match.

    x         (N, H, W, C), as in `Dataset`
    y         (N,) int64 of 0 … K-1
    classes   the K names
    origin    which images these are, in words
    note, warnings, path
              as in `Dataset`
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    classes: list[str]
    origin: str
    note: str | None = None
    warnings: list[str] = field(default_factory=list)
    path: Path | None = None

    def __post_init__(self) -> None:
        _check_classes(self.classes, self.name, _in(self.path))
        x, y = _pair(self.x, self.y, f"{self.name}: {{}}{_in(self.path)}", len(self.classes))
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "y", y)

    def with_classes_of(self, model: Sequence[str], common: bool = False) -> ImageSet:
        """The same images with the class numbers of a model, matched by the names of the classes.

        model   the names of the model's classes
        common  whether images of classes that the model does not know are left out, with a warning

        Raises `DataError` that names the classes which only one of the two has, unless `common`.
        """
        occurring = set(self.y.tolist())
        unknown = [name for number, name in enumerate(self.classes) if number in occurring and name not in model]
        missing = [name for name in model if name not in self.classes]
        if (unknown or missing) and not common:
            raise DataError(
                f"{self.name} holds images of {_listed(self.classes)}, and the model tells apart {_listed(model)}: "
                f"{_difference(unknown, missing)}; name the classes alike (in an .npz file by the array classes), or "
                "test only on the classes that both have with --common-classes"
            )
        numbers = {name: number for number, name in enumerate(model)}
        y = np.array([numbers.get(name, -1) for name in self.classes])[self.y]
        kept = y >= 0
        if not kept.any():
            raise DataError(f"{self.name} has no image of {_listed(model)}, which the model tells apart")
        if unknown or missing:
            counted = f"{np.count_nonzero(~kept)} images were left out: " if unknown else ""
            warnings.warn(f"{self.name}: {counted}{_difference(unknown, missing)}", stacklevel=3)
        return replace(self, x=self.x if kept.all() else self.x[kept], y=y[kept], classes=list(model))


@dataclass(frozen=True)
class Dataset:
    """Training and test images with class numbers. Raises `DataError` if they do not match.

    x_train, x_test  (N, H, W, C), uint8 of 0 … 255 or float32; other floats become float32, and a
                     missing C is added
    y_train, y_test  (N,) int64 of 0 … K-1
    classes          the K names, which are distinct
    note             a remark to print with every figure from these data, or None
    warnings         the warnings issued while reading
    path             the file or folder that was read
    x_val, y_val     validation images and labels, or None
    split            how the images were divided, in words; empty for published data sets

    x_train may be `StoredImages`, which stay in a file.
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
    x_val: np.ndarray | None = None
    y_val: np.ndarray | None = None
    split: str = ""

    def __post_init__(self) -> None:
        where = _in(self.path)
        _check_classes(self.classes, self.name, where)
        if len(self.classes) < 2:
            raise DataError(f"{self.name} has one class{where}: two or more are needed to tell them apart")
        for part, word in (("train", "training"), ("test", "test"), ("val", "validation")):
            x, y = (getattr(self, f"{letter}_{part}") for letter in "xy")
            if x is None and y is None:
                continue
            x, y = _pair(x, y, f"{self.name}: {{}}_{part}{where}", len(self.classes))
            object.__setattr__(self, f"x_{part}", x)
            object.__setattr__(self, f"y_{part}", y)
            if x.shape[1:] != self.x_train.shape[1:]:
                raise DataError(
                    f"{self.name}: the training images are {self.x_train.shape[1:]} and the {word} images "
                    f"{x.shape[1:]} (H, W, C){where}: make them equal"
                )

    @property
    def test(self) -> ImageSet:
        """The test images."""
        return ImageSet(
            self.name, self.x_test, self.y_test, self.classes, "the test images", self.note, self.warnings, self.path
        )


def keras_pairs(dataset: Dataset) -> tuple[Pair, Pair]:
    """The four arrays as Keras returns them for grey images: (N, H, W) and (N,), all uint8."""
    return (
        (dataset.x_train[..., 0], dataset.y_train.astype(np.uint8)),
        (dataset.x_test[..., 0], dataset.y_test.astype(np.uint8)),
    )


def _pair(x: np.ndarray | None, y: np.ndarray | None, what: str, classes: int) -> Pair:
    """Images and labels that belong together, checked; `what` has {} for "x" or "y"."""
    for letter, array in (("x", x), ("y", y)):
        if array is None:
            raise DataError(f"{what.format(letter)} is missing: images and labels belong together")
    assert x is not None and y is not None
    x, y = _images(x, what.format("x")), _labels(y, what.format("y"), classes)
    if len(x) != len(y):
        raise DataError(f"{what.format('x')} has {len(x)} images but {len(y)} labels: give one label per image")
    return x, y


def _check_classes(classes: Sequence[str], name: str, where: str) -> None:
    try:
        check_classes(classes)
    except ArgumentError as error:
        raise DataError(f"{name}: {error}{where}") from error


def _in(path: Path | None) -> str:
    return f" in {path}" if path else ""


def _images(x: np.ndarray, what: str) -> np.ndarray:
    if isinstance(x, StoredImages):
        return x
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or 0 in x.shape:
        raise DataError(f"{what} has shape {x.shape}: images are (N, H, W) or (N, H, W, C), with no axis of 0")
    if x.shape[1] in (1, 3, 4) and min(x.shape[2:]) > 4:
        raise DataError(
            f"{what} has shape {x.shape}: the channels come first, and gpucnn has them last (N, H, W, C); "
            "save np.moveaxis(x, 1, -1)"
        )
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


def _listed(names: Sequence[str]) -> str:
    """The names in one sentence, not more than ten of them."""
    return ", ".join(names) if len(names) <= 10 else f"{', '.join(names[:10])} and {len(names) - 10} more"


def _difference(unknown: Sequence[str], missing: Sequence[str]) -> str:
    parts = [f"the model does not know {_listed(unknown)}"] if unknown else []
    return " and ".join(parts + ([f"there is no image of {_listed(missing)}"] if missing else []))
