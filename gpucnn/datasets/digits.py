"""The embedded data set: 1,797 handwritten digits from UCI (Alpaydin and Kaynak 1998, test part).

Scans of the digits of 13 people, reduced to 8×8 counts of 0 … 16, as scikit-learn ships them;
NOTICE has licence and citation. `data/digits.npz` holds `images` (1797, 8, 8) and `labels` (1797,),
both uint8, in the order of scikit-learn, and the indices `test` of the 360 test images and `train`
of the 1,437 others, both uint16. It was made by

    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    x, y = load_digits(return_X_y=True)
    train, test = train_test_split(np.arange(1797), test_size=360, stratify=y, random_state=0)
    np.savez_compressed("digits.npz", images=x.reshape(-1, 8, 8).astype("u1"), labels=y.astype("u1"),
                        train=train.astype("u2"), test=test.astype("u2"))

The split is random and stratified because the file is ordered by writer: so both halves hold all 13
writers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import ArgumentError, DataError
from . import npz
from .dataset import Dataset, Pair, keras_pairs
from .images import Centring
from .source import Found, ProgressHook, Source, declare, inspect

NOTE = "digits: not comparable with MNIST"

_FOLDER = Path(__file__).parent / "data"
_FILE = "digits.npz"


def load_data(size: int = 28) -> tuple[Pair, Pair]:
    """`(x_train, y_train), (x_test, y_test)`: 1,437 and 360 images of 0 … 255, and digits, uint8.

    size=28   (N, 28, 28): each pixel becomes 3×3 pixels, and a border of 2 is added, so that models
              for MNIST fit; this adds no detail
    size=8    (N, 8, 8): the original size

    The stratified split is fixed. One test image is 0.28 points of accuracy; figures are not
    comparable with MNIST.
    """
    return keras_pairs(_read(_embedded(), size=size))


def _embedded() -> Found:
    return inspect(SOURCE, "package", _FOLDER, "embedded", (_FOLDER / _FILE,))


def _read(found: Found, progress: ProgressHook | None = None, size: int = 28) -> Dataset:
    if size not in (8, 28):
        raise ArgumentError(f"size={size!r} is not supported: use 28 (for models of MNIST) or 8 (the original size)")
    if not found.published:
        raise DataError(f"{found.files[0]} is damaged: install gpucnn again")
    arrays = npz.read(found.files[0], ("images", "labels", "train", "test"))
    x = ((arrays["images"].astype(np.uint16) * 255 + 8) // 16).astype(np.uint8)
    if size == 28:
        x = np.pad(x.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2)))
    train, test = arrays["train"], arrays["test"]
    y = arrays["labels"]
    return Dataset("digits", x[train], y[train], x[test], y[test], list("0123456789"), NOTE, path=found.path)


SOURCE = declare(
    Source(
        name="digits",
        about="1,437 + 360 handwritten digits, 8×8 grey enlarged to 28×28; embedded",
        classes=tuple("0123456789"),
        files=(_FILE,),
        hashes={_FILE: "59736faa5557398151741fd6ad4ee8be28aa70a816e1bf526d9911b81cb334da"},
        embedded=_embedded,
        centring=Centring(24 / 28, by_mass=False),
        read=_read,
    )
)
