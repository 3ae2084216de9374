"""Memory of the emulated device: NumPy memory that the host cannot touch by accident, as on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import ArgumentError


class EmulatedArray:
    """An array of the emulator. It offers what gpucnn uses of a CuPy array, and refuses the host's silent access.

    `known` has one byte for each byte of memory that says whether it was ever written; None if nobody keeps track.
    """

    __slots__ = ("host", "known")
    __array_ufunc__ = None

    def __init__(self, host: np.ndarray, known: np.ndarray | None = None) -> None:
        self.host = host
        self.known = known

    shape = property(lambda self: self.host.shape)
    dtype = property(lambda self: self.host.dtype)
    ndim = property(lambda self: self.host.ndim)
    size = property(lambda self: self.host.size)
    nbytes = property(lambda self: self.host.nbytes)
    itemsize = property(lambda self: self.host.itemsize)
    flags = property(lambda self: self.host.flags)

    def __len__(self) -> int:
        return len(self.host)

    def __repr__(self) -> str:
        return f"<array of the emulator, {self.shape} {self.dtype}>"

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise ArgumentError(f"an array of the emulator, {self.shape} {self.dtype}, is no host array: use .get()")

    def __bool__(self) -> bool:
        self.__array__()
        return False

    __float__ = __int__ = __iter__ = __bool__

    def get(self) -> np.ndarray:
        """A copy in host memory."""
        return self.host.copy()

    def set(self, values: np.ndarray) -> None:
        """Copy host values of this shape into the array."""
        self[...] = EmulatedArray(values)

    def reshape(self, *shape: Any) -> EmulatedArray:
        """The same memory under another shape."""
        host = self.host.reshape(*shape)
        if not np.may_share_memory(host, self.host):
            raise ArgumentError(f"reshape of an array of the emulator that is not contiguous, {self.shape}: copy it")
        known = None if self.known is None else self.known.reshape(*host.shape, self.itemsize)
        return EmulatedArray(host, known)

    def view(self, dtype: Any) -> EmulatedArray:
        """The same bytes as another dtype; for flat contiguous arrays."""
        host = self.host.view(dtype)
        known = None if self.known is None else self.known.reshape(*host.shape, host.itemsize)
        return EmulatedArray(host, known)

    def __getitem__(self, index: Any) -> EmulatedArray:
        host = self.host[index]
        if not isinstance(host, np.ndarray):
            raise ArgumentError("a single element of an array of the emulator is no number on the host: use .get()")
        return EmulatedArray(host, None if self.known is None else self.known[index])

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, EmulatedArray):
            self.host[index] = value.host
        elif isinstance(value, (int, float, np.generic)):
            self.host[index] = value
        else:
            raise ArgumentError(f"an array of the emulator takes device arrays and numbers, not {type(value).__name__}")
        if self.known is not None:
            written = 1 if not isinstance(value, EmulatedArray) or value.known is None else value.known
            self.known[index] = written
