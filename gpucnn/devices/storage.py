"""Arrays of the device in use: allocated there, and copied to it and back."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from . import choose
from .array import DeviceArray


def empty(shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """An uninitialised C-contiguous array of the device in use, aligned to 256 bytes."""
    return choose.current().empty(shape, dtype)


def zeros(shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """Like `empty`, but filled with zeros."""
    array = empty(shape, dtype)
    array[...] = 0
    return array


def put(array: np.ndarray) -> Any:
    """A host array copied to the device in use; on the CPU, the array itself."""
    return choose.current().put(array)


def get(array: np.ndarray | np.generic | DeviceArray) -> np.ndarray:
    """An array of any device copied to the host; a host array is returned as it is."""
    if isinstance(array, (np.ndarray, np.generic)):
        return np.asarray(array)
    choose.require_reachable(array)
    return cast("Any", array).get()


def write(array: np.ndarray | DeviceArray, values: np.ndarray) -> None:
    """Copy host values of its shape and dtype into an array of any device."""
    if isinstance(array, np.ndarray):
        array[...] = values
    else:
        choose.require_reachable(array)
        cast("Any", array).set(np.ascontiguousarray(values, array.dtype))


def own(array: np.ndarray | DeviceArray) -> Any:
    """The array itself if it lies on the device in use, else a copy there."""
    device = choose.current()
    return array if device.owns(array) else device.put(get(array))
