"""An NVIDIA GPU through CuPy: its memory, and the launch of kernels of both languages.

GPUCNN_NO_POOL=1 allocates each array separately. CuPy's pool hands out parts of large blocks, where
compute-sanitizer does not notice an access out of bounds that hits a neighbour.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import cupy
import numpy as np

from ..errors import LaunchError
from .array import DeviceArray
from .device import Device, Peak
from .launchable import CudaLaunchable, Geometry, NumbaLaunchable

_FP32_LANES = {60: 64, 70: 64, 72: 64, 75: 64, 80: 64}
"""FP32 units of a multiprocessor by compute capability; 128 in all others."""

_DEFAULT_SHARED = 48 << 10
"""Bytes of dynamic shared memory that a block may use unless the limit is raised."""


class Gpu(Device):
    """One GPU. Arrays are CuPy's; everything runs on CuPy's current stream."""

    backends = ("cuda", "numba")
    records = True
    cc: int

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

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> DeviceArray:
        """An uninitialised CuPy array; CuPy's pool hands out multiples of 512 bytes."""
        return cupy.empty(shape, dtype)

    def put(self, array: np.ndarray) -> DeviceArray:
        """A copy on the GPU."""
        return cupy.asarray(array, order="C")

    def owns(self, array: object) -> bool:
        """Whether this is a CuPy array."""
        return isinstance(array, cupy.ndarray)

    def contiguous(self, array: Any) -> DeviceArray:
        """The array itself if it is C-contiguous, else a C-contiguous copy."""
        return cupy.ascontiguousarray(array)

    def peak(self) -> Peak | None:
        """Computed from the clock rates that the driver reports: two operations for each FP32 lane
        and two transfers in each clock. None where it reports none."""
        attributes = cupy.cuda.Device(self.number).attributes
        clock, memory_clock = attributes.get("ClockRate"), attributes.get("MemoryClockRate")
        if not clock or not memory_clock:
            return None
        lanes = attributes["MultiProcessorCount"] * _FP32_LANES.get(self.cc, 128)
        bytes_per_second = 2e3 * memory_clock * attributes["GlobalMemoryBusWidth"] / 8
        return Peak(2e3 * lanes * clock, bytes_per_second, attributes.get("L2CacheSize", 0))

    def synchronize(self) -> None:
        """Wait until all work on the current stream has finished."""
        cupy.cuda.get_current_stream().synchronize()

    def stream(self) -> int:
        """The address of the current stream: events time the stream on which they were recorded."""
        return cupy.cuda.get_current_stream().ptr

    def cublas(self) -> tuple[ctypes.CDLL, ctypes.c_void_p]:
        """(cuBLAS as a ctypes library, CuPy's handle for it), on the current stream.

        CuPy's own calls to cuBLAS cannot be captured in a graph; direct calls to the library can.
        """
        handle = cupy.cuda.Device(self.number).cublas_handle
        library = _cublas(handle)
        status = library.cublasSetStream_v2(ctypes.c_void_p(handle), ctypes.c_void_p(self.stream()))
        if status:
            raise LaunchError(f"cuBLAS returned status {status}")
        return library, ctypes.c_void_p(handle)

    def free_bytes(self) -> int:
        """What the driver can still give, and what CuPy's pool holds unused."""
        with cupy.cuda.Device(self.number):
            return int(cupy.cuda.runtime.memGetInfo()[0]) + cupy.get_default_memory_pool().free_bytes()

    def record(self, run: Callable[[], None]) -> Callable[[], None]:
        """Call `run`, then capture a second call of it as a CUDA graph.

        The arrays that `run` allocates come from a pool that only the graph uses. The first call
        fills this pool and compiles, because neither may happen in a capture.
        """
        pool, stream = cupy.cuda.MemoryPool(), cupy.cuda.Stream(non_blocking=True)
        self.synchronize()
        with cupy.cuda.using_allocator(pool.malloc), stream:
            run()
            stream.synchronize()
            stream.begin_capture()
            try:
                run()
            except BaseException:
                with suppress(Exception):  # it fails too, and would hide the reason
                    stream.end_capture()
                raise
            return _Graph(stream.end_capture(), pool)

    def launch_cuda(self, function: CudaLaunchable, geometry: Geometry, arguments: list[Any]) -> None:
        """Compile at the first launch (CuPy keeps cubins on disk), then launch."""
        key = (function.path, function.name, tuple(sorted(function.defines.items())))
        kernel = self._functions.get(key)
        if kernel is None:
            options = ("-std=c++17", "-lineinfo", *(f"-D{name}={value}" for name, value in function.defines.items()))
            module = cupy.RawModule(code=function.source(), options=options)
            try:
                # .kernel: what a RawKernel looks up again at each of its launches
                kernel = module.get_function(function.name).kernel
            except cupy.cuda.compiler.CompileException as error:
                raise LaunchError(f"NVRTC refuses {function!r}: {error}") from None
            self._functions[key] = kernel
        self._launch(key, kernel, geometry, arguments)

    def launch_numba(self, function: NumbaLaunchable, geometry: Geometry, arguments: list[Any]) -> None:
        """Numba compiles the kernel to PTX; the rest is as for CUDA C++.

        Numba's own launch takes longer than most kernels here, and cannot be captured in a graph.
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
        self._launch(key, kernel, geometry, function.entry_arguments(arguments))

    def _launch(self, key: tuple, kernel: Any, geometry: Geometry, arguments: list[Any]) -> None:
        grid, block, shared_bytes = geometry
        driver = cupy.cuda.driver
        try:
            if shared_bytes > self._shared.get(key, _DEFAULT_SHARED):
                attribute = driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                driver.funcSetAttribute(kernel.ptr, attribute, shared_bytes)
                self._shared[key] = shared_bytes
            kernel(grid, block, tuple(arguments), shared_mem=shared_bytes)
        except driver.CUDADriverError as error:
            raise LaunchError(f"the driver refuses grid {grid}, block {block}, {shared_bytes} bytes: {error}") from None


@dataclass(frozen=True)
class _Graph:
    """A CUDA graph, and the pool to which the arrays between its kernels belong."""

    graph: Any
    pool: cupy.cuda.MemoryPool

    def __call__(self) -> None:
        self.graph.launch(cupy.cuda.get_current_stream())


@cache
def _cublas(handle: int) -> ctypes.CDLL:
    """The library behind CuPy's handle, which is already loaded."""
    from cupy_backends.cuda.libs import cublas

    return ctypes.CDLL(f"libcublas.so.{cublas.getVersion(handle) // 10000}")
