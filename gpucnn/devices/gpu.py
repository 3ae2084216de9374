"""An NVIDIA GPU through CuPy: its memory, and the launch of kernels of both languages.

GPUCNN_SYNC=1 waits for each kernel, so that one that breaks the GPU is named at once.

GPUCNN_NO_POOL=1 allocates each array separately. CuPy's pool hands out parts of large blocks, where
compute-sanitizer does not notice an access out of bounds that hits a neighbour.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any

import cupy
import numpy as np

from .. import places
from ..errors import CompileError, CompilerLog, KernelError, LaunchError, in_one_line
from ..version import installed_version
from . import nvrtc
from .array import DeviceArray
from .device import Device, Peak
from .gpu_branch import GpuBranch
from .gpu_feed import GpuFeed, pinned
from .gpu_fetch import GpuFetch
from .launchable import CudaLaunchable, Geometry, NumbaLaunchable

_FP32_LANES = {60: 64, 70: 64, 72: 64, 75: 64, 80: 64}
"""FP32 units of a multiprocessor by compute capability; 128 in all others."""

_DEFAULT_SHARED = 48 << 10
"""Bytes of shared memory that a block may use unless the limit is raised."""

_LOST = {700, 702, 710, 714, 715, 716, 717, 718, 719}
"""CUDA's errors after which every further call in a process fails: illegal addresses, timeouts,
assertions, misaligned accesses, illegal instructions and the like."""


class _Recording(threading.local):
    """The branch of what this thread records; None unless it does."""

    branch: GpuBranch | None = None


class Gpu(Device):
    """One GPU. Arrays are CuPy's; everything runs on CuPy's current stream."""

    backends = ("cuda", "numba")
    records = True
    cc: int
    uses_host_memory = False

    def __init__(self, number: int) -> None:
        self.name, self.number = f"gpu:{number}", number
        self.activate()
        self._pooled = os.environ.get("GPUCNN_NO_POOL", "0") in ("", "0")
        if not self._pooled:
            cupy.cuda.set_allocator(None)
        self._cache = _place_cache()
        self.cc = int(cupy.cuda.Device(number).compute_capability)
        newest = nvrtc.newest_architecture()
        self._newer_than = newest if newest is not None and self.cc > newest else None
        """The newest architecture of the compilers if this GPU is newer: the driver then compiles PTX."""
        self._functions: dict[Any, Any] = {}
        self._shared: dict[int, int] = {}
        self._pools: list[cupy.cuda.MemoryPool] = []
        """Those of recorded launches."""
        self._peak = 0
        self._recording = _Recording()

    def activate(self) -> None:
        """Make this GPU the one that CuPy works on."""
        cupy.cuda.Device(self.number).use()

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        """An uninitialised CuPy array; CuPy's pool hands out multiples of 512 bytes."""
        return cupy.empty(shape, dtype)

    def release(self) -> None:
        """Give the blocks that CuPy's pool keeps back to the driver."""
        self.peak_bytes()
        cupy.get_default_memory_pool().free_all_blocks()

    def peak_bytes(self) -> int | None:
        """What CuPy's pool and the pools of recorded launches have held together; None without pools.
        CUDA's own memory, such as that of compiled kernels, is not in it."""
        pools = [cupy.get_default_memory_pool(), *self._pools]
        with cupy.cuda.Device(self.number):
            self._peak = max(self._peak, sum(pool.total_bytes() for pool in pools))
        return self._peak if self._pooled else None

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
        """Wait until all work on the current stream has finished. Raises `KernelError` if a kernel has
        broken the GPU."""
        try:
            cupy.cuda.get_current_stream().synchronize()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            if error.status in _LOST:
                raise self._lost(error) from None
            raise

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
        with cupy.cuda.using_allocator(pool.malloc), stream, self._with_branch():
            run()
            stream.synchronize()
            stream.begin_capture()
            try:
                run()
            except BaseException:
                with suppress(Exception):  # it fails too, and would hide the reason
                    self.join()
                    stream.end_capture()
                raise
            return _Graph(stream.end_capture(), pool, self)

    @contextmanager
    def _with_branch(self) -> Iterator[None]:
        self._recording.branch = GpuBranch()
        try:
            yield
        finally:
            self._recording.branch = None

    def aside(self) -> AbstractContextManager[None]:
        """A branch of what is recorded; elsewhere, launches keep their order."""
        self.join()
        branch = self._recording.branch
        return nullcontext() if branch is None else branch.aside()

    def join(self) -> None:
        """The launches after it follow the branch, whose arrays are given up."""
        if self._recording.branch is not None:
            self._recording.branch.join()

    def begin(self, kernel: Any, operands: tuple[Any, ...], params: dict[str, Any]) -> None:
        """Keep what a launch on a branch reads."""
        if self._recording.branch is not None:
            self._recording.branch.hold(operands)

    @contextmanager
    def temporary_arrays(self) -> Iterator[None]:
        """They come from a pool of their own."""
        pool = cupy.cuda.MemoryPool()
        try:
            with cupy.cuda.using_allocator(pool.malloc):
                yield
        finally:
            pool.free_all_blocks()

    def fetch(self, arrays: Sequence[Any]) -> GpuFetch:
        """Copies on the current stream."""
        return GpuFetch(arrays)

    def feed(self, shape: tuple[int, ...], dtype: Any) -> GpuFeed:
        """A ring that a stream of its own fills."""
        half, dtype = (-(-shape[0] // 2), *shape[1:]), np.dtype(dtype)
        return GpuFeed(self.empty(shape, dtype), [pinned(half, dtype) for _ in range(2)])

    def prepare_cuda(self, function: CudaLaunchable) -> Any:
        """The kernel: compiled the first time; CuPy keeps cubins on disk."""
        kernel = self._functions.get(function)
        if kernel is None and self._newer_than is not None:
            kernel = self._functions[function] = _loaded(self._ptx(function), function.name)
        if kernel is None:
            # CuPy compiles an empty program for each set of options: the defines are text.
            values = ((name, int(v) if isinstance(v, bool) else v) for name, v in function.defines.items())
            defines = "".join(f"#define {name} {value}\n" for name, value in values)
            module = cupy.RawModule(code=defines + function.program(), options=("-std=c++17", "-lineinfo"))
            try:
                # .kernel: what a RawKernel looks up again at each of its launches
                kernel = module.get_function(function.name).kernel
            except cupy.cuda.compiler.CompileException as error:
                raise function.refused(str(error)) from None
            self._functions[function] = kernel
        return kernel

    def is_compiled(self, function: CudaLaunchable) -> bool:
        """Whether it has been launched or prepared."""
        return function in self._functions

    def _ptx(self, function: CudaLaunchable) -> bytes:
        """PTX, which the driver compiles for GPUs that the compilers here do not know."""
        arch = f"compute_{self._newer_than}"
        try:
            return nvrtc.compile_cuda(function.program(), function.path.name, function.defines, arch=arch).ptx.encode()
        except CompilerLog as log:
            raise function.refused(str(log)) from None

    def launch_cuda(self, function: CudaLaunchable, geometry: Geometry, arguments: list[Any]) -> None:
        """Compile at the first launch, then launch."""
        self._launch(self.prepare_cuda(function), geometry, arguments)

    def launch_numba(self, function: NumbaLaunchable, geometry: Geometry, arguments: list[Any]) -> None:
        """Numba compiles the kernel to PTX; the rest is as for CUDA C++.

        Numba's own launch takes longer than most kernels here, and cannot be captured in a graph.
        """
        key = (function, function.kinds(arguments))
        kernel = self._functions.get(key)
        if kernel is None:
            try:
                ptx, entry = function.ptx(function.signature(arguments), divmod(self.cc, 10))
                image = ptx.encode() if self._newer_than is not None else self._cubin(ptx)
            except CompileError:
                raise
            except Exception as error:
                raise CompileError(f"{function!r} cannot be compiled here: {in_one_line(error)}") from error
            kernel = self._functions[key] = _loaded(image, entry)
        self._launch(kernel, geometry, function.entry_arguments(arguments))

    def _cubin(self, ptx: str) -> bytes:
        """Machine code for this GPU, kept next to CuPy's."""
        version = installed_version("cuda-core")
        path = self._cache and self._cache / f"gpucnn-{places.cache_key(ptx, self.cc, version)}.cubin"
        content = places.intact(path) if path else None
        if content is None:
            from cuda.core import Program, ProgramOptions

            content = bytes(Program(ptx, "ptx", ProgramOptions(arch=f"sm_{self.cc}")).compile("cubin").code)
            if path:
                places.keep(path, content)
        return content

    def _launch(self, kernel: Any, geometry: Geometry, arguments: list[Any]) -> None:
        grid, block, shared_bytes = geometry
        driver = cupy.cuda.driver
        try:
            if shared_bytes and shared_bytes > self._most_shared(kernel):
                attribute = driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                driver.funcSetAttribute(kernel.ptr, attribute, shared_bytes)
                self._shared[kernel.ptr] = shared_bytes
            kernel(grid, block, tuple(arguments), shared_mem=shared_bytes)
            if os.environ.get("GPUCNN_SYNC", "0") not in ("", "0"):
                self.synchronize()
        except (driver.CUDADriverError, cupy.cuda.runtime.CUDARuntimeError) as error:
            if error.status in _LOST:
                raise self._lost(error) from None
            raise LaunchError(f"the driver refuses grid {grid}, block {block}, {shared_bytes} bytes: {error}") from None

    def _lost(self, error: Exception) -> KernelError:
        return KernelError(
            f"{self.name} is lost to this process ({error}): a kernel launched before, or this one, broke it. "
            "Start the process again; GPUCNN_SYNC=1 names the kernel"
        )

    def _most_shared(self, kernel: Any) -> int:
        """Bytes of dynamic shared memory that the kernel may use so far: static arrays count too."""
        if kernel.ptr not in self._shared:
            driver = cupy.cuda.driver
            static = driver.funcGetAttribute(driver.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, kernel.ptr)
            self._shared[kernel.ptr] = _DEFAULT_SHARED - static
        return self._shared[kernel.ptr]


class _Graph:
    """A CUDA graph, and the pool to which the arrays between its kernels belong."""

    def __init__(self, graph: Any, pool: cupy.cuda.MemoryPool, gpu: Gpu) -> None:
        self.graph, self._pool, self._gpu = graph, pool, gpu
        gpu._pools.append(pool)

    def __del__(self) -> None:
        """Count the pool, then give back its memory, which CuPy does not do by itself."""
        with suppress(Exception):  # when the process ends, CuPy may have ended before
            self._gpu.peak_bytes()
            self._gpu._pools.remove(self._pool)
            self.graph = None
            with cupy.cuda.Device(self._gpu.number):
                self._pool.free_all_blocks()

    def __call__(self) -> None:
        self.graph.launch(cupy.cuda.get_current_stream())


def _loaded(image: bytes, entry: str) -> Any:
    """A kernel of a cubin, or of PTX."""
    module = cupy.cuda.function.Module()
    module.load(image)
    return module.get_function(entry)


def _place_cache() -> Path | None:
    """The folder in which CuPy keeps compiled kernels; None if it keeps none. CuPy fails where it
    cannot write it: show it another place."""
    if os.environ.get("CUPY_CACHE_IN_MEMORY", "0") not in ("", "0"):
        return None
    chosen = Path(os.environ.get("CUPY_CACHE_DIR") or "~/.cupy/kernel_cache")
    folder = places.cache_folder(chosen.name, "CUPY_CACHE_DIR", chosen.parent)
    if folder is None:
        os.environ["CUPY_CACHE_IN_MEMORY"] = "1"
    else:
        os.environ["CUPY_CACHE_DIR"] = str(folder)
    return folder


@cache
def _cublas(handle: int) -> ctypes.CDLL:
    """The library behind CuPy's handle, which is already loaded."""
    from cupy_backends.cuda.libs import cublas

    major = cublas.getVersion(handle) // 10000
    return ctypes.CDLL(f"cublas64_{major}.dll" if sys.platform == "win32" else f"libcublas.so.{major}")
