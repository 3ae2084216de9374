"""One launch: grid, block and arguments as C structures, and its fault or statistics."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from ...errors import ArgumentError, LaunchError
from .. import forks
from ..launchable import Geometry
from ..scoped import Scoped
from . import faults
from .array import EmulatedArray
from .compiler import runtime

MAX_STATIC_SHARED = 48 << 10
MAX_SHARED = 227 << 10
"""Bytes of shared memory for a block of an H100; above 48 KiB only if dynamic."""

_MAX_GRID = (2**31 - 1, 65535, 65535)
_MAX_BLOCK = (1024, 1024, 64)
_MAX_THREADS = 1024


@dataclass(frozen=True)
class LineTraffic:
    """The memory traffic of one source line; `requests` counts instructions of a warp."""

    requests: int = 0
    sectors: int = 0
    ideal_sectors: int = 0
    shared_wavefronts: int = 0
    ideal_shared_wavefronts: int = 0


@dataclass(frozen=True)
class Statistics:
    """What one launch did, summed over all threads. Sectors are 32 bytes of global memory; a
    wavefront is one pass of a warp through the banks of shared memory; the ideal is the least
    number that the same bytes need. `lines` has the traffic of each source line. Loads and stores
    are counted in check mode, the rest only with `count=True`."""

    switches: int = 0
    loads: int = 0
    stores: int = 0
    barriers: int = 0
    sectors: int = 0
    ideal_sectors: int = 0
    shared_wavefronts: int = 0
    ideal_shared_wavefronts: int = 0
    lines: dict[str, LineTraffic] = field(default_factory=dict)


@dataclass(frozen=True)
class EmulatorSettings:
    """How kernels run.

    mode    "fast" or "check"
    seed    the order of the threads: 0 forward, 1 backward, else random
    count   whether to collect statistics, which needs check mode
    """

    mode: str = "fast"
    seed: int = 0
    count: bool = False
    launches: list[tuple[str, Statistics]] = field(default_factory=list)


_settings = Scoped("emulator", EmulatorSettings())
_one_at_a_time = threading.RLock()
forks.hold(_one_at_a_time)


def settings() -> EmulatorSettings:
    """The settings in force in this thread."""
    return _settings.get()


@contextmanager
def running(**changes: Any) -> Iterator[EmulatorSettings]:
    """Other settings (`mode`, `seed`, `count`) for the body of a with statement, in this thread
    alone; the `launches` of the settings that it yields collect (kernel, Statistics)."""
    unknown = set(changes) - {"mode", "seed", "count"}
    if unknown:
        raise ArgumentError(f"the emulator has no setting {', '.join(sorted(unknown))}: it has mode, seed and count")
    new = replace(settings(), launches=[], **changes)
    if new.mode not in ("fast", "check"):
        raise ArgumentError(f"mode={new.mode!r} is unknown: use fast or check")
    if new.count and new.mode != "check":
        raise ArgumentError("count=True needs mode='check': fast kernels do not report their accesses")
    with _settings.scope():
        _settings.set(new)
        yield new


class Buffer(ctypes.Structure):
    """GpuBuffer of runtime.h."""

    _fields_ = (
        ("address", ctypes.c_size_t),
        ("bytes", ctypes.c_size_t),
        ("kind", ctypes.c_uint),
        ("granule", ctypes.c_uint),
        ("known", ctypes.c_void_p),
        ("touched", ctypes.c_void_p),
        ("used", ctypes.c_int),
    )


GLOBAL, SHARED, SHARED_OFFSET = range(3)
"""Kinds of a Buffer; the address of a SHARED_OFFSET counts from the start of shared memory."""


class Launch(ctypes.Structure):
    """GpuLaunch of runtime.h."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_size_t),
        ("dynamic_offset", ctypes.c_size_t),
        ("seed", ctypes.c_ulonglong),
        ("check", ctypes.c_int),
        ("count", ctypes.c_int),
        ("flush", ctypes.c_int),
        ("buffer_count", ctypes.c_int),
        ("buffers", ctypes.POINTER(Buffer)),
        ("image_begin", ctypes.c_size_t),
        ("image_end", ctypes.c_size_t),
        ("shared", ctypes.c_size_t),
        ("statistics", ctypes.c_ulonglong * 8),
        ("fault", faults.Fault),
    )


class _Line(ctypes.Structure):
    """GpuTraffic of runtime.h."""

    _fields_ = (("site", ctypes.c_size_t), ("counts", ctypes.c_ulonglong * 5))


@dataclass(frozen=True)
class SharedArray:
    """A __shared__ array: its address (an offset if `relative`), and its name in the source."""

    name: str
    address: int
    nbytes: int
    relative: bool

    def buffer(self) -> Buffer:
        """The structure for the runtime."""
        return Buffer(self.address, self.nbytes, SHARED_OFFSET if self.relative else SHARED, 4, None)


