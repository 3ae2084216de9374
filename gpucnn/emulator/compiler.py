"""The host's C++ compiler: from text to a loaded library, built once and kept on disk."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from ..errors import KernelError

SOURCE = Path(__file__).parent / "source"

CHECK = ("-fsanitize=thread,bounds-strict,alignment", "--param", "tsan-instrument-func-entry-exit=0")
COMMON = ("-std=c++20", "-fPIC", "-fvisibility=hidden", "-fno-strict-aliasing", f"-I{SOURCE}")


@cache
def compiler() -> str | None:
    """The path of g++, or of what CXX names."""
    return shutil.which(os.environ.get("CXX", "g++"))


def unavailable() -> str | None:
    """Why kernels cannot run in the emulator here; None if they can."""
    if compiler() is None:
        return f"no C++ compiler found ({os.environ.get('CXX', 'g++')}): install g++ 12 or newer, or set CXX"
    if platform.machine() not in ("x86_64", "aarch64"):
        return f"the emulator has no context switch for {platform.machine()}"
    return None


def cache_folder() -> Path:
    """Where libraries are kept: GPUCNN_CACHE, or ~/.cache/gpucnn."""
    base = os.environ.get("GPUCNN_CACHE")
    folder = Path(base) if base else Path.home() / ".cache" / "gpucnn"
    folder = folder / "emulator"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def library(texts: dict[str, str], main: str, flags: tuple[str, ...], runtime_flags: tuple[str, ...]) -> ctypes.CDLL:
    """The library made of the files `texts` (name → content), compiled from `main` and linked with the runtime."""
    reason = unavailable()
    if reason:
        raise KernelError(f"the emulator cannot run: {reason}")
    key = _key(repr(sorted(texts.items())), main, repr(flags), repr(runtime_flags), _own_sources())
    target = cache_folder() / f"{key}.so"
    if not target.exists():
        runtime = _runtime(runtime_flags)
        with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
            for name, text in texts.items():
                (Path(scratch) / name).write_text(text)
            _run([*COMMON, *flags, "-w", "-c", str(Path(scratch) / main), "-o", f"{scratch}/kernel.o"])
            _run(["-shared", "-Wl,-Bsymbolic", f"{scratch}/kernel.o", str(runtime), "-o", f"{scratch}/kernel.so"])
            os.replace(f"{scratch}/kernel.so", target)
    return ctypes.CDLL(str(target))


def _runtime(flags: tuple[str, ...]) -> Path:
    target = cache_folder() / f"runtime-{_key(_own_sources(), repr(flags))}.o"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
            _run([*COMMON, *flags, "-c", str(SOURCE / "runtime.cpp"), "-o", f"{scratch}/runtime.o"])
            os.replace(f"{scratch}/runtime.o", target)
    return target


@cache
def _own_sources() -> str:
    files = sorted(p for p in SOURCE.rglob("*") if p.is_file())
    return _key(*(p.read_text() for p in files), compiler() or "", platform.node())


def _key(*texts: str) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:24]


def _run(arguments: list[str]) -> None:
    done = subprocess.run([compiler() or "g++", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise KernelError(f"the host's C++ compiler refuses the kernel:\n{done.stderr[-4000:]}")
