"""Where arrays live. On the CPU: NumPy arrays cut from recycled, aligned buffers."""

from __future__ import annotations

import math
import re
from typing import Any

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


def empty(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """An uninitialised C-contiguous array that starts at a multiple of 256 bytes."""
    dtype = np.dtype(dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    if not nbytes:
        return np.empty(shape, dtype)
    return np.asarray(_Block(nbytes)).view(dtype).reshape(shape)


def zeros(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """As `empty`, filled with zeros."""
    array = empty(shape, dtype)
    array[...] = 0
    return array


def release() -> None:
    """Give the pool's idle buffers back to the operating system."""
    global _idle
    _free.clear()
    _idle = 0


def select(name: str = "auto") -> str:
    """Resolve `auto`, `cpu`, `gpu` or `gpu:N` to the device that a run will use: `"cpu"` or `"gpu:N"`."""
    if name in ("auto", "cpu"):
        return "cpu"
    if re.fullmatch(r"gpu(:\d+)?", name):
        require_gpu(f"device={name!r}")
    raise ArgumentError(f"device={name!r} is unknown: use auto, cpu, gpu or gpu:N")


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


def require_gpu(asked: str) -> None:
    """Raise in one sentence why nothing can run on a GPU here: gpucnn never falls back to the CPU in silence."""
    count, reason = gpu_state()
    if not count:
        raise KernelError(f"{asked} needs an NVIDIA GPU: {reason}; use the CPU, or run `gpucnn doctor`")
    raise KernelError(f"{asked}: this version of gpucnn has no GPU kernels yet (found {reason}); use the CPU")
