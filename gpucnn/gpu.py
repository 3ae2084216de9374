"""An NVIDIA GPU through CuPy: its memory, and the launch of kernels of both languages."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

from .device import Device


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

    def synchronize(self) -> None:
        """Wait for the current stream."""
        cupy.cuda.get_current_stream().synchronize()

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
