"""One launch: grid, block, arguments and settings in C structures, and errors turned into source lines."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import ArgumentError, KernelError
from .array import EmulatedArray


class LaunchError(KernelError):
    """A kernel did what it must not do: the message says what and where."""


@dataclass(frozen=True)
class Statistics:
    """What one launch did, summed over all threads. Sectors are 32 bytes of global memory; a wavefront is one pass of a
    warp through the banks of shared memory. The ideal is what the same bytes need at least."""

    switches: int = 0
    loads: int = 0
    stores: int = 0
    barriers: int = 0
    sectors: int = 0
    ideal_sectors: int = 0
    shared_wavefronts: int = 0
    ideal_shared_wavefronts: int = 0


@dataclass(frozen=True)
class Settings:
    """How kernels run: `mode` fast or check; `seed` 0 forward, 1 backward, else random orders; `count` statistics."""

    mode: str = "fast"
    seed: int = 0
    count: bool = False
    launches: list[tuple[str, Statistics]] = field(default_factory=list)


_settings = Settings()


def settings() -> Settings:
    """The settings in force."""
    return _settings


@contextmanager
def running(**changes: Any) -> Iterator[Settings]:
    """Other settings for the body of a with statement; `launches` of what it gives collects (kernel, Statistics)."""
    global _settings
    before = _settings
    mode = changes.get("mode", before.mode)
    if mode not in ("fast", "check"):
        raise ArgumentError(f"mode={mode!r} is unknown: use fast or check")
    _settings = replace(before, launches=[], **changes)
    try:
        yield _settings
    finally:
        _settings = before


class Buffer(ctypes.Structure):
    """GpuBuf of cuda.h."""

    _fields_ = [
        ("ptr", ctypes.c_void_p),
        ("bytes", ctypes.c_size_t),
        ("granule", ctypes.c_uint),
        ("flags", ctypes.c_uint),
        ("defined", ctypes.c_void_p),
    ]


class Config(ctypes.Structure):
    """GpuCfg of cuda.h."""

    _fields_ = [
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("smem", ctypes.c_size_t),
        ("seed", ctypes.c_ulonglong),
        ("check", ctypes.c_int),
        ("nbuf", ctypes.c_int),
        ("buf", ctypes.POINTER(Buffer)),
        ("msg", ctypes.c_char_p),
        ("msglen", ctypes.c_size_t),
        ("dyn_off", ctypes.c_size_t),
        ("stats", ctypes.c_ulonglong * 8),
    ]


def launch(
    function: Any,
    name: str,
    grid: tuple[int, ...],
    block: tuple[int, ...],
    arguments: Sequence[Any],
    *,
    shared_bytes: int,
    dynamic_offset: int = 0,
    shared: Sequence[Buffer] = (),
    explain: Callable[[str], str],
) -> Statistics:
    """Run one kernel: `arguments` are emulated arrays, NumPy arrays and NumPy scalars in the kernel's order."""
    pointers = (ctypes.c_void_p * max(len(arguments), 1))()
    hold, buffers = [], []
    for i, argument in enumerate(arguments):
        if isinstance(argument, (EmulatedArray, np.ndarray)):
            host, known = (argument.host, argument.known) if isinstance(argument, EmulatedArray) else (argument, None)
            address = host.ctypes.data
            track = 0 if known is None else known.ctypes.data
            buffers.append(Buffer(address, host.nbytes, min(host.itemsize, 4), known is None, track))
            value = np.array(address, np.uint64)
        else:
            value = np.array(argument)
        hold.append(value)
        pointers[i] = value.ctypes.data
    buffers += shared
    array = (Buffer * max(len(buffers), 1))(*buffers)
    message = ctypes.create_string_buffer(1000)
    check = (2 if _settings.count else 1) if _settings.mode == "check" else 0
    config = Config(
        _three(grid),
        _three(block),
        shared_bytes,
        _settings.seed,
        check,
        len(buffers),
        array,
        ctypes.cast(message, ctypes.c_char_p),
        1000,
        dynamic_offset,
    )
    if function(ctypes.byref(config), pointers):
        raise LaunchError(f"{name}: {explain(message.value.decode())}")
    statistics = Statistics(*config.stats)
    _settings.launches.append((name, statistics))
    return statistics


def _three(extents: tuple[int, ...]) -> Any:
    return (ctypes.c_uint * 3)(*(*extents, 1, 1, 1)[:3])
