"""The host's C++ compiler: builds libraries from texts, keeps them on disk and loads them."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ... import places
from ...errors import CompilerLog, KernelError
from ...files import explained
from .. import forks

SOURCE = Path(__file__).parent / "source"
BUILT = "built.so"

_COMMON = ("-std=c++20", "-fPIC", "-march=native", "-fno-strict-aliasing", "-fno-math-errno")
_HEADERS = f"-I{SOURCE}"
_RUNTIME = ("runtime.cpp", "checker.cpp", "counters.cpp")

_building = threading.RLock()
"""Held while a library is loaded, and while that of the threads, checker and counters is built: two
copies would each have a state."""
forks.hold(_building)


class LoadedFile(NamedTuple):
    """A library that is loaded: its functions, and where it lies. `descriptors` are those of a file
    without a disk."""

    functions: ctypes.CDLL
    path: Path
    descriptors: tuple[int, ...] = ()

    def inspected(self, *command: str) -> bytes:
        """What a tool prints about the file, whose path is its last argument."""
        done = subprocess.run([*command, str(self.path)], capture_output=True, pass_fds=self.descriptors)
        return done.stdout


class Library:
    """A compiled kernel text: its functions, symbols and source lines."""

    def __init__(self, key: str, build: Callable[[Path], None]) -> None:
        self._key = key
        self._file = loaded(f"{key}.so", build)
        self.functions = self._file.functions
        self._locations: dict[int, str] = {}

    def symbols(self) -> list[tuple[int, int, str, str]]:
        """(offset, size, kind, name) of each symbol of the library, as `nm` lists them."""
        listing = places.cached("emulator", f"{self._key}.symbols", self._listing).decode()
        rows = [line.split() for line in listing.splitlines()]
        return [(int(row[0], 16), int(row[1], 16), row[2], row[3]) for row in rows if len(row) == 4]

    def _listing(self) -> bytes:
        return self._file.inspected("nm", "-S", "--defined-only")

    def base(self, name: str) -> int:
        """The address at which the library is loaded, from that of one of its functions."""
        address = ctypes.cast(getattr(self.functions, name), ctypes.c_void_p).value or 0
        return address - next(offset for offset, _, _, symbol in self.symbols() if symbol == name)

    def variables(self, titles: Mapping[str, str]) -> dict[str, np.ndarray]:
        """Of the variables outside of functions that `titles` names, by title: their memory, which
        keeps its values from launch to launch."""
        spellings = dict(titles) | {
            f"_ZL{len(name)}{name}": title for name, title in titles.items()
        }  # the latter static
        found = {}
        for offset, size, kind, symbol in self.symbols():
            if kind in "bBdD" and symbol in spellings:
                address = self.base("gpu_launch_0") + offset
                memory = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
                found[spellings[symbol]] = memory if size % 4 else memory.view(np.uint32)
        return found

    def location(self, base: int, offset: int) -> str:
        """`file:line` of a site, which is either a text `@gpu:file:line` or an address of code."""
        if offset not in self._locations:
            text = ctypes.string_at(base + offset, 5) if 0 < offset < self._file.path.stat().st_size else b""
            if text == b"@gpu:":
                self._locations[offset] = ctypes.string_at(base + offset + 5).decode().rpartition("/")[2]
            else:
                self._locations[offset] = self._line_of_code(offset - 1)
        return self._locations[offset]

    def _line_of_code(self, offset: int) -> str:
        frames = self._file.inspected("addr2line", "-i", hex(max(offset, 0)), "-e").decode().splitlines()
        lines = [line.split(" (")[0] for line in frames]
        own = [line.rpartition("/")[2] for line in lines if not line.startswith((str(SOURCE), "?"))]
        return own[0] if own else ""


@cache
def compiler() -> str | None:
    """The path of g++, or of the compiler that CXX names; None if it is not installed."""
    return shutil.which(os.environ.get("CXX", "g++"))


def unavailable() -> str | None:
    """Why kernels cannot run in the emulator here; None if they can."""
    if compiler() is None:
        return f"no C++ compiler found ({os.environ.get('CXX', 'g++')}): install g++ 12 or newer, or set CXX"
    if platform.machine() not in ("x86_64", "aarch64") or platform.system() != "Linux":
        return f"the emulator runs on Linux on x86-64 and aarch64, not on {platform.system()} on {platform.machine()}"
    return None


def library(texts: dict[str, str], main: str, flags: tuple[str, ...]) -> Library:
    """The library that results from compiling `main`, one of the files `texts` (name → content)."""
    reason = unavailable()
    if reason:
        raise KernelError(f"the emulator cannot run: {reason}")
    runtime()

    def build(scratch: Path) -> None:
        for name, text in texts.items():
            (scratch / name).write_text(text, encoding="utf-8")
        object_file = str(scratch / "kernel.o")
        run([*flags, _HEADERS, "-fvisibility=hidden", "-w", "-c", str(scratch / main), "-o", object_file])
        # Without `flags`, which would link the sanitizer's library.
        run(["-shared", object_file, "-lm", "-o", str(scratch / BUILT)])

    return Library(places.cache_key(repr(sorted(texts.items())), main, repr(flags), environment()), build)


def runtime() -> ctypes.CDLL:
    """The library of threads, checker and counters that all kernels of the process share."""
    with _building:
        return _runtime()


@cache
def _runtime() -> ctypes.CDLL:
    def build(scratch: Path) -> None:
        run(["-O2", _HEADERS, "-shared", *(str(SOURCE / name) for name in _RUNTIME), "-o", str(scratch / BUILT)])

    return loaded(f"runtime-{environment()}.so", build, ctypes.RTLD_GLOBAL).functions


def loaded(name: str, build: Callable[[Path], None], mode: int = ctypes.DEFAULT_MODE) -> LoadedFile:
    """The library `name` of the cache, which is built first if it is missing, damaged or cannot be
    loaded. `build` writes the file `BUILT` into a folder."""
    folder = places.cache_folder("emulator")
    path = folder / name if folder else None
    if path and (loaded := _from_cache(path, mode)):
        return loaded
    with _scratch(folder) as scratch:  # several threads build at a time
        build(Path(scratch))
        content = Path(scratch, BUILT).read_bytes()
    with _building:
        if path and (loaded := _from_cache(path, mode)):  # another thread was faster
            return loaded
        if path and places.keep(path, content) and (loaded := _from_cache(path, mode)):
            return loaded
        descriptor = os.memfd_create(name)
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        path = Path(f"/proc/self/fd/{descriptor}")
        return LoadedFile(ctypes.CDLL(str(path), mode=mode), path, (descriptor,))


def _from_cache(path: Path, mode: int) -> LoadedFile | None:
    """The library in a file of the cache; None if it is missing, damaged or cannot be loaded."""
    with _building:
        if places.intact(path) is None:
            return None
        with suppress(OSError):  # built for another C library, or in a folder where nothing may be executed
            return LoadedFile(ctypes.CDLL(str(path), mode=mode), path)
        return None


def _scratch(folder: Path | None) -> tempfile.TemporaryDirectory:
    """A temporary folder, in the system's for such ones or else in `folder`."""
    with explained("make", "a temporary folder"):
        try:
            return tempfile.TemporaryDirectory()
        except OSError:
            return tempfile.TemporaryDirectory(dir=folder)


@cache
def environment() -> str:
    """What a library depends on in addition to its text: the emulator's sources, the compiler and
    the processor."""
    files = sorted(p for p in SOURCE.iterdir() if p.is_file())
    version = subprocess.run([compiler() or "g++", "--version"], capture_output=True).stdout
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text(encoding="utf-8", errors="replace").splitlines() if cpu.exists() else []
    processor = next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
    return places.cache_key(*(p.read_text(encoding="utf-8") for p in files), version, repr(_COMMON), processor)


def run(arguments: list[str]) -> None:
    """Call the compiler. Raises `CompilerLog` with what it prints."""
    done = subprocess.run(
        [compiler() or "g++", *_COMMON, *arguments], capture_output=True, encoding="utf-8", errors="replace"
    )
    if done.returncode:
        raise CompilerLog(done.stderr)
