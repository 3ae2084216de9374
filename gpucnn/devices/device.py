"""What a device is: where arrays live and where kernels run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from ..errors import KernelError

ALIGNMENT = 256
"""Bytes: every array that a device allocates starts at a multiple of this."""


class Peak(NamedTuple):
    """FP32 operations and bytes of memory per second; bytes of the last cache."""

    flops: float
    bytes_per_second: float
    cache_bytes: int


class Device(ABC):
    """The CPU, a GPU, or the CPU in the place of a GPU (emulator, simulator).

    Arrays of a device are what its `empty` returns: NumPy's on the CPU, CuPy's on a GPU, `EmulatedArray`s in the
    emulator. The host reaches their values through `storage.put` and `storage.get` alone.
    """

    name: str
    backends: tuple[str, ...]
    """The backends whose kernels run here, in the order in which "auto" tries them."""

    def activate(self) -> None:
        """Called when the device becomes the one in use."""

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
        """An uninitialised C-contiguous array that starts at a multiple of 256 bytes."""

    @abstractmethod
    def put(self, array: np.ndarray) -> Any:
        """A host array, copied to the device (on the CPU itself)."""

    @abstractmethod
    def owns(self, array: Any) -> bool:
        """Whether this is an array of the device."""

    @abstractmethod
    def contiguous(self, array: Any) -> Any:
        """The array itself if it is C-contiguous, else a copy that is."""

    def forget(self, array: Any) -> None:
        """Declare an array's contents undefined; a device that keeps track reports who reads them."""

    def peak(self) -> Peak | None:
        """What the hardware can do at most, as far as it reports; None if it does not."""
        return None

    def free_memory(self) -> int | None:
        """Bytes that can still be allocated; None if unknown."""
        return None

    def synchronize(self) -> None:
        """Wait until everything launched so far is done."""

    def stream(self) -> int:
        """The address of the stream on which kernels run, for other libraries; 0 is the default one."""
        return 0

    def launch_cuda(self, function: Any, grid: Any, block: Any, shared_bytes: int, arguments: list[Any]) -> None:
        """Run a `CudaFunction`; the arguments are converted."""
        raise KernelError(f"{function} was launched on the device {self.name}, which runs {', '.join(self.backends)}")

    def launch_numba(self, function: Any, grid: Any, block: Any, shared_bytes: int, arguments: list[Any]) -> None:
        """Run a `NumbaFunction`; the arguments are converted."""
        raise KernelError(f"{function} was launched on the device {self.name}, which runs {', '.join(self.backends)}")