def launch(
    function: Any,
    name: str,
    geometry: Geometry,
    arguments: Sequence[Any],
    names: Sequence[str],
    *,
    static_bytes: int = 0,
    dynamic_offset: int = 0,
    shared: Sequence[SharedArray] = (),
    variables: Mapping[str, np.ndarray] = MappingProxyType({}),
    dynamic_name: str = "dynamic shared memory",
    flush: bool,
    location: Callable[[int, int], str],
) -> Statistics:
    """Run one kernel.

    arguments       emulated arrays and NumPy scalars in the kernel's order
    names           names in the source of the arrays among them, in their order
    static_bytes    of shared memory that the kernel declares
    variables       by name the __device__ variables, which a launch that fails leaves as they were
    dynamic_offset  where dynamic shared memory starts, if static arrays lie in the same block
    flush           whether denormal numbers are zero
    location        (address of the library, offset in it) → file:line
    """
    grid, block, shared_bytes = _three(geometry.grid), _three(geometry.block), geometry.shared_bytes
    _within_limits(name, grid, block, static_bytes, shared_bytes)
    how = settings()
    check = how.mode == "check"
    hold, buffers, arrays = [], [], []
    pointers = (ctypes.c_void_p * max(len(arguments), 1))()
    for i, argument in enumerate(arguments):
        if isinstance(argument, EmulatedArray):
            host, written = argument.host, argument.written
            address = host.ctypes.data
            value = np.array(address, np.uint64)
            if check:
                track = None if written is None else written.ctypes.data
                buffers.append(Buffer(address, host.nbytes, GLOBAL, min(host.itemsize, 4), track))
            arrays.append((address, host))
        else:
            value = np.array(argument)
        hold.append(value)
        pointers[i] = value.ctypes.data
    before = {name: variable.copy() for name, variable in variables.items()}
    buffers += [Buffer(v.ctypes.data, v.nbytes, GLOBAL, min(v.itemsize, 4), None) for v in variables.values()]
    buffers += [s.buffer() for s in shared]
    config = Launch(
        grid=grid,
        block=block,
        shared_bytes=dynamic_offset + shared_bytes,
        dynamic_offset=dynamic_offset,
        seed=how.seed,
        check=check,
        count=how.count,
        flush=flush,
        buffer_count=len(buffers),
        buffers=(Buffer * max(len(buffers), 1))(*buffers),
    )
    with _one_at_a_time:
        if function(ctypes.byref(config), pointers):
            raise LaunchError(f"{name}: not enough memory for the stacks of {block[0] * block[1] * block[2]} threads")
        lines = _lines(config.image_begin, location) if how.count else {}
    if config.fault.kind:
        for n, variable in variables.items():
            variable[...] = before[n]
        memory = [faults.global_memory(n, address, host) for n, (address, host) in zip(names, arrays, strict=False)]
        memory += [faults.global_memory(n, variable.ctypes.data, variable) for n, variable in variables.items()]
        for s in shared:
            memory.append(faults.shared_memory(s.name, s.address + (config.shared if s.relative else 0), s.nbytes))
        memory.append(faults.shared_memory(dynamic_name, config.shared + dynamic_offset, shared_bytes))
        where = lambda site: location(config.image_begin, site) if site else ""  # noqa: E731
        raise LaunchError(f"{name}: {faults.sentence(config.fault, memory, where)}")
    statistics = replace(Statistics(*config.statistics), lines=lines)
    how.launches.append((name, statistics))
    return statistics


def _lines(base: int, location: Callable[[int, int], str]) -> dict[str, LineTraffic]:
    """The traffic of each source line; several instructions of one line are summed."""
    begin = ctypes.POINTER(_Line)()
    fetch = runtime().gpu_traffic
    fetch.restype = ctypes.c_size_t
    sums: dict[str, np.ndarray] = {}
    for i in range(fetch(ctypes.byref(begin))):
        place = location(base, begin[i].site)
        sums[place] = sums.get(place, 0) + np.array(begin[i].counts, np.int64)
    return {place: LineTraffic(*map(int, counts)) for place, counts in sorted(sums.items())}


def _within_limits(name: str, grid: tuple[int, ...], block: tuple[int, ...], static: int, dynamic: int) -> None:
    """Raise `LaunchError` for what a GPU would refuse."""
    if min(grid) < 1 or any(g > limit for g, limit in zip(grid, _MAX_GRID, strict=True)):
        raise LaunchError(f"{name}: a grid of {grid} blocks is impossible: x may be 1 … 2³¹ - 1, y and z 1 … 65535")
    threads = block[0] * block[1] * block[2]
    if min(block) < 1 or threads > _MAX_THREADS or any(b > m for b, m in zip(block, _MAX_BLOCK, strict=True)):
        raise LaunchError(f"{name}: a block of {block} is impossible: at most 1024 threads, and 64 along z")
    if static > MAX_STATIC_SHARED:
        raise LaunchError(f"{name}: {static} bytes of static shared memory are too many: at most {MAX_STATIC_SHARED}")
    if dynamic < 0 or static + dynamic > MAX_SHARED:
        raise LaunchError(f"{name}: {static + dynamic} bytes of shared memory are too many: at most {MAX_SHARED}")


def _three(extents: tuple[int, ...]) -> tuple[int, int, int]:
    x, y, z = (*extents, 1, 1, 1)[:3]
    return x, y, z
