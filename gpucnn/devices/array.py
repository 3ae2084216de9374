"""What gpucnn uses of an array, whichever device it lies on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np


class DeviceArray(Protocol):
    """An array of NumPy on the CPU, of CuPy on a GPU, an `EmulatedArray` in the emulator.

    Kernels compute on it. The host copies its values with `storage.get`, `storage.put` and
    `storage.write`.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """The extent of each axis."""

    @property
    def dtype(self) -> np.dtype:
        """The type of the elements."""

    @property
    def ndim(self) -> int:
        """The number of axes."""

    @property
    def size(self) -> int:
        """The number of elements."""

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""

    @property
    def flags(self) -> Any:
        """Among others `c_contiguous`."""

    def __len__(self) -> int: ...

    @property
    def reshape(self) -> Callable[..., Any]:
        """`reshape(*shape)` is the same memory under another shape."""

    @property
    def view(self) -> Callable[..., Any]:
        """`view(dtype)` is the same bytes as another dtype."""

    def __getitem__(self, index: Any, /) -> Any: ...

    def __setitem__(self, index: Any, value: Any, /) -> None: ...
