"""A user's data set in one .npz file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError, printable
from . import npz, stored
from .dataset import Dataset, ImageSet

_TRAIN, _TEST, _VAL = ("x_train", "y_train"), ("x_test", "y_test"), ("x_val", "y_val")


def load(path: Path, stream: bool | None = None) -> Dataset:
    """Load x_train, y_train, x_test, y_test (see `Dataset`) and, optionally, x_val, y_val and the
    names `classes`; a warning names all other arrays.

    stream  whether x_train stays in a file; None if it does not fit into the memory

    Raises `DataError`.
    """
    if stream is None:
        stream = stored.is_needed(npz.size_of(path, "x_train"))
    arrays = npz.read(path, ("y_train", *_TEST) if stream else (*_TRAIN, *_TEST), (*_VAL, "classes"))
    if stream:
        arrays["x_train"] = stored.of_npz(path, "x_train")  # type: ignore[assignment]
    others = [name for name in npz.names(path) if name not in (*_TRAIN, *_TEST, *_VAL, "classes")]
    ignored = [f"{path}: the arrays {printable(', '.join(others))} are not used"] if others else []
    (x_train, y_train), (x_test, y_test) = ((arrays[x], arrays[y]) for x, y in (_TRAIN, _TEST))
    x_val, y_val = map(arrays.get, _VAL)
    return Dataset(
        path.stem,
        x_train,
        y_train,
        x_test,
        y_test,
        _classes(path, arrays),
        warnings=ignored,
        path=path,
        x_val=x_val,
        y_val=y_val,
        split="x_train and x_test of the file" + (", x_val for validation" if "x_val" in arrays else ""),
    )


def load_to_test(path: Path) -> ImageSet:
    """Load x_test and y_test, and the names `classes`, to test a model."""
    arrays = npz.read(path, _TEST, ("classes", "y_train"))
    x, y = (arrays[name] for name in _TEST)
    return ImageSet(path.stem, x, y, _classes(path, arrays), f"x_test of {path}", path=path)


def _classes(path: Path, arrays: dict[str, np.ndarray]) -> list[str]:
    """The names of the classes; without `classes`, the numbers from 0 to the highest label."""
    names = arrays.get("classes")
    if names is not None:
        if names.ndim == 1 and names.dtype.kind == "U":
            return names.tolist()
        raise DataError(
            f"{path}: classes is {names.dtype} of shape {names.shape}: give names, np.array(['cat', 'dog'])"
        )
    labels: Sequence[np.ndarray] = [arrays[name] for name in ("y_train", "y_test", "y_val") if name in arrays]
    highest = max((int(y.max()) for y in labels if y.size and y.dtype.kind in "iu"), default=0)
    count = sum(y.size for y in labels)
    if highest >= max(count, 2):
        raise DataError(f"{path}: a label is {highest}, but there are {count} images: class numbers go from 0 to K - 1")
    return [str(i) for i in range(highest + 1)]
