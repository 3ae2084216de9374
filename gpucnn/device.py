"""Where arrays live and kernels run: the CPU, a GPU, or the CPU in the place of a GPU (emulator, simulator).

One device is in use at a time. Arrays of a device are what its `empty` returns: NumPy's on the CPU, CuPy's on a GPU,
`EmulatedArray`s in the emulator. The host reaches their values through `put` and `get` alone.
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .errors import ArgumentError, KernelError

ALIGNMENT = 256
_IDLE_BYTES = 1 << 30
_free: dict[int, list[np.ndarray]] = {}
_idle = 0


class _Block:
    """A buffer on loan: when the last array on it dies, it goes back to the pool.

    Fresh memory costs a page fault per 4 KiB, about as long as computing on it; a training step asks for the same sizes
    again and again.
    """

    __slots__ = ("__array_interface__", "buffer", "nbytes")

    def __init__(self, nbytes: int) -> None:
        global _idle
        try:
            self.buffer = _free[nbytes].pop()
            _idle -= nbytes
        except (KeyError, IndexError):
            self.buffer = np.empty(nbytes + ALIGNMENT, np.uint8)
        self.nbytes = nbytes
        address = self.buffer.ctypes.data
        self.__array_interface__ = {
            "data": (address + -address % ALIGNMENT, False),
            "shape": (nbytes,),
            "typestr": "|u1",
            "version": 3,
        }

    def __del__(self) -> None:
        global _idle
        if _idle < _IDLE_BYTES:
            _idle += self.nbytes
            _free.setdefault(self.nbytes, []).append(self.buffer)


class Peak(NamedTuple):
    """FP32 operations and bytes of memory per second; bytes of the last cache."""

    flops: float
    bytes_per_second: float
    cache_bytes: int


class Device:
    """The CPU, and the base of the other devices."""

    name = "cpu"
    backends: tuple[str, ...] = ("njit", "numpy")
    """The backends whose kernels run here, in the order in which "auto" tries them."""

    def activate(self) -> None:
        """Called when the device becomes the one in use."""

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
        """An uninitialised C-contiguous array that starts at a multiple of 256 bytes."""
        dtype = np.dtype(dtype)
        nbytes = math.prod(shape) * dtype.itemsize
        if not nbytes:
            return np.empty(shape, dtype)
        return np.asarray(_Block(nbytes)).view(dtype).reshape(shape)

    def put(self, array: np.ndarray) -> Any:
        """A host array, copied to the device (on the CPU itself)."""
        return array

    def owns(self, array: Any) -> bool:
        """Whether this is an array of the device."""
        return isinstance(array, np.ndarray)

    def contiguous(self, array: Any) -> Any:
        """The array itself if it is C-contiguous, else a copy that is."""
        return np.ascontiguousarray(array)

    def forget(self, array: Any) -> None:
        """Declare an array's contents undefined; a device that keeps track reports who reads them."""

    def peak(self) -> Peak | None:
        """What the hardware can do at most, as far as it tells."""
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


CPU = Device()
"""The host, whichever device is in use."""

_current: Device = CPU


def current() -> Device:
    """The device in use."""
    return _current


def use(name: str) -> Device:
    """Make a device the one in use: `cpu`, `gpu`, `gpu:N`, `emulator` or `simulator`. Arrays made before stay where
    they are; callers go through `gpucnn.use(device=...)`, which chooses backends as well."""
    global _current
    _current = _made(select(name))
    _current.activate()
    return _current


def return_to(device: Device) -> None:
    """Make a device the one in use again."""
    global _current
    _current = device
    _current.activate()


def _made(name: str) -> Device:
    if name == _current.name:
        return _current
    if name == "cpu":
        return CPU
    if name == "emulator":
        from .emulator.device import Emulator

        return Emulator()
    if name == "simulator":
        from .simulator import Simulator

        return Simulator()
    return _gpu(int(name.partition(":")[2]))


@cache
def _gpu(number: int) -> Device:
    """One object for each GPU: it keeps the kernels that were compiled."""
    from .gpu import Gpu

    return Gpu(number)


def empty(shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """An uninitialised array of the device in use, C-contiguous, at a multiple of 256 bytes."""
    return _current.empty(shape, dtype)


def zeros(shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """As `empty`, filled with zeros."""
    array = _current.empty(shape, dtype)
    array[...] = 0
    return array


def put(array: np.ndarray) -> Any:
    """A host array, copied to the device in use (on the CPU itself)."""
    return _current.put(array)


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
    return array if _current.owns(array) else _current.put(get(array))


def release() -> None:
    """Give the pool's idle buffers back to the operating system."""
    global _idle
    _free.clear()
    _idle = 0


def select(name: str = "auto") -> str:
    """Resolve `auto`, `cpu`, `gpu`, `gpu:N`, `emulator` or `simulator` to the device that a run will use; `gpu` is
    `gpu:0`. Raises if it cannot be used here."""
    if name in ("auto", "cpu"):
        return "cpu"
    if re.fullmatch(r"gpu(:\d+)?", name):
        number = int(name.partition(":")[2] or 0)
        require_gpu(f"device={name!r}", number)
        return f"gpu:{number}"
    if name == "emulator":
        from .emulator import unavailable

        reason = unavailable()
        if reason:
            raise KernelError(f"device='emulator' cannot be used: {reason}")
        return name
    if name == "simulator":
        return name
    raise ArgumentError(f"device={name!r} is unknown: use auto, cpu, gpu, gpu:N, emulator or simulator")


def gpu_state() -> tuple[int, str]:
    """How many NVIDIA GPUs CuPy can reach, and one sentence on why there are none (or which they are)."""
    try:
        import cupy
    except Exception as error:
        return 0, f"CuPy cannot be imported ({type(error).__name__}: {error})"
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
        names = [cupy.cuda.runtime.getDeviceProperties(i)["name"].decode() for i in range(count)]
    except Exception as error:
        reason = str(error).splitlines()[0]
        return 0, "no NVIDIA driver found" if "InsufficientDriver" in reason else reason
    return count, ", ".join(names)


def require_gpu(asked: str, number: int = 0) -> None:
    """Raise in one sentence why nothing can run on that GPU: gpucnn never falls back to the CPU in silence."""
    count, reason = gpu_state()
    if not count:
        raise KernelError(
            f"{asked} needs an NVIDIA GPU: {reason}; use the CPU, try device='emulator', or run `gpucnn doctor`"
        )
    if number >= count:
        raise KernelError(f"{asked}: there are {count} GPUs here ({reason}), numbered from 0")
