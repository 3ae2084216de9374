"""The emulated GPU of a process and of the Python processes that it starts."""

from __future__ import annotations

import ctypes
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from .... import places
from ....errors import ArgumentError, KernelError, did_you_mean
from ... import free_memory
from . import build, images, modules
from .cards import CARDS

VARIABLE = "GPUCNN_EMULATED_GPU"
"""The environment variable that makes Python processes start on the emulated GPU: the key of the
built files and a `Session`, as JSON."""

_STARTUP = Path(__file__).parent / "startup"


@dataclass(frozen=True)
class Session:
    """How the emulated GPU behaves.

    card     one of `CARDS`: names and limits
    check    kernels run under the checker, each array is an allocation, streams must be ordered
    lazy     None: work is done when it is queued. 0: when somebody waits for it. Another number: a
             seed; then some work is done sooner, in an order that differs from seed to seed
    memory   bytes of device memory; None for the card's, but at most half of what the host has
    devices  how many GPUs there are
    """

    card: str = "h100"
    check: bool = False
    lazy: int | None = None
    memory: int | None = None
    devices: int = 1

    def __post_init__(self) -> None:
        if self.card not in CARDS:
            hint = did_you_mean(self.card, CARDS)
            raise ArgumentError(f"card {self.card!r} is unknown: {hint or 'use ' + ', '.join(CARDS)}")
        if self.memory is not None and self.memory < 1:
            raise ArgumentError(f"{self.memory} bytes of device memory are too few")
        if not 1 <= self.devices <= 8:
            raise ArgumentError(f"{self.devices} devices: there can be 1 … 8")

    @property
    def memory_bytes(self) -> int:
        """Bytes of device memory."""
        if self.memory is not None:
            return self.memory
        return min(CARDS[self.card].memory_bytes, (free_memory.available() or 16 << 30) // 2)


@dataclass(frozen=True)
class Counters:
    """What the driver has done in this process. `uploads` are copies from the host to the device,
    `reads` those back; `waits` are calls in which the host waits for the device."""

    launches: int
    graph_launches: int
    uploads: int
    reads: int
    device_copies: int
    fills: int
    allocations: int
    frees: int
    waits: int
    modules: int


class _Card(ctypes.Structure):
    """Card of driver.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        *((name, ctypes.c_int) for name in ("cc", "multiprocessors", "shared_per_block", "shared_per_multiprocessor")),
        *((name, ctypes.c_int) for name in ("threads_per_multiprocessor", "blocks_per_multiprocessor")),
        *((name, ctypes.c_int) for name in ("clock", "memory_clock", "bus_bits", "l2_bytes")),
        ("memory_bytes", ctypes.c_size_t),
    )


class _Settings(ctypes.Structure):
    """Settings of driver.h."""

    _fields_ = (
        ("card", _Card),
        ("devices", ctypes.c_int),
        ("check", ctypes.c_int),
        ("lazy", ctypes.c_int),
        ("seed", ctypes.c_ulonglong),
    )


_LOAD = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
_REPORT_FAULT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_REPORT = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


class _Hooks(ctypes.Structure):
    """Hooks of driver.h."""

    _fields_ = (("load", _LOAD), ("report_fault", _REPORT_FAULT), ("report", _REPORT))


class _Runtime(importlib.abc.MetaPathFinder):
    """Puts the module that was built for the emulated driver in the place of CuPy's."""

    def __init__(self, key: str) -> None:
        self._key = key

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> Any:
        """The module's spec."""
        if name != build.MODULE:
            return None
        file = str(build.runtime_module(self._key).path)
        return importlib.util.spec_from_loader(name, importlib.machinery.ExtensionFileLoader(name, file))


_driver: ctypes.CDLL | None = None
_kept: list[object] = []


def running() -> bool:
    """Whether this process runs on the emulated GPU."""
    return _driver is not None


def environment(session: Session, variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment variables of a process that is to run on the emulated GPU. Everything is
    built here, so that a failure is reported once. Raises `KernelError`."""
    key = build.prepare()
    path = os.pathsep.join([str(_STARTUP), *filter(None, [variables.get("PYTHONPATH")])])
    cache = places.cache_folder("emulated_gpu")
    # Machine code and the PTX noted of it belong together, so CuPy keeps its own elsewhere.
    extra = {"CUPY_CACHE_DIR": str(cache / "cupy")} if cache else {"CUPY_CACHE_IN_MEMORY": "1"}
    if session.check:
        extra["GPUCNN_NO_POOL"] = "1"
    # CUB is NVIDIA's runtime inside a module of CuPy, and does not work with this driver.
    extra["CUPY_ACCELERATORS"] = ""
    return {**variables, **extra, "PYTHONPATH": path, VARIABLE: json.dumps({"key": key, **asdict(session)})}


def start() -> None:
    """Run this process on the emulated GPU from now on, as the environment variable says. CuPy and
    numba.cuda must not have been imported yet."""
    global _driver
    if _driver is not None:
        return
    if "cupy" in sys.modules:
        raise KernelError("the emulated GPU must be started before CuPy is imported")
    values = json.loads(os.environ[VARIABLE])
    key = values.pop("key")
    session = Session(**values)
    card = CARDS[session.card]
    driver = build.load(key)
    text = _Card(card.name.encode(), *list(asdict(card).values())[1:-1], session.memory_bytes)
    settings = _Settings(text, session.devices, session.check, session.lazy is not None, session.lazy or 0)
    loaded = modules.Modules(card.cc, session.check)
    hooks = _Hooks(_LOAD(loaded.load), _REPORT_FAULT(loaded.report_fault), _REPORT(modules.report))
    _kept.extend([text, settings, hooks, loaded])
    driver.emulated_start(ctypes.byref(settings), ctypes.byref(hooks))
    sys.meta_path.insert(0, _Runtime(key))
    images.note_all(session.check)
    if session.check:
        sys.meta_path.insert(0, images.Wrapping({"cupy": _without_pool}))
    _driver = driver


def _without_pool(cupy: Any) -> None:
    """Each array is an allocation, so that what lies outside of it is known."""
    cupy.cuda.set_allocator(None)


def counters() -> Counters:
    """What the driver has done in this process so far."""
    if _driver is None:
        raise KernelError("this process does not run on the emulated GPU")
    values = (ctypes.c_ulonglong * len(Counters.__dataclass_fields__))()
    _driver.emulated_counters(values)
    return Counters(*values)
