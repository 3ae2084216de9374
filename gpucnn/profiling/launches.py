"""Dry runs: which functions a kernel would launch on a case, with grid, block and argument types,
and all that a whole call of something (such as a step of training) would launch and copy.

Nothing runs and no memory is touched. That is all that a compiler, or a count of blocks on a real
shape, needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..devices import choose
from ..devices.emulator import EmulatedArray
from ..devices.emulator.device import Emulator
from ..devices.launchable import CudaLaunchable, Geometry, NumbaLaunchable
from ..dispatch.case import Case, Spec
from ..dispatch.op import Kernel


@dataclass(frozen=True)
class Call:
    """One call of an op: the kernel that serves it, and what it gets."""

    kernel: Kernel
    operands: tuple[Spec | None, ...]
    params: dict[str, Any]

    @property
    def flops(self) -> float:
        """The work of the call, by the op's definition."""
        flops = self.kernel.op.flops
        return float(flops(*self.operands, **self.params)) if flops else 0.0


@dataclass(frozen=True)
class Region:
    """Memory that a launch or a copy touches: bytes of an allocation."""

    allocation: int
    nbytes: int


@dataclass(frozen=True)
class Launch:
    """One launch: `arguments` are arrays without contents, and NumPy scalars; `regions` is the
    memory of the arrays, and `call` the op's call that it is part of, if there is one.

    branch  the number of the branch that the launch is on; 0 on none
    beside  the number of the branch next to which it runs; 0 next to none
    """

    function: CudaLaunchable | NumbaLaunchable
    geometry: Geometry
    arguments: tuple[Any, ...]
    regions: tuple[Region, ...] = ()
    call: Call | None = None
    branch: int = 0
    beside: int = 0

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return int(np.prod(self.geometry.block))

    @property
    def blocks(self) -> int:
        """Blocks of the grid."""
        return int(np.prod(self.geometry.grid))


@dataclass(frozen=True)
class Copy:
    """A copy or a fill of memory on the device, without a kernel; `branch` and `beside` as of a `Launch`."""

    regions: tuple[Region, ...]
    branch: int = 0
    beside: int = 0


class RecordedArray(EmulatedArray):
    """An array without contents: it reads as zeros, and what is assigned to it is only recorded."""

    __slots__ = ()

    def get(self) -> np.ndarray:
        """Zeros."""
        return np.zeros(self.shape, self.dtype)

    def set(self, values: np.ndarray) -> None:
        """Nothing."""

    def __setitem__(self, index: Any, value: Any) -> None:
        device = choose.current()
        if isinstance(device, LaunchRecorder):
            device.copy(self[index], value)


class LaunchRecorder(Emulator):
    """An emulator that records launches and copies instead of doing them."""

    name = "recorder"

    def __init__(self, arch: str | None = None) -> None:
        self.nodes: list[Launch | Copy] = []
        self._call: Call | None = None
        self._branches = self._open = self._branch = 0
        self._allocations: dict[int, tuple[int, np.ndarray]] = {}
        if arch is not None:
            self.cc = int(arch.removeprefix("sm_"))

    @property
    def launches(self) -> list[Launch]:
        """The launches so far, in order."""
        return [node for node in self.nodes if isinstance(node, Launch)]

    def record_nodes(self, run: Callable[[], object]) -> list[Launch | Copy]:
        """What a call of `run` launches and copies, in order."""
        self.nodes = []
        run()
        return self.nodes

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> RecordedArray:
        """An array whose memory is never touched, so the operating system provides none."""
        host = np.empty(shape, dtype)
        self._allocations[id(host)] = len(self._allocations), host
        return RecordedArray(host)

    def put(self, array: np.ndarray) -> RecordedArray:
        """An array of this shape and dtype."""
        return self.allocate(array.shape, array.dtype)

    def begin(self, kernel: Kernel, operands: tuple[Any, ...], params: dict[str, Any]) -> None:
        """Note which call the next launches are part of."""
        specs = tuple(None if a is None else Spec(a.shape, a.dtype) for a in operands)
        self._call = Call(kernel, specs, params)

    def launch_cuda(self, function: CudaLaunchable, geometry: Geometry, arguments: list[Any]) -> None:
        """Record the launch."""
        self._record(function, geometry, arguments)

    def launch_numba(self, function: NumbaLaunchable, geometry: Geometry, arguments: list[Any]) -> None:
        """Record the launch."""
        self._record(function, geometry, arguments)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """A branch, which a device would record."""
        self._branches += 1
        self._open = self._branch = self._branches
        yield
        self._branch = 0

    def join(self) -> None:
        """The end of the branch."""
        self._open = 0

    def copy(self, target: EmulatedArray, source: Any) -> None:
        """Record a copy from an array, or a fill with a number."""
        self.nodes.append(Copy(self._regions([target, source]), *self._places()))

    def _record(self, function: CudaLaunchable | NumbaLaunchable, geometry: Geometry, arguments: list[Any]) -> None:
        regions = self._regions(arguments)
        self.nodes.append(Launch(function, geometry, tuple(arguments), regions, self._call, *self._places()))

    def _places(self) -> tuple[int, int]:
        return self._branch, self._open - self._branch

    def _regions(self, arguments: list[Any]) -> tuple[Region, ...]:
        return tuple(Region(self._allocation(a), a.nbytes) for a in arguments if isinstance(a, EmulatedArray))

    def _allocation(self, array: EmulatedArray) -> int:
        """The number of the allocation that an array is all or part of."""
        root = array.host
        while isinstance(root.base, np.ndarray):
            root = root.base
        return self._allocations[id(root)][0]


def launches(kernel: Kernel, case: Case, arch: str | None = None) -> list[Launch]:
    """The launches of the kernel on this case, in order; `arch` as for `LaunchRecorder`."""
    return of_call(Call(kernel, case.specs, case.params), arch)


def of_call(call: Call, arch: str | None = None) -> list[Launch]:
    """The launches of a call, in order."""
    kernel, specs, params = call.kernel, call.operands, call.params
    recorder = LaunchRecorder(arch)
    outputs = [] if kernel.op.inplace else [s for s in kernel.op.specs(*specs, **params) if s is not None]
    with choose.using(recorder):
        operands = [None if s is None else recorder.empty(*s) for s in specs]
        arrays = [*(recorder.empty(*s) for s in outputs), *operands]
        scratch = [recorder.empty(*s) for s in kernel.scratch(specs, params)]
        recorder.begin(kernel, tuple(operands), params)
        kernel.launch(*arrays, *scratch, **params)
    return recorder.launches


def serves(kernel: Kernel, case: Case, arch: str | None = None) -> bool:
    """Whether the kernel takes this case on the device in use, or on GPUs of an architecture, such
    as sm_90."""
    if arch is None:
        return kernel.serves(case.specs, case.params)
    with choose.using(LaunchRecorder(arch)):
        return kernel.serves(case.specs, case.params)
