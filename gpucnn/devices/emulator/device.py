"""The emulator as a device: its arrays, and launches of kernels in both languages."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from ...errors import CompilerLog
from ..cpu import CPU
from ..device import Device
from ..feed import Feed
from ..launchable import CudaLaunchable, Geometry, NumbaLaunchable
from . import recording
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
    """Runs kernels for GPUs on the CPU, one launch after the other."""

    name = "emulator"
    backends = ("cuda", "numba")
    records = True
    cc = 10 * CC[0] + CC[1]

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> EmulatedArray:
        """An uninitialised array; check mode reports reads of what no kernel has written."""
        array = EmulatedArray(CPU.allocate(shape, dtype))
        if settings().mode == "check":
            self.mark_uninitialised(array)
        return array

    def release(self) -> None:
        """Drop what the CPU's pool keeps."""
        CPU.release()

    def put(self, array: np.ndarray) -> EmulatedArray:
        """A copy on the device."""
        recording.refuse("an array was copied to the device")
        host = CPU.empty(array.shape, array.dtype)
        host[...] = array
        return EmulatedArray(host)

    def owns(self, array: object) -> bool:
        """Whether this is an array of the emulator."""
        return isinstance(array, EmulatedArray)

    def address(self, array: EmulatedArray) -> int:
        """Where the first element lies."""
        return array.host.ctypes.data

    def record(self, run: Callable[[], None]) -> Callable[[], None]:
        """Call `run`, then keep what a second call would do, as a GPU does in a graph."""
        run()
        return recording.record(run)

    def feed(self, shape: tuple[int, ...], dtype: Any) -> Feed:
        """A ring that is filled at once."""
        return Feed(self.empty(shape, dtype))

    def mark_uninitialised(self, array: EmulatedArray) -> None:
        """From here on, check mode reports reads of elements that no kernel has written."""
        array.written = np.zeros((*array.shape, array.itemsize), np.uint8)

    def prepare_cuda(self, function: CudaLaunchable) -> CppModule | PtxModule:
        """Compile CUDA C++ with the host's compiler. Files with inline PTX go through NVRTC and its
        PTX, and so does counting: the compiler for GPUs decides how wide a load is."""
        by_nvrtc = _goes_through_nvrtc(function)
        text = function.program() if by_nvrtc else function.source()
        defines = tuple(sorted(function.defines.items()))
        try:
            return _cuda_module(text, function.path.name, defines, settings().mode, by_nvrtc)
        except CompilerLog as log:
            raise function.refused(str(log)) from None

    def compiled_together(self, function: CudaLaunchable) -> tuple[Any, ...]:
        """All of a file; of one that goes through NVRTC, whose C++ takes long to compile, one kernel."""
        alone = (function.name,) if _goes_through_nvrtc(function) else ()
        return function.path, *alone, *sorted(function.defines.items())

    def launch_cuda(self, function: CudaLaunchable, geometry: Geometry, arguments: list[Any]) -> None:
        """Compile a kernel the first time, then run it."""
        module = self.prepare_cuda(function)
        names = [p[0] for p, a in zip(function.parameters(), arguments, strict=True) if _is_array(a)]
        recording.perform(lambda: module.launch(function.name, geometry, arguments, names))

    def launch_numba(self, function: NumbaLaunchable, geometry: Geometry, arguments: list[Any]) -> None:
        """Run the PTX that Numba compiles."""
        ptx, entry = function.ptx(function.signature(arguments), CC)
        module = _ptx_module(ptx, settings().mode, _shared_names(function))
        parameters = inspect.signature(function.body).parameters
        names = [name for name, a in zip(parameters, arguments, strict=True) if _is_array(a)]
        passed = function.entry_arguments(arguments)
        recording.perform(lambda: module.launch(entry, geometry, passed, names, title=function.name))


def _is_array(argument: Any) -> bool:
    return isinstance(argument, EmulatedArray)


def _goes_through_nvrtc(function: CudaLaunchable) -> bool:
    return settings().count or _holds_ptx(function.source())


@cache
def _holds_ptx(text: str) -> bool:
    return bool(_ASSEMBLY.search(_COMMENTS.sub(" ", text)))


@cache
def _shared_names(function: NumbaLaunchable) -> tuple[str, ...]:
    """The names of a numba.cuda kernel's static shared arrays, in order."""
    return tuple(_SHARED_ARRAY.findall(function.source()))


@cache
def _cuda_module(
    text: str, file: str, defines: tuple[tuple[str, Any], ...], mode: str, by_nvrtc: bool
) -> CppModule | PtxModule:
    if not by_nvrtc:
        return CppModule(text, file, dict(defines), mode)
    from ..nvrtc import compile_cuda

    return _ptx_module(compile_cuda(text, file, dict(defines), arch=f"compute_{CC[0]}{CC[1]}").ptx, mode)


@cache
def _ptx_module(ptx: str, mode: str, shared_names: tuple[str, ...] = ()) -> PtxModule:
    return PtxModule(ptx, mode, shared_names)
