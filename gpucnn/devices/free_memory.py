"""How much memory this process can still allocate."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

_V1, _V2 = ("limit_in_bytes", "usage_in_bytes", "total_inactive_file"), ("max", "current", "inactive_file")


def available() -> int | None:
    """Bytes that this process can still allocate without swapping, under every limit set on it;
    None if unknown."""
    limits = [value for value in (_system(), _control_group(), _address_space()) if value is not None]
    return max(0, min(limits)) if limits else None


def peak() -> int | None:
    """The most bytes of memory that this process has occupied so far (its resident set); None if
    unknown."""
    try:
        if sys.platform.startswith("linux"):  # getrusage counts what came before exec as well
            match = re.search(
                r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE
            )
            return int(match[1]) * 1024 if match else None
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    except (ImportError, OSError, ValueError):
        return None


def readable(count: int | None) -> str:
    """A number of bytes for people: `1.5 GB`; None is `unknown`."""
    if count is None:
        return "unknown"
    value, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if value >= 100 or units[0] == "bytes" else f"{value:.1f} {units[0]}"


def _system() -> int | None:
    try:
        if sys.platform == "darwin":
            return _macos(
                subprocess.run(["vm_stat"], capture_output=True, encoding="utf-8", timeout=5, check=True).stdout
            )
        if sys.platform == "win32":
            return _windows()
        return _linux(Path("/proc/meminfo").read_text(encoding="utf-8"))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _linux(meminfo: str) -> int | None:
    match = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def _macos(vm_stat: str) -> int | None:
    page = re.search(r"page size of (\d+) bytes", vm_stat)
    pages = re.findall(r"^Pages (?:free|inactive|speculative|purgeable):\s+(\d+)", vm_stat, re.MULTILINE)
    return int(page[1]) * sum(map(int, pages)) if page and pages else None


def _windows() -> int | None:
    import ctypes

    class MemoryStatus(ctypes.Structure):
        """MEMORYSTATUSEX of the Windows API; its last five numbers are not used."""

        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            ("total", ctypes.c_uint64),
            ("free", ctypes.c_uint64),
            ("others", 5 * ctypes.c_uint64),
        )

    status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
    kernel: Any = ctypes.windll.kernel32  # type: ignore[attr-defined]
    return int(status.free) if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else None


def _control_group(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int | None:
    """What the strictest control group of this process leaves (containers, batch systems)."""
    try:
        lines = [line.split(":", 2) for line in membership.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    remaining = []
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if "memory" in controllers.split(","):
            base, names = root / "memory", _V1
        elif not controllers:
            base, names = root, _V2
        else:
            continue
        folder = base / path.strip("/")
        for group in (folder, *folder.parents):
            remaining.append(_group_leaves(group, names))
            if group == base:
                break
    return min((value for value in remaining if value is not None), default=None)


def _group_leaves(group: Path, names: tuple[str, str, str]) -> int | None:
    limit, usage, cache = names
    try:
        allowed = (group / f"memory.{limit}").read_text(encoding="utf-8").strip()
        if allowed == "max" or int(allowed) >= 1 << 60:
            return None
        reclaimable = re.search(rf"^{cache} (\d+)", (group / "memory.stat").read_text(encoding="utf-8"), re.MULTILINE)
        used = int((group / f"memory.{usage}").read_text(encoding="utf-8")) - (
            int(reclaimable[1]) if reclaimable else 0
        )
        return int(allowed) - used
    except (OSError, ValueError):
        return None


def _address_space() -> int | None:
    """What `ulimit -v` leaves."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        return limit - int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    except (ImportError, OSError, ValueError):
        return None
