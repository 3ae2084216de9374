"""Benchmark records: measured rows as a JSON file, with what is needed to judge them, and the
comparison of two."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import places
from ..devices import choose
from ..errors import FileError, KernelError
from ..files import explained, write_atomically
from ..version import __version__, installed_version

SLACK = 0.02
"""Medians whose relative difference is less than this count as equal."""


@dataclass(frozen=True)
class Row:
    """One kernel on one case. Times are in microseconds; `note` says why there are none."""

    op: str
    case: str
    kernel: str
    backend: str
    precision: str
    device: str
    flops: float
    bytes: int
    hot: float | None = None
    hot_low: float | None = None
    hot_high: float | None = None
    cold: float | None = None
    cold_low: float | None = None
    cold_high: float | None = None
    host: float | None = None
    samples: int = 0
    gflops: float | None = None
    gbytes: float | None = None
    roof_share: float | None = None
    workspace: int = 0
    note: str | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """Rows of two records with equal keys can be compared."""
        return (self.op, self.case, self.kernel, self.precision, self.device.partition(":")[0])


def record(measured: Sequence[Row]) -> dict[str, Any]:
    """The rows with all that is needed to judge them, as JSON values. Raises `KernelError` if a row
    has times of an emulated GPU."""
    for row in measured:
        if row.hot is not None or row.cold is not None:
            require_real(row.device)
    return about(sorted({row.device for row in measured})) | {"rows": [asdict(row) for row in measured]}


def require_real(device: str) -> None:
    """Raise `KernelError` for an emulated GPU, whose times mean nothing."""
    if choose.is_emulated(device):
        raise KernelError("the GPU is emulated and its times mean nothing: run this on a GPU, or with --check-only")


def about(devices: Sequence[str]) -> dict[str, Any]:
    """What is needed to judge what was measured on these devices, as JSON values."""
    return {
        "device": device_names(devices),
        "versions": versions(),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


_PACKAGES = ("numpy", "numba", "numba-cuda", "cuda-core", "cupy-cuda12x", "cupy-cuda13x", "torch", "jax")


def versions() -> dict[str, str | None]:
    """The versions of Python, gpucnn, the libraries that it may use, and NVIDIA's driver."""
    packages = {package: installed_version(package) for package in _PACKAGES}
    return {"python": platform.python_version(), "gpucnn": __version__, **packages, "driver": driver()}


def driver() -> str | None:
    """The version of NVIDIA's driver; None without one."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(r"Module.*?\s(\d+\.[\d.]+)\s", text)
    return match[1] if match else text.strip()


def device_names(devices: Sequence[str]) -> dict[str, str]:
    """The name of the hardware of each device."""
    host = platform.processor() or platform.machine()
    return {where: choose.gpu_state()[1] if where.startswith("gpu") else host for where in devices}


def name_of(where: str) -> str:
    """The name of one device: a GPU as its driver calls it, the CPU as LLVM does."""
    if where.startswith("gpu"):
        return choose.gpu_state()[1].split(", ")[int(where.partition(":")[2])]
    if where == "cpu":
        from llvmlite import binding

        return binding.get_host_cpu_name()
    return where


def fingerprint(where: str) -> str:
    """A file name for what results and times on a device depend on: the device, versions and the sources
    of kernels."""
    sources = hashlib.sha256()
    for path in sorted(places.folder_of_kernels().rglob("*")):
        if path.suffix in (".py", ".cu", ".cuh"):
            sources.update(path.read_bytes())
    return places.cache_key(where, name_of(where), sorted(versions().items()), sources.hexdigest())


def save(path: str | Path, measured: Sequence[Row]) -> None:
    """Write a record, completely or not at all."""
    write_atomically(path, (json.dumps(record(measured), indent=1) + "\n").encode())


def load(path: str | Path) -> list[Row]:
    """The rows of a record. Raises `FileError` if the file is not one."""
    with explained("read", path):
        text = Path(path).read_text(encoding="utf-8")
    try:
        return [Row(**row) for row in json.loads(text)["rows"]]
    except (ValueError, KeyError, TypeError) as error:
        raise FileError(f"{path} is not a record of gpucnn bench: {error}") from error


@dataclass(frozen=True)
class Change:
    """A row and that of an older record: the verdict (see `compare`), and the ratio of old to new time."""

    old: Row
    new: Row
    ratio: float
    verdict: str


def compare(old: Sequence[Row], new: Sequence[Row]) -> list[Change]:
    """The rows for which both records have a time.

    SAME if the medians differ by less than 2 %; else FASTER or SLOWER if the spreads (10th to 90th
    percentile) do not overlap; else UNSURE.
    """
    before = {row.key: row for row in old if row.hot}
    changes = []
    for row in new:
        was = before.get(row.key)
        if was is None or not row.hot:
            continue
        assert was.hot and was.hot_low and was.hot_high and row.hot_low and row.hot_high
        ratio = was.hot / row.hot
        if abs(ratio - 1) < SLACK:
            verdict = "SAME"
        elif row.hot_high < was.hot_low:
            verdict = "FASTER"
        elif row.hot_low > was.hot_high:
            verdict = "SLOWER"
        else:
            verdict = "UNSURE"
        changes.append(Change(was, row, ratio, verdict))
    return changes


def commit() -> str | None:
    """The commit of the checkout, with a + if there are changes; outside of a checkout,
    GPUCNN_COMMIT or None."""
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty=+"],
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("GPUCNN_COMMIT")
    return done.stdout.strip()
