"""Arrays of the emulator: NumPy memory that the host cannot access by accident, as on a GPU."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from ...errors import ArgumentError
from . import recording


class EmulatedArray:
    """An array of the emulator: a `DeviceArray` that the host can read and write through `get` and
    `set` alone.

    `written` has one byte for each byte of memory that says whether it was ever written; None if
    that is not tracked.
    """

    __slots__ = ("host", "written")
    __array_ufunc__ = None

    def __init__(self, host: np.ndarray, written: np.ndarray | None = None) -> None:
        self.host = host
        self.written = written

    @property
    def shape(self) -> tuple[int, ...]:
        """The extent of each axis."""
        return self.host.shape

    @property
    def dtype(self) -> np.dtype:
        """The type of the elements."""
        return self.host.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.host.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.host.size

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.host.nbytes

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.host.itemsize

    @property
    def flags(self) -> Any:
        """Among others `c_contiguous`."""
        return self.host.flags

    def __len__(self) -> int:
        return len(self.host)

    def __repr__(self) -> str:
        return f"<array of the emulator, {self.shape} {self.dtype}>"

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise ArgumentError(f"an array of the emulator, {self.shape} {self.dtype}, is not a host array: use .get()")

    def __bool__(self) -> bool:
        self.__array__()
        return False

    __float__ = __int__ = __iter__ = __bool__

    def get(self) -> np.ndarray:
        """A copy in host memory."""
        recording.refuse("an array was read")
        return self.host.copy()

    def set(self, values: np.ndarray) -> None:
        """Copy host values of this shape into the array."""
        recording.refuse("an array was written from the host")
        self[...] = EmulatedArray(values)

    def reshape(self, *shape: Any) -> Self:
        """The same memory under another shape."""
        host = self.host.reshape(*shape)
        if not np.may_share_memory(host, self.host):
            raise ArgumentError(f"reshape of an array of the emulator that is not contiguous, {self.shape}: copy it")
        written = None if self.written is None else self.written.reshape(*host.shape, self.itemsize)
        return type(self)(host, written)

    def view(self, dtype: Any) -> Self:
        """The same bytes as another dtype; for flat contiguous arrays."""
        host = self.host.view(dtype)
        written = None if self.written is None else self.written.reshape(*host.shape, host.itemsize)
        return type(self)(host, written)

    def __getitem__(self, index: Any) -> Self:
        host = self.host[index]
        if not isinstance(host, np.ndarray):
            raise ArgumentError("a single element of an array of the emulator is not a number on the host: use .get()")
        return type(self)(host, None if self.written is None else self.written[index])

    def __setitem__(self, index: Any, value: Any) -> None:
        if not isinstance(value, (EmulatedArray, int, float, np.generic)):
            raise ArgumentError(f"an array of the emulator takes device arrays and numbers, not {type(value).__name__}")
        recording.perform(lambda: self._assign(index, value))

    def _assign(self, index: Any, value: Any) -> None:
        self.host[index] = value.host if isinstance(value, EmulatedArray) else value
        if self.written is not None:
            untracked = not isinstance(value, EmulatedArray) or value.written is None
            self.written[index] = 1 if untracked else value.written
