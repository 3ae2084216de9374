"""A cache of decoded images, so that tens of thousands of image files are decoded only once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import GpucnnError
from ..files import write_atomically
from . import npz
from .source import user_cache

Halves = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

_NAMES = ("x_train", "y_train", "x_test", "y_test")


def once(key: str, decode: Callable[[], Halves]) -> tuple[Halves, list[str]]:
    """The result of `decode`, cached under `key`, and a warning if it could not be cached.

    A cache that cannot be read or written costs time only.
    """
    path = user_cache() / "decoded" / f"{key}.npz"
    if path.is_file():
        try:
            return _halves(npz.read(path, _NAMES)), []
        except GpucnnError:
            pass  # damaged: decoded and written again below
    halves = decode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **dict(zip(_NAMES, halves))))
    except OSError as error:
        return halves, [f"the decoded images cannot be cached and will be decoded again next time: {error}"]
    return halves, []


def _halves(arrays: dict[str, np.ndarray]) -> Halves:
    x_train, y_train, x_test, y_test = (arrays[name] for name in _NAMES)
    return x_train, y_train, x_test, y_test
