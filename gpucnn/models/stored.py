"""Images that stay in a file until a batch needs them.

The file is NumPy's .npy, which any program writes and NumPy maps into memory: random rows of it cost one
read each, without a further library or a format of gpucnn's. It is mapped anew for each read, so that
no page of it counts as memory of the process afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import Checked, PathLike, Positive
from ..errors import DataError
from ..files import explained

BLOCK = 256
"""Images that follow each other in the file and stay near each other in an epoch."""

NEAR = 32
"""Blocks whose images are shuffled together."""


class StoredImages(Checked):
    """The images of an .npy file, as `fit`, `evaluate` and `predict` take them.

    path     the file: (N, H, W, C), uint8 or float32
    divisor  what uint8 is divided by when it is read, as float32; None reads the values as they are

    `x[rows]` reads the rows of a slice or of an array of numbers. Training shuffles blocks of
    256 images, and images within 32 blocks: the order differs from that of arrays, and is the same from
    run to run. Raises `DataError` for a file that holds something else.

    >>> x = datasets.StoredImages("x_train.npy", divisor=255)
    >>> model.fit(x, np.load("y_train.npy"))
    """

    def __init__(self, path: PathLike, divisor: Positive | None = None) -> None:
        self.path, self.divisor = Path(path), divisor
        self._rows: np.ndarray | None = None
        with explained("read", self.path):
            try:
                array = np.load(self.path, mmap_mode="r", allow_pickle=False)
            except (ValueError, EOFError) as error:
                raise DataError(f"{path} is not an intact .npy file ({error}): write it with np.save") from error
        if not isinstance(array, np.ndarray) or array.ndim < 2 or array.dtype not in (np.uint8, np.float32):
            found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "an archive"
            raise DataError(f"{path} holds {found}: images are uint8 or float32 of two axes or more")
        self._shape, self._stored = array.shape, array.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        return self._shape if self._rows is None else (len(self._rows), *self._shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """Of what is read."""
        return self._stored if self.divisor is None else np.dtype(np.float32)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self._shape)

    @property
    def size(self) -> int:
        """The number of values."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.size * self._stored.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        if self._rows is not None:
            rows = self._rows[rows]
        values = np.array(np.load(self.path, mmap_mode="r")[rows])
        return values if self.divisor is None else np.divide(values, np.float32(self.divisor), dtype=np.float32)

    def scaled(self, divisor: float) -> StoredImages:
        """The same images, divided by `divisor`."""
        return self._like(divisor, self._rows)

    def chosen(self, rows: np.ndarray) -> StoredImages:
        """Some of the images, in this order."""
        return self._like(self.divisor, rows if self._rows is None else self._rows[rows])

    def blocks(self) -> Iterator[np.ndarray]:
        """All images in their order, some at a time."""
        for start in range(0, len(self), BLOCK):
            yield self[start : start + BLOCK]

    def _like(self, divisor: float | None, rows: np.ndarray | None) -> StoredImages:
        copy = StoredImages(self.path, divisor)
        copy._rows = rows
        return copy
