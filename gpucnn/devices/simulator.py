"""Numba's simulator as a device: kernels as Python, an interpreter thread per CUDA thread.

It must be chosen when the process starts (NUMBA_ENABLE_CUDASIM=1) and is thousands of times slower
than the emulator, but Python's debugger works inside a kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import KernelError
from .cpu import Cpu
from .launchable import Geometry, NumbaLaunchable


def simulated() -> bool:
    """Whether Numba's simulator takes the place of numba.cuda in this process
    (NUMBA_ENABLE_CUDASIM=1)."""
    import numba

    return bool(numba.config.ENABLE_CUDASIM)  # type: ignore[attr-defined]


class Simulator(Cpu):
    """The host, with numba.cuda kernels in Numba's simulator. Arrays are NumPy's."""

    name = "simulator"
    backends = ("numba",)

    def __init__(self) -> None:
        if not simulated():
            raise KernelError("device='simulator' must be chosen at the start: run again with NUMBA_ENABLE_CUDASIM=1")

    def put(self, array: np.ndarray) -> np.ndarray:
        """A copy."""
        return np.array(array, order="C")

    def launch_numba(self, function: NumbaLaunchable, geometry: Geometry, arguments: list[Any]) -> None:
        """Run the kernel as Python."""
        grid, block, shared_bytes = geometry
        function.simulated[grid, block, 0, shared_bytes](*arguments)
