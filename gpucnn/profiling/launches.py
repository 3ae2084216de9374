"""Dry runs: which functions a kernel would launch on a case, with grid, block and argument types.

Nothing runs and no memory is touched. That is all that a compiler, or a count of blocks on a real
shape, needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..devices import choose
from ..devices.emulator import EmulatedArray
from ..devices.emulator.device import Emulator
from ..devices.launchable import CudaLaunchable, NumbaLaunchable
from ..dispatch.case import Case
from ..dispatch.op import Kernel


@dataclass(frozen=True)
class Launch:
    """One launch: `arguments` are arrays without contents, and NumPy scalars."""

    function: CudaLaunchable | NumbaLaunchable
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared_bytes: int
    arguments: tuple[Any, ...]

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return int(np.prod(self.block))

    @property
    def blocks(self) -> int:
        """Blocks of the grid."""
        return int(np.prod(self.grid))


class LaunchRecorder(Emulator):
    """An emulator that records launches instead of running them."""

    name = "recorder"

    def __init__(self) -> None:
        self.launches: list[Launch] = []

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> EmulatedArray:
        """An array whose memory is never touched, so the operating system provides none."""
        return EmulatedArray(np.empty(shape, dtype))

    def launch_cuda(
        self,
        function: CudaLaunchable,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        shared_bytes: int,
        arguments: list[Any],
    ) -> None:
        """Record the launch."""
        self.launches.append(Launch(function, grid, block, shared_bytes, tuple(arguments)))

    def launch_numba(
        self,
        function: NumbaLaunchable,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        shared_bytes: int,
        arguments: list[Any],
    ) -> None:
        """Record the launch."""
        self.launches.append(Launch(function, grid, block, shared_bytes, tuple(arguments)))


def launches(kernel: Kernel, case: Case) -> list[Launch]:
    """The launches of the kernel on this case, in order."""
    recorder = LaunchRecorder()
    specs = case.specs
    outputs = [] if kernel.op.inplace else [s for s in kernel.op.specs(*specs, **case.params) if s is not None]
    with choose.using(recorder):
        arrays = [
            None if s is None else recorder.empty(*s) for s in (*outputs, *specs, *kernel.scratch(specs, case.params))
        ]
        kernel.launch(*arrays, **case.params)
    return recorder.launches


def serves(kernel: Kernel, case: Case) -> bool:
    """Whether the kernel takes this case."""
    return kernel.serves(case.specs, case.params)
