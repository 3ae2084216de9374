"""What a kernel would launch: its functions with grid, block and types, without running or even touching memory.

Compilers, and whoever wants to know how many blocks a kernel has on a real shape, need no more than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..devices import choose
from ..devices.device import Device
from ..devices.emulator import EmulatedArray
from ..devices.launch import GpuFunction
from ..dispatch.case import Case
from ..dispatch.op import Kernel


@dataclass(frozen=True)
class Launch:
    """One launch: `arguments` are arrays without contents and NumPy scalars, as the function takes them."""

    function: GpuFunction
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


class Recorder(Device):
    """A device that notes launches and does nothing."""

    name = "recorder"
    backends = ("cuda", "numba")

    def __init__(self) -> None:
        self.launches: list[Launch] = []

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> EmulatedArray:
        """An array whose memory nobody touches: the operating system gives none until then."""
        return EmulatedArray(np.empty(shape, dtype))

    def owns(self, array: Any) -> bool:
        """Whether this is such an array."""
        return isinstance(array, EmulatedArray)

    def launch_cuda(self, function: Any, grid: Any, block: Any, shared_bytes: int, arguments: list[Any]) -> None:
        """Note it."""
        self.launches.append(Launch(function, grid, block, shared_bytes, tuple(arguments)))

    launch_numba = launch_cuda


def launches(kernel: Kernel, case: Case) -> list[Launch]:
    """What the kernel launches on this case, in order."""
    recorder = Recorder()
    specs = case.specs
    outputs = [] if kernel.op.inplace else [s for s in kernel.op.specs(*specs, **case.params) if s is not None]
    before = choose.current()
    choose.return_to(recorder)
    try:
        arrays = [
            None if s is None else recorder.empty(*s) for s in (*outputs, *specs, *kernel.scratch(specs, case.params))
        ]
        kernel.launch(*arrays, **case.params)
    finally:
        choose.return_to(before)
    return recorder.launches


def serves(kernel: Kernel, case: Case) -> bool:
    """Whether the kernel takes this case."""
    return kernel.serves(case.specs, case.params)
