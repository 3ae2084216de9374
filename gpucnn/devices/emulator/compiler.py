"""The host's C++ compiler: builds libraries from texts, keeps them on disk and loads them."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from ... import places
from ...errors import KernelError

SOURCE = Path(__file__).parent / "source"

_COMMON = ("-std=c++20", "-fPIC", "-march=native", "-fno-strict-aliasing", "-fno-math-errno", f"-I{SOURCE}")
_RUNTIME = ("runtime.cpp", "checker.cpp", "counters.cpp")


class Library:
    """A compiled kernel text: its functions, symbols and source lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.functions = ctypes.CDLL(str(path))
        self._locations: dict[int, str] = {}

    def symbols(self) -> list[tuple[int, int, str, str]]:
        """(offset, size, kind, name) of each symbol of the library, as `nm` lists them."""
        listing = self.path.with_suffix(".symbols").read_text()
        rows = [line.split() for line in listing.splitlines()]
        return [(int(row[0], 16), int(row[1], 16), row[2], row[3]) for row in rows if len(row) == 4]

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
            text = ctypes.string_at(base + offset, 5) if 0 < offset < self.path.stat().st_size else b""
            if text == b"@gpu:":
                self._locations[offset] = ctypes.string_at(base + offset + 5).decode().rpartition("/")[2]
            else:
                self._locations[offset] = self._line_of_code(offset - 1)
        return self._locations[offset]

    def _line_of_code(self, offset: int) -> str:
        command = ["addr2line", "-i", "-e", str(self.path), hex(max(offset, 0))]
        frames = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
        places = [line.split(" (")[0] for line in frames]
        own = [p.rpartition("/")[2] for p in places if not p.startswith((str(SOURCE), "?"))]
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


def _folder() -> Path:
    """The folder of built libraries."""
    return places.cache_folder("emulator")


def library(texts: dict[str, str], main: str, flags: tuple[str, ...]) -> Library:
    """The library that results from compiling `main`, one of the files `texts` (name → content)."""
    reason = unavailable()
    if reason:
        raise KernelError(f"the emulator cannot run: {reason}")
    runtime()
    target = _folder() / f"{_key(repr(sorted(texts.items())), main, repr(flags), _environment())}.so"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=_folder()) as scratch:
            for name, text in texts.items():
                (Path(scratch) / name).write_text(text)
            object_file, built = f"{scratch}/kernel.o", f"{scratch}/kernel.so"
            _compile([*flags, "-fvisibility=hidden", "-w", "-c", f"{scratch}/{main}", "-o", object_file])
            # Without `flags`, which would link the sanitizer's library.
            _compile(["-shared", object_file, "-lm", "-o", built])
            listing = subprocess.run(["nm", "-S", "--defined-only", built], capture_output=True, text=True, check=True)
            (Path(scratch) / "kernel.symbols").write_text(listing.stdout)
            os.replace(f"{scratch}/kernel.symbols", target.with_suffix(".symbols"))
            os.replace(built, target)
    return Library(target)


@cache
def runtime() -> ctypes.CDLL:
    """The library of threads, checker and counters that all kernels of the process share."""
    target = _folder() / f"runtime-{_key(_environment())}.so"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=_folder()) as scratch:
            sources = [str(SOURCE / name) for name in _RUNTIME]
            _compile(["-O2", "-shared", *sources, "-o", f"{scratch}/runtime.so"])
            os.replace(f"{scratch}/runtime.so", target)
    return ctypes.CDLL(str(target), mode=ctypes.RTLD_GLOBAL)


@cache
def _environment() -> str:
    """What a library depends on in addition to its text: the emulator's sources, the compiler and
    the processor."""
    files = sorted(p for p in SOURCE.iterdir() if p.is_file())
    version = subprocess.run([compiler() or "g++", "--version"], capture_output=True, text=True).stdout
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    processor = next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
    return _key(*(p.read_text() for p in files), version, repr(_COMMON), processor)


def _key(*texts: str) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:24]


def _compile(arguments: list[str]) -> None:
    done = subprocess.run([compiler() or "g++", *_COMMON, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise KernelError(f"the host's C++ compiler refuses the kernel:\n{done.stderr[-4000:]}")
