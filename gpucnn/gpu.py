"""An NVIDIA GPU through CuPy: its memory, and the launch of kernels of both languages."""

from __future__ import annotations

import time
from typing import Any

import cupy
import numpy as np

from .device import Device, Peak
from .timing import Clock, Run

_FP32_LANES = {70: 64, 75: 64, 80: 64}
"""FP32 units of a multiprocessor by compute capability; 128 in all others since 8.6."""


class Gpu(Device):
    """One GPU. Arrays are CuPy's; everything runs on CuPy's current stream."""

    backends = ("cuda", "numba")

    def __init__(self, number: int) -> None:
        self.name = f"gpu:{number}"
        cupy.cuda.Device(number).use()
        self.cc = int(cupy.cuda.Device(number).compute_capability)
        self._functions: dict[tuple, Any] = {}

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

    def peak(self) -> Peak:
        """From the clock rates that the driver tells: two operations for each FP32 lane, two transfers a clock."""
        told = cupy.cuda.Device().attributes
        lanes = told["MultiProcessorCount"] * _FP32_LANES.get(self.cc, 128)
        return Peak(
            2e3 * lanes * told["ClockRate"],
            2e3 * told["MemoryClockRate"] * told["GlobalMemoryBusWidth"] / 8,
            told["L2CacheSize"],
        )

    def synchronize(self) -> None:
        """Wait for the current stream."""
        cupy.cuda.get_current_stream().synchronize()

    def cublas_matmul(self, y: Any, a: Any, b: Any, transpose_a: bool, transpose_b: bool) -> None:
        """y = a @ b by cuBLAS, either operand read as its transpose. CuPy keeps float32 unless CUPY_TF32 is set."""
        from cupy import cublas

        cublas.gemm("T" if transpose_a else "N", "T" if transpose_b else "N", a, b, out=y)

    def launch_cuda(self, function: Any, grid: Any, block: Any, shared_bytes: int, arguments: list[Any]) -> None:
        """Compile at the first launch (CuPy keeps cubins on disk), then launch."""
        key = (function.path, function.name, tuple(sorted(function.defines.items())))
        kernel = self._functions.get(key)
        if kernel is None:
            options = ("-std=c++17", *(f"-D{name}={value}" for name, value in function.defines.items()))
            kernel = cupy.RawModule(code=function.source(), options=options).get_function(function.name)
            self._functions[key] = kernel
        if shared_bytes > 48 << 10:
            kernel.max_dynamic_shared_size_bytes = shared_bytes
        kernel(grid, block, tuple(arguments), shared_mem=shared_bytes)

    def launch_numba(self, function: Any, grid: Any, block: Any, shared_bytes: int, arguments: list[Any]) -> None:
        """PTX of Numba, a cubin of it, and a launch like that of any other kernel.

        Numba's own launch costs more than most kernels here, and cannot be captured in a graph.
        """
        from .numba_cuda import flattened

        signature = function.signature(arguments)
        kernel = self._functions.get((function, signature))
        if kernel is None:
            from cuda.core import Program, ProgramOptions

            ptx, entry = function.ptx(signature, divmod(self.cc, 10))
            binary = Program(ptx, "ptx", ProgramOptions(arch=f"sm_{self.cc}")).compile("cubin").code
            module = cupy.cuda.function.Module()
            module.load(binary)
            kernel = self._functions[function, signature] = module.get_function(entry)
        kernel(grid, block, tuple(flattened(arguments)), shared_mem=shared_bytes)


class GpuClock(Clock):
    """Measures by events on a stream of its own."""

    def __init__(self) -> None:
        self._stream = cupy.cuda.Stream(non_blocking=True)
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        self._filler = cupy.zeros(2 * int(properties["l2CacheSize"]), cupy.uint8)
        self._start, self._stop = cupy.cuda.Event(), cupy.cuda.Event()

    def warm_up(self, run: Run) -> float:
        """Compile, fill the pool, and time single calls."""
        with self._stream:
            run()
            self._stream.synchronize()
            return min(self.sample(run)[0] for _ in range(3))

    def prepare(self, run: Run, repeat: int) -> Run:
        """A graph of that many copies, launched at once."""
        with self._stream:
            self._stream.begin_capture()
            for _ in range(repeat):
                run()
            graph = self._stream.end_capture()
        return lambda: graph.launch(self._stream)

    def sample(self, run: Run) -> tuple[float, float]:
        """(seconds on the GPU between two events around the call, seconds until the call returned)."""
        with self._stream:
            self._start.record(self._stream)
            begin = time.perf_counter()
            run()
            host = time.perf_counter() - begin
            self._stop.record(self._stream)
            self._stop.synchronize()
        return cupy.cuda.get_elapsed_time(self._start, self._stop) * 1e-3, host

    def overwrite_caches(self) -> None:
        """Write twice what the L2 cache holds."""
        with self._stream:
            self._filler += 1
            self._stream.synchronize()
