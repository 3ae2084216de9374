"""An NVIDIA GPU through CuPy: its memory, and the launch of kernels of both languages.

GPUCNN_SYNC=1 waits for each kernel, so that one that breaks the GPU is named at once.

GPUCNN_NO_POOL=1 allocates each array separately. CuPy's pool hands out parts of large blocks, where
compute-sanitizer does not notice an access out of bounds that hits a neighbour.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cupy
import numpy as np

from .. import places
from ..errors import CompileError, KernelError, LaunchError, in_one_line
from .array import DeviceArray
from .device import Device, Peak
from .launchable import CudaLaunchable, Geometry, NumbaLaunchable

_FP32_LANES = {60: 64, 70: 64, 72: 64, 75: 64, 80: 64}
"""FP32 units of a multiprocessor by compute capability; 128 in all others."""

_DEFAULT_SHARED = 48 << 10
"""Bytes of shared memory that a block may use unless the limit is raised."""

_LOST = {700, 702, 710, 714, 715, 716, 717, 718, 719}
"""CUDA's errors after which every further call in a process fails: illegal addresses, timeouts,
assertions, misaligned accesses, illegal instructions and the like."""


class Gpu(Device):
    """One GPU. Arrays are CuPy's; everything runs on CuPy's current stream."""

    backends = ("cuda", "numba")
    records = True
    cc: int
    uses_host_memory = False

    def __init__(self, number: int) -> None:
        self.name, self.number = f"gpu:{number}", number
        self.activate()
        if os.environ.get("GPUCNN_NO_POOL", "0") not in ("", "0"):
            cupy.cuda.set_allocator(None)
        _place_cache()
        self.cc = int(cupy.cuda.Device(number).compute_capability)
        self._functions: dict[tuple, Any] = {}
        self._shared: dict[tuple, int] = {}

    def activate(self) -> None:
        """Make this GPU the one that CuPy works on."""
        cupy.cuda.Device(self.number).use()

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        """An uninitialised CuPy array; CuPy's pool hands out multiples of 512 bytes."""
        return cupy.empty(shape, dtype)

    def release(self) -> None:
        """Give the blocks that CuPy's pool keeps back to the driver."""
        cupy.get_default_memory_pool().free_all_blocks()

    def free_bytes(self) -> int:
        """What the driver has left, and what CuPy's pool keeps."""
        return cupy.cuda.Device(self.number).mem_info[0] + cupy.get_default_memory_pool().free_bytes()

    def put(self, array: np.ndarray) -> DeviceArray:
        """A copy on the GPU."""
        return self.fitted(lambda: cupy.asarray(array, order="C"), array.shape, array.dtype)

    def owns(self, array: object) -> bool:
        """Whether this is a CuPy array on this GPU."""
        return isinstance(array, cupy.ndarray) and array.data.device_id == self.number

    def address(self, array: Any) -> int:
        """Where the first element lies in the GPU's memory."""
        return array.data.ptr

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

    def prepare_cuda(self, function: CudaLaunchable) -> tuple[tuple, Any]:
        """(key, kernel): compiled the first time; CuPy keeps cubins on disk."""
        key = (function.path, function.name, tuple(sorted(function.defines.items())))
        kernel = self._functions.get(key)
        if kernel is None:
            defines = (f"-D{n}={int(v) if isinstance(v, bool) else v}" for n, v in function.defines.items())
            # profilers and sanitizers then name the file and its lines
            code = f'#line 1 "{function.path.name}"\n{function.source()}'
            module = cupy.RawModule(code=code, options=("-std=c++17", "-lineinfo", *defines))
            try:
                # .kernel: what a RawKernel looks up again at each of its launches
                kernel = module.get_function(function.name).kernel
            except cupy.cuda.compiler.CompileException as error:
                raise function.refused(str(error)) from None
            self._functions[key] = kernel
        return key, kernel

    def launch_cuda(self, function: CudaLaunchable, geometry: Geometry, arguments: list[Any]) -> None:
        """Compile at the first launch, then launch."""
        self._launch(*self.prepare_cuda(function), geometry, arguments)

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
            except CompileError:
                raise
            except Exception as error:
                raise CompileError(f"{function!r} cannot be compiled here: {in_one_line(error)}") from error
            module = cupy.cuda.function.Module()
            module.load(bytes(binary))
            kernel = self._functions[key] = module.get_function(entry)
        self._launch(key, kernel, geometry, function.entry_arguments(arguments))

    def _launch(self, key: tuple, kernel: Any, geometry: Geometry, arguments: list[Any]) -> None:
        grid, block, shared_bytes = geometry
        driver = cupy.cuda.driver
        try:
            if shared_bytes > self._most_shared(key, kernel):
                attribute = driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                driver.funcSetAttribute(kernel.ptr, attribute, shared_bytes)
                self._shared[key] = shared_bytes
            kernel(grid, block, tuple(arguments), shared_mem=shared_bytes)
            if os.environ.get("GPUCNN_SYNC", "0") not in ("", "0"):
                self.synchronize()
        except (driver.CUDADriverError, cupy.cuda.runtime.CUDARuntimeError) as error:
            if error.status in _LOST:
                raise KernelError(
                    f"{self.name} is lost to this process ({error}): a kernel launched before, or this one, broke it. "
                    "Start the process again; GPUCNN_SYNC=1 names the kernel"
                ) from None
            raise LaunchError(f"the driver refuses grid {grid}, block {block}, {shared_bytes} bytes: {error}") from None

    def _most_shared(self, key: tuple, kernel: Any) -> int:
        """Bytes of dynamic shared memory that the kernel may use so far: static arrays count too."""
        if key not in self._shared:
            driver = cupy.cuda.driver
            static = driver.funcGetAttribute(driver.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, kernel.ptr)
            self._shared[key] = _DEFAULT_SHARED - static
        return self._shared[key]


@dataclass(frozen=True)
class _Graph:
    """A CUDA graph, and the pool to which the arrays between its kernels belong."""

    graph: Any
    pool: cupy.cuda.MemoryPool

    def __call__(self) -> None:
        self.graph.launch(cupy.cuda.get_current_stream())


def _place_cache() -> None:
    """CuPy fails where it cannot write its cache of compiled kernels: show it another place."""
    chosen = Path(os.environ.get("CUPY_CACHE_DIR") or "~/.cupy/kernel_cache")
    folder = places.cache_folder(chosen.name, "CUPY_CACHE_DIR", chosen.parent)
    if folder is None:
        os.environ["CUPY_CACHE_IN_MEMORY"] = "1"
    else:
        os.environ["CUPY_CACHE_DIR"] = str(folder)


@cache
def _cublas(handle: int) -> ctypes.CDLL:
    """The library behind CuPy's handle, which is already loaded."""
    from cupy_backends.cuda.libs import cublas

    major = cublas.getVersion(handle) // 10000
    return ctypes.CDLL(f"cublas64_{major}.dll" if sys.platform == "win32" else f"libcublas.so.{major}")
