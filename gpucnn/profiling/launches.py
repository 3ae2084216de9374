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
from ..devices.launchable import CudaLaunchable, Geometry, NumbaLaunchable
from ..dispatch.case import Case
from ..dispatch.op import Kernel


@dataclass(frozen=True)
class Launch:
    """One launch: `arguments` are arrays without contents, and NumPy scalars."""

    function: CudaLaunchable | NumbaLaunchable
    geometry: Geometry
    arguments: tuple[Any, ...]

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return int(np.prod(self.geometry.block))

    @property
    def blocks(self) -> int:
        """Blocks of the grid."""
        return int(np.prod(self.geometry.grid))


class LaunchRecorder(Emulator):
    """An emulator that records launches instead of running them."""

    name = "recorder"

    def __init__(self, arch: str | None = None) -> None:
        self.launches: list[Launch] = []
        if arch is not None:
            self.cc = int(arch.removeprefix("sm_"))

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> EmulatedArray:
        """An array whose memory is never touched, so the operating system provides none."""
        return EmulatedArray(np.empty(shape, dtype))

    def launch_cuda(self, function: CudaLaunchable, geometry: Geometry, arguments: list[Any]) -> None:
        """Record the launch."""
        self.launches.append(Launch(function, geometry, tuple(arguments)))

    def launch_numba(self, function: NumbaLaunchable, geometry: Geometry, arguments: list[Any]) -> None:
        """Record the launch."""
        self.launches.append(Launch(function, geometry, tuple(arguments)))


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


def serves(kernel: Kernel, case: Case, arch: str | None = None) -> bool:
    """Whether the kernel takes this case on the device in use, or on GPUs of an architecture, such
    as sm_90."""
    if arch is None:
        return kernel.serves(case.specs, case.params)
    with choose.using(LaunchRecorder(arch)):
        return kernel.serves(case.specs, case.params)
