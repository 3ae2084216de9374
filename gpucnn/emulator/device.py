"""The emulator as a device: host memory that only kernels and copies touch, and launches of both languages."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import device
from .array import EmulatedArray
from .cpp import CppModule
from .launching import settings
from .ptx import PtxModule

CC = (8, 0)
"""The compute capability for which kernels that come as PTX are compiled."""


class Emulator(device.Device):
    """Kernels of GPUs on the CPU, one launch after the other."""

    name = "emulator"
    backends = ("cuda", "numba")

    def __init__(self) -> None:
        self._modules: dict[tuple, Any] = {}

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> EmulatedArray:
        """An uninitialised array; in check mode it is known to be so."""
        array = EmulatedArray(device.CPU.empty(shape, dtype))
        if settings().mode == "check":
            self.forget(array)
        return array

    def put(self, array: np.ndarray) -> EmulatedArray:
        """A copy on the device."""
        host = device.CPU.empty(array.shape, array.dtype)
        host[...] = array
        return EmulatedArray(host)

    def owns(self, array: Any) -> bool:
        """Whether this is an array of the emulator."""
        return isinstance(array, EmulatedArray)

    def contiguous(self, array: EmulatedArray) -> EmulatedArray:
        """The array itself if it is C-contiguous, else a copy that is."""
        return array if array.flags.c_contiguous else self.put(array.host)

    def forget(self, array: EmulatedArray) -> None:
        """From here on, reading what no kernel has written is reported in check mode."""
        array.known = np.zeros((*array.shape, array.itemsize), np.uint8)

    def launch_cuda(self, function: Any, grid: Any, block: Any, shared_bytes: int, arguments: list[Any]) -> None:
        """CUDA C++ through the host's compiler; a file with inline PTX through NVRTC and its PTX."""
        mode = settings().mode
        key = (function.path, tuple(sorted(function.defines.items())), mode)
        if key not in self._modules:
            self._modules[key] = CppModule(function.source(), function.path.name, function.defines, mode)
        self._modules[key].launch(function.name, grid, block, arguments, shared_bytes)

    def launch_numba(self, function: Any, grid: Any, block: Any, shared_bytes: int, arguments: list[Any]) -> None:
        """The PTX that Numba makes of the kernel."""
        from ..numba_cuda import flattened

        signature = function.signature(arguments)
        key = (function, signature, settings().mode)
        if key not in self._modules:
            ptx, entry = function.ptx(signature, CC)
            self._modules[key] = PtxModule(ptx, settings().mode), entry
        module, entry = self._modules[key]
        module.launch(entry, grid, block, flattened(arguments), shared_bytes)
