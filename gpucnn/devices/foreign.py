"""Arrays of other libraries on the host: PyTorch, JAX, CuPy, and all that speak DLPack or
`__cuda_array_interface__`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DataError, in_one_line

_ON_HOST = (1, 3)
"""The device types of DLPack whose memory NumPy reads: the CPU, and host memory pinned by CUDA."""


def to_host(name: str, value: Any) -> np.ndarray:
    """An array of any library, or numbers in lists, as a NumPy array.

    Memory of the host is shared, memory of a GPU is copied. `name` is used in messages. Raises
    `DataError` for a tensor that requires a gradient, for types that NumPy lacks, and for values
    that do not form an array.
    """
    if isinstance(value, np.ndarray):
        return value
    if getattr(value, "requires_grad", False) is True:
        raise DataError(f"{name} is a tensor that requires a gradient: give {name}.detach()")
    kind = type(value).__name__
    try:
        if _is_elsewhere(value):
            return _copied(value)
        if hasattr(value, "__dlpack__"):
            return _shared(value)
        return np.asarray(value)
    except (BufferError, RuntimeError, TypeError) as error:
        dtype = getattr(value, "dtype", None)
        stated = f"{kind}" if dtype is None else f"{kind} of {dtype}"
        raise DataError(
            f"{name} is a {stated} that NumPy cannot read: convert it to float32 on the host ({in_one_line(error)})"
        ) from error
    except ValueError as error:
        raise DataError(f"{name} is not an array of one shape: all images must have one size ({error})") from error


def _is_elsewhere(value: Any) -> bool:
    """Whether an array lies in the memory of a GPU."""
    if hasattr(value, "__dlpack_device__"):
        return int(value.__dlpack_device__()[0]) not in _ON_HOST
    return hasattr(value, "__cuda_array_interface__")


def _shared(value: Any) -> np.ndarray:
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError):  # types and layouts that DLPack cannot say, but the library can
        return np.asarray(value)


def _copied(value: Any) -> np.ndarray:
    """What the library itself copies: tensors of PyTorch have `cpu`, arrays of CuPy `get`, those of JAX `__array__`."""
    if callable(getattr(value, "cpu", None)):
        return _shared(value.cpu())
    return value.get() if callable(getattr(value, "get", None)) else np.asarray(value)
