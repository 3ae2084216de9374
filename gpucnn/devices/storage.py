"""Arrays of the device in use: allocated there, and copied to it and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import choose


def empty(shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """An uninitialised array of the device in use, C-contiguous, at a multiple of 256 bytes."""
    return choose.current().empty(shape, dtype)


def zeros(shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """As `empty`, filled with zeros."""
    array = empty(shape, dtype)
    array[...] = 0
    return array


def put(array: np.ndarray) -> Any:
    """A host array, copied to the device in use (on the CPU itself)."""
    return choose.current().put(array)


def get(array: Any) -> np.ndarray:
    """An array of any device, copied to the host; a host array itself."""
    return np.asarray(array) if isinstance(array, (np.ndarray, np.generic)) else array.get()


def write(array: Any, values: np.ndarray) -> None:
    """Copy host values of its shape and dtype into an array of any device."""
    if isinstance(array, np.ndarray):
        array[...] = values
    else:
        array.set(np.ascontiguousarray(values, array.dtype))


def own(array: Any) -> Any:
    """The array itself if it belongs to the device in use, else a copy there."""
    device = choose.current()
    return array if device.owns(array) else device.put(get(array))
