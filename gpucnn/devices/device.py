"""What a device is: where arrays live and where kernels run."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from ..errors import KernelError, MemoryNeedError
from . import free_memory
from .array import DeviceArray
from .feed import Feed
from .fetch import Fetch
from .free_memory import readable
from .launchable import CudaLaunchable, Geometry, NumbaLaunchable
from .recorders import again

ALIGNMENT = 256
"""Bytes: every array that a device allocates starts at a multiple of this."""

VECTOR = 16
"""Bytes of the widest load of a kernel for GPUs, which needs an address that is a multiple of it."""


class Peak(NamedTuple):
    """The limits of the hardware: FP32 operations and bytes of memory per second, and bytes of the
    last-level cache."""

    flops: float
    bytes_per_second: float
    cache_bytes: int


class Device(ABC):
    """The CPU, a GPU, or the CPU in place of a GPU (emulator, simulator).

    Each device has its own class of arrays, which its `empty` and `put` return; `DeviceArray` is
    what they share. Methods that do nothing here are hooks, which some devices override.
    """

    name: str
    uses_host_memory = True
    backends: tuple[str, ...]
    """The backends whose kernels run here, in the order in which "auto" tries them."""

    cc: int | None = None
    """The compute capability, 10 times its major plus its minor number; None where kernels for GPUs
    do not run."""

    def activate(self) -> None:  # noqa: B027
        """Called when the device becomes the one in use."""

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
        """An uninitialised C-contiguous array that starts at a multiple of 256 bytes. Raises
        `MemoryNeedError`."""
        dtype = np.dtype(dtype)
        return self.fitted(lambda: self.allocate(shape, dtype), shape, dtype)

    def fitted(self, make: Callable[[], Any], shape: tuple[int, ...], dtype: np.dtype) -> Any:
        """The array that `make` returns. If it raises `MemoryError`, what waits for later arrays is
        released and it is called once more, then `MemoryNeedError` says what did not fit."""
        try:
            return make()
        except MemoryError:
            self.release()
        try:
            return make()
        except MemoryError:
            size, free = (readable(n) for n in (math.prod(shape) * dtype.itemsize, self.free_bytes()))
            raise MemoryNeedError(
                f"out of memory on {self.name}: an array of {shape} {dtype}, {size}, and {free} is free"
            ) from None

    @abstractmethod
    def allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        """What `empty` returns. Raises `MemoryError` if it does not fit."""

    def release(self) -> None:  # noqa: B027
        """Give up the memory that waits for later arrays."""

    def free_bytes(self) -> int | None:
        """Bytes that arrays can still take; None if unknown."""
        return free_memory.available()

    def peak_bytes(self) -> int | None:
        """The most bytes of the device's own memory that arrays of this process have occupied so far,
        together with what waits for later arrays; None if there is none or it is unknown."""
        return None

    @abstractmethod
    def put(self, array: np.ndarray) -> DeviceArray:
        """A host array copied to the device; on the CPU, the array itself."""

    @abstractmethod
    def owns(self, array: object) -> bool:
        """Whether this is an array of this device."""

    @abstractmethod
    def address(self, array: Any) -> int:
        """Where the first element of an array of this device lies."""

    def takes(self, array: Any) -> bool:
        """Whether kernels can take an array of this device: it is C-contiguous, and starts where
        their widest loads can; a single number needs no wide load."""
        alignment = VECTOR if array.size > 1 else array.dtype.itemsize
        return array.flags.c_contiguous and self.address(array) % alignment == 0

    def copied(self, array: Any) -> DeviceArray:
        """A copy that kernels can take of an array of this device."""
        copy = self.empty(array.shape, array.dtype)
        again(copy.__setitem__, ..., array)
        return copy

    def mark_uninitialised(self, array: Any) -> None:  # noqa: B027
        """Declare that no element of an array has been written; a device that keeps track reports
        reads of them."""

    def peak(self) -> Peak | None:
        """The limits of the hardware; None if it does not report them."""
        return None

    def synchronize(self) -> None:  # noqa: B027
        """Wait until all launches so far have finished."""

    def stream(self) -> int:
        """The address of the stream on which kernels run; 0 is the default stream."""
        return 0

    records = False
    """Whether `record` and `feed` work here."""

    def record(self, run: Callable[[], None]) -> Callable[[], None]:
        """Call `run` once, and return a function that repeats its launches on the same arrays.

        `run` is called a second time for this, without effect. It reads nothing from the device and
        copies nothing to it.
        """
        raise KernelError(f"{self.name} does not record launches")

    def aside(self) -> AbstractContextManager[None]:
        """A context of `branches.aside`. One branch is open at a time: the next one joins it."""
        return nullcontext()

    def join(self) -> None:  # noqa: B027
        """As `branches.join`."""

    def fetch(self, arrays: Sequence[Any]) -> Fetch:
        """Copies of arrays as they are after the launches so far, for which nothing waits yet."""
        return Fetch(arrays)

    def feed(self, shape: tuple[int, ...], dtype: Any) -> Feed:
        """A ring of rows, which the host fills in parts while the device computes with others."""
        raise KernelError(f"{self.name} needs no feed: it computes with arrays of the host")

    def begin(self, kernel: Any, operands: tuple[Any, ...], params: dict[str, Any]) -> None:  # noqa: B027
        """Called before a kernel serves a call of an op: the launches that follow are its launches."""

    def prepare_cuda(self, function: CudaLaunchable) -> object:  # noqa: B027
        """Compile a CUDA C++ kernel as `launch_cuda` would; several threads, each of which has called
        `activate`, may do so at a time."""

    def is_compiled(self, function: CudaLaunchable) -> bool:
        """Whether a launch of a kernel is known to compile nothing."""
        return False

    def compiled_together(self, function: CudaLaunchable) -> Hashable:
        """The same for all kernels that are compiled when one of them is."""
        return function

    def temporary_arrays(self) -> AbstractContextManager[None]:
        """A context after which the memory of arrays that were allocated in it is given back, if they are gone."""
        return nullcontext()

    def launch_cuda(self, function: CudaLaunchable, geometry: Geometry, arguments: list[Any]) -> None:
        """Run a CUDA C++ kernel; the arguments are already converted."""
        raise KernelError(f"{function} was launched on the device {self.name}, which runs {', '.join(self.backends)}")

    def launch_numba(self, function: NumbaLaunchable, geometry: Geometry, arguments: list[Any]) -> None:
        """Run a numba.cuda kernel; the arguments are already converted."""
        raise KernelError(f"{function} was launched on the device {self.name}, which runs {', '.join(self.backends)}")
