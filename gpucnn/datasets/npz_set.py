"""A user's data set in one .npz file."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError
from . import npz
from .dataset import Dataset

_ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def load(path: Path) -> Dataset:
    """Load x_train, y_train, x_test, y_test (see `Dataset`) and, optionally, the names `classes`.

    Raises `DataError`.
    """
    arrays = npz.read(path, _ARRAYS, ("classes",))
    names = arrays.get("classes")
    if names is None:
        labels = [arrays[name] for name in ("y_train", "y_test")]
        highest = max((int(y.max()) for y in labels if y.size and y.dtype.kind in "iu"), default=0)
        count = sum(y.size for y in labels)
        if highest >= max(count, 2):
            raise DataError(
                f"{path}: a label is {highest}, but there are {count} images: class numbers go from 0 to K - 1"
            )
        classes = [str(i) for i in range(highest + 1)]
    elif names.ndim == 1 and names.dtype.kind == "U":
        classes = names.tolist()
    else:
        raise DataError(
            f"{path}: classes is {names.dtype} of shape {names.shape}: give names, np.array(['cat', 'dog'])"
        )
    x_train, y_train, x_test, y_test = (arrays[name] for name in _ARRAYS)
    return Dataset(path.stem, x_train, y_train, x_test, y_test, classes, path=path)
