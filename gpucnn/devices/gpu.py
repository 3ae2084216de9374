"""An NVIDIA GPU through CuPy: its memory, and the launch of kernels of both languages.

GPUCNN_NO_POOL=1 allocates each array by itself: CuPy's pool hands out parts of large blocks, whose neighbours an access
out of bounds reaches without compute-sanitizer seeing it.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import Any

import cupy
import numpy as np

from ..errors import LaunchError
from .device import Device, Peak

_FP32_LANES = {60: 64, 70: 64, 72: 64, 75: 64, 80: 64}
"""FP32 units of a multiprocessor by compute capability; 128 in all others."""

_SHARED_UNASKED = 48 << 10
"""Dynamic shared memory that a block gets without asking for more."""


class Gpu(Device):
    """One GPU. Arrays are CuPy's; everything runs on CuPy's current stream."""

    backends = ("cuda", "numba")

    def __init__(self, number: int) -> None:
        self.name, self.number = f"gpu:{number}", number
        self.activate()
        if os.environ.get("GPUCNN_NO_POOL", "0") not in ("", "0"):
            cupy.cuda.set_allocator(None)
        self.cc = int(cupy.cuda.Device(number).compute_capability)
        self._functions: dict[tuple, Any] = {}
        self._shared: dict[tuple, int] = {}

    def activate(self) -> None:
        """Make this GPU the one that CuPy works on."""
        cupy.cuda.Device(self.number).use()

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
        """An uninitialised CuPy array; CuPy's pool hands out multiples of 512 bytes."""
        return cupy.empty(shape, dtype)

    def put(self, array: np.ndarray) -> Any:
        """A copy on the GPU."""
        return cupy.asarray(array, order="C")

    def owns(self, array: Any) -> bool:
        """Whether this is a CuPy array."""
        return isinstance(array, cupy.ndarray)

    def contiguous(self, array: Any) -> Any:
        """The array itself if it is C-contiguous, else a copy that is."""
        return cupy.ascontiguousarray(array)

    def peak(self) -> Peak | None:
        """From the clock rates that the driver tells: two operations for each FP32 lane, two transfers a clock. None
        where it tells none."""
        told = cupy.cuda.Device(self.number).attributes
        clock, memory_clock = told.get("ClockRate"), told.get("MemoryClockRate")
        if not clock or not memory_clock:
            return None
        lanes = told["MultiProcessorCount"] * _FP32_LANES.get(self.cc, 128)
        return Peak(
            2e3 * lanes * clock, 2e3 * memory_clock * told["GlobalMemoryBusWidth"] / 8, told.get("L2CacheSize", 0)
        )

    def synchronize(self) -> None:
        """Wait for the current stream."""
        cupy.cuda.get_current_stream().synchronize()

    def stream(self) -> int:
        """The address of the current stream: events time the stream on which they were recorded."""
        return cupy.cuda.get_current_stream().ptr

    def cublas(self) -> tuple[ctypes.CDLL, ctypes.c_void_p]:
        """(cuBLAS as a ctypes library, CuPy's handle of it), on the current stream.

        CuPy's own calls of cuBLAS refuse to be captured in a graph; those of the library do not.
        """
        handle = cupy.cuda.Device(self.number).cublas_handle
        library = _cublas(handle)
        status = library.cublasSetStream_v2(ctypes.c_void_p(handle), ctypes.c_void_p(self.stream()))
        if status:
            raise LaunchError(f"cuBLAS returned status {status}")
        return library, ctypes.c_void_p(handle)

    def launch_cuda(self, function: Any, grid: Any, block: Any, shared_bytes: int, arguments: list[Any]) -> None:
        """Compile at the first launch (CuPy keeps cubins on disk), then launch."""
        key = (function.path, function.name, tuple(sorted(function.defines.items())))
        kernel = self._functions.get(key)
        if kernel is None:
            options = ("-std=c++17", "-lineinfo", *(f"-D{name}={value}" for name, value in function.defines.items()))
            module = cupy.RawModule(code=function.source(), options=options)
            try:
                # .kernel: what a RawKernel looks up anew at each of its own launches
                kernel = module.get_function(function.name).kernel
            except cupy.cuda.compiler.CompileException as error:
                raise LaunchError(f"NVRTC refuses {function!r}: {error}") from None
            self._functions[key] = kernel
        self._launch(key, kernel, grid, block, shared_bytes, arguments)

    def launch_numba(self, function: Any, grid: Any, block: Any, shared_bytes: int, arguments: list[Any]) -> None:
        """PTX of Numba, a cubin of it, and a launch like that of any other kernel.

        Numba's own launch costs more than most kernels here, and cannot be captured in a graph.
        """
        signature = function.signature(arguments)
        key = (function, signature)
        kernel = self._functions.get(key)
        if kernel is None:
            from cuda.core import Program, ProgramOptions

            try:
                ptx, entry = function.ptx(signature, divmod(self.cc, 10))
                binary = Program(ptx, "ptx", ProgramOptions(arch=f"sm_{self.cc}")).compile("cubin").code
            except Exception as error:
                raise LaunchError(f"{function!r} cannot be compiled: {type(error).__name__}: {error}") from error
            module = cupy.cuda.function.Module()
            module.load(bytes(binary))
            kernel = self._functions[key] = module.get_function(entry)
        self._launch(key, kernel, grid, block, shared_bytes, function.entry_arguments(arguments))

    def _launch(self, key: tuple, kernel: Any, grid: Any, block: Any, shared_bytes: int, arguments: list[Any]) -> None:
        driver = cupy.cuda.driver
        try:
            if shared_bytes > self._shared.get(key, _SHARED_UNASKED):
                attribute = driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                driver.funcSetAttribute(kernel.ptr, attribute, shared_bytes)
                self._shared[key] = shared_bytes
            kernel(grid, block, tuple(arguments), shared_mem=shared_bytes)
        except driver.CUDADriverError as error:
            raise LaunchError(f"the driver refuses grid {grid}, block {block}, {shared_bytes} bytes: {error}") from None


@cache
def _cublas(handle: int) -> ctypes.CDLL:
    """The library behind CuPy's handle, which is loaded already."""
    from cupy_backends.cuda.libs import cublas

    return ctypes.CDLL(f"libcublas.so.{cublas.getVersion(handle) // 10000}")
