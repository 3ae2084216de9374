"""The emulator as a device: host memory that only kernels and copies touch, and launches of both languages."""

from __future__ import annotations

import inspect
import re
from functools import cache
from typing import Any

import numpy as np

from ..cpu import CPU
from ..device import Device
from .array import EmulatedArray
from .cpp import CppModule
from .launching import settings
from .ptx import PtxModule

CC = (8, 0)
"""The compute capability for which kernels that come as PTX are compiled."""

_ASSEMBLY = re.compile(r"\basm\b")
_COMMENTS = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_SHARED_ARRAY = re.compile(r"(\w+)\s*=\s*cuda\.shared\.array\(\s*(?!0\b|\(\s*0\s*,?\s*\))")


class Emulator(Device):
    """Kernels of GPUs on the CPU, one launch after the other."""

    name = "emulator"
    backends = ("cuda", "numba")

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> EmulatedArray:
        """An uninitialised array; in check mode it is known to be so."""
        array = EmulatedArray(CPU.empty(shape, dtype))
        if settings().mode == "check":
            self.forget(array)
        return array

    def put(self, array: np.ndarray) -> EmulatedArray:
        """A copy on the device."""
        host = CPU.empty(array.shape, array.dtype)
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
        """CUDA C++ through the host's compiler; through NVRTC and its PTX if the file holds inline PTX, and for
        statistics: how wide a load is, is the GPU's compiler's choice."""
        by_nvrtc = settings().count or _holds_ptx(function.source())
        defines = tuple(sorted(function.defines.items()))
        module = _cuda_module(function.source(), function.path.name, defines, settings().mode, by_nvrtc)
        names = [p[0] for p, a in zip(function.parameters(), arguments, strict=True) if _is_array(a)]
        module.launch(function.name, grid, block, arguments, names, shared_bytes)

    def launch_numba(self, function: Any, grid: Any, block: Any, shared_bytes: int, arguments: list[Any]) -> None:
        """The PTX that Numba makes of the kernel."""
        ptx, entry = function.ptx(function.signature(arguments), CC)
        module = _ptx_module(ptx, settings().mode, _shared_names(function))
        parameters = inspect.signature(function.body).parameters
        names = [name for name, a in zip(parameters, arguments, strict=True) if _is_array(a)]
        module.launch(entry, grid, block, function.entry_arguments(arguments), names, shared_bytes, title=function.name)


def _is_array(argument: Any) -> bool:
    return isinstance(argument, (EmulatedArray, np.ndarray))


@cache
def _holds_ptx(text: str) -> bool:
    return bool(_ASSEMBLY.search(_COMMENTS.sub(" ", text)))


@cache
def _shared_names(function: Any) -> tuple[str, ...]:
    """What a numba.cuda kernel calls its static shared arrays, in their order."""
    return tuple(_SHARED_ARRAY.findall(function.source()))


@cache
def _cuda_module(
    text: str, file: str, defines: tuple[tuple[str, Any], ...], mode: str, by_nvrtc: bool
) -> CppModule | PtxModule:
    if not by_nvrtc:
        return CppModule(text, file, dict(defines), mode)
    from ..nvrtc import compiled

    return _ptx_module(compiled(text, file, dict(defines), arch=f"compute_{CC[0]}{CC[1]}").ptx, mode)


@cache
def _ptx_module(ptx: str, mode: str, shared_names: tuple[str, ...] = ()) -> PtxModule:
    return PtxModule(ptx, mode, shared_names)
