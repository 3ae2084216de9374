"""A kernel's memory traffic, counted in the emulator: sectors of global memory, and passes through
shared memory.

A warp's load is served in sectors of 32 bytes, the fewest when neighbouring lanes read neighbouring
words. Shared memory has 32 banks: lanes that read different words of one bank wait for each other.
What is counted is the PTX that the compiler for GPUs produces, on a real shape with one image if
possible.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from ..devices import emulator
from ..dispatch import choice
from ..dispatch.case import Case
from ..dispatch.op import Kernel
from ..errors import ArgumentError
from . import benchmark, launches, trials

AFFORDABLE = 5e6
"""Floating-point operations that are counted within a few seconds."""


@dataclass(frozen=True)
class Traffic:
    """The traffic of all launches of a kernel on one case, and the least possible."""

    case: str
    sectors: int
    ideal_sectors: int
    shared_wavefronts: int
    ideal_shared_wavefronts: int

    @property
    def excess(self) -> float:
        """Sectors divided by the least number; 1 is perfect coalescing."""
        return self.sectors / max(self.ideal_sectors, 1)

    @property
    def conflicts(self) -> float:
        """Passes through shared memory divided by the least number; 1 is free of conflicts."""
        return self.shared_wavefronts / max(self.ideal_shared_wavefronts, 1)


def small_case(kernel: Kernel) -> Case | None:
    """The case to count: the largest affordable real shape with one image, else a small case."""
    real = []
    for case in kernel.op.cases:
        with suppress(ArgumentError):
            real += [benchmark.resized(kernel.op, case, 1)] if case.bench else []
    for candidates in (real, kernel.op.cases):
        served = [c for c in candidates if launches.serves(kernel, c) and trials.work(kernel.op, c) <= AFFORDABLE]
        if served:
            return max(served, key=lambda case: trials.work(kernel.op, case))
    return None


def of_kernel(kernel: Kernel, case: Case) -> Traffic:
    """Count one call. Raises `KernelError` without the emulator or, for CUDA C++, NVRTC."""
    with choice.using(device="emulator"), emulator.running(mode="check", count=True) as settings:
        benchmark.Call(kernel, case).run()
    counts = [statistics for _, statistics in settings.launches]
    return Traffic(
        case.name,
        sum(s.sectors for s in counts),
        sum(s.ideal_sectors for s in counts),
        sum(s.shared_wavefronts for s in counts),
        sum(s.ideal_shared_wavefronts for s in counts),
    )
