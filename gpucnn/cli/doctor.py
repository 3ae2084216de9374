"""The command doctor: what this machine offers, what is broken, and how to fix it.

Nothing here raises: what cannot be determined is `unknown`, and what fails is reported with the
first line of its error. A report can be posted as it is: the home folder is `~` and the user's name
`<user>`.
"""

from __future__ import annotations

import ctypes
import getpass
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from .. import datasets, places
from ..devices import choose, free_memory, nvrtc, threads
from ..runs import self_check
from ..version import __version__, installed_version
from .group import AS_JSON, main
from .screen import print_json
from .selftest import CHECKS, Absent

BASE = (
    "numpy", "numba", "llvmlite", "click", "rich", "safetensors", "platformdirs", "pooch", "matplotlib", "pillow",
    "threadpoolctl",
)  # fmt: skip
"""Packages that gpucnn requires."""

CUPY = ("cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x", "cupy")
"""The wheels that install a package called `cupy`: at most one of them may be installed."""

OPTIONAL = (*CUPY, "numba-cuda", "cuda-toolkit", "torch")

TOOLKIT = Path("/usr/local/cuda")

VARIABLES = r"(GPUCNN|NUMBA|CUPY|CUDA)_\w+|(OMP|OPENBLAS|MKL)_NUM_THREADS|MPLCONFIGDIR|MPLBACKEND"


@dataclass(frozen=True)
class Cache:
    """A folder that keeps something from run to run."""

    name: str
    path: str
    writable: bool


@dataclass(frozen=True)
class CheckResult:
    """How one check of `selftest` ended, and how long it took; `ok` is None for what is absent and
    not required."""

    name: str
    ok: bool | None
    seconds: float
    detail: str


@dataclass(frozen=True)
class Problem:
    """A known problem: an error keeps gpucnn from working well, a warning costs a feature."""

    severity: str
    what: str
    command: str


@dataclass(frozen=True)
class Report:
    """All that `gpucnn doctor` reports."""

    machine: dict[str, str]
    packages: dict[str, str | None]
    environment: dict[str, str]
    caches: list[Cache]
    checks: list[CheckResult]
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every check passed and no problem is an error."""
        return all(check.ok is not False for check in self.checks) and all(p.severity != "error" for p in self.problems)

    @property
    def verdict(self) -> str:
        """The report in one line."""
        failed = next((check for check in self.checks if check.ok is False), None)
        problem = next((p for p in self.problems if p.severity == "error"), None)
        if problem:
            return f"not ready: {problem.what}"
        if failed:
            return f"not ready: the check {failed.name!r} failed: {failed.detail}"
        return f"ready: CPU with {self.machine['cores']} cores, GPU {self.machine['gpu']}"

    @property
    def command(self) -> str:
        """The command to run next."""
        if self.problems:
            return self.problems[0].command
        return "gpucnn train" if self.ok else "python -m pip install --upgrade --force-reinstall gpucnn"

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values, with the keys of the text."""
        return {"verdict": self.verdict, "ok": self.ok, **asdict(self), "command": self.command}

    def __str__(self) -> str:
        lines = [self.verdict]
        for title, rows in (
            ("machine", self.machine.items()),
            ("packages", ((name, version or "not installed") for name, version in self.packages.items())),
            ("environment", self.environment.items()),
            ("caches", ((c.name, f"{c.path}{'' if c.writable else '  NOT WRITABLE'}") for c in self.caches)),
            ("checks", ((c.name, f"{_STATES[c.ok]}  {c.seconds:.2f} s  {c.detail}") for c in self.checks)),
            ("problems", ((p.severity, f"{p.what}\n{'':24}{p.command}") for p in self.problems)),
        ):
            block = [f"  {name:<20}  {value}" for name, value in rows]
            lines += ["", title, *block] if block else []
        return "\n".join([*lines, "", "next", f"  {self.command}"])


def examine(check_gpu: bool = False) -> Report:
    """Inspect the machine, run the checks, and look for known problems.

    check_gpu  check the GPU again, instead of reporting the verdict that is kept
    """
    packages = {"gpucnn": __version__} | {name: installed_version(name) for name in BASE}
    packages |= {name: version for name in OPTIONAL if (version := installed_version(name))}
    environment = {name: _tidy(value) for name, value in sorted(os.environ.items()) if re.fullmatch(VARIABLES, name)}
    caches = _caches(packages)
    machine, verdict = _machine(any(packages.get(name) for name in CUPY)), None
    if not machine["gpu"].startswith("none"):
        try:
            verdict = self_check.run("gpu:0") if check_gpu else self_check.stored("gpu:0")
            machine["gpu check"] = _tidy(
                str(verdict or "not yet; `gpucnn train` does it, and `gpucnn doctor --self-check`")
            )
        except Exception as error:
            machine["gpu check"] = f"ended by {_first_line(error)}"
    return Report(
        machine=machine,
        packages=packages,
        environment=environment,
        caches=caches,
        checks=[_attempt(name, check) for name, check in CHECKS.items()],
        problems=sorted(_problems(packages, caches, verdict), key=lambda problem: problem.severity),
    )


# -- the machine -------------------------------------------------------------------------------------------------------


def _machine(cupy: bool) -> dict[str, str]:
    count, gpu = choose.gpu_state() if cupy else (0, "CuPy is not installed")
    driver = driver_version()
    return {
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}, {sys.maxsize.bit_length() + 1} bit",
        "cpu": _cpu(),
        "cores": str(threads.available()),
        "free memory": free_memory.readable(free_memory.available()),
        "blas": _blas(),
        "gpu": _tidy(gpu) if count else f"none ({_tidy(gpu)})",
        "driver": _cuda(driver) if driver else "no NVIDIA driver found",
    }


def _cpu() -> str:
    try:
        model_name = re.search(
            r"^model name\s*:\s*(.+)$",
            Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"),
            re.MULTILINE,
        )
    except OSError:
        model_name = None
    return model_name[1] if model_name else platform.processor() or platform.machine() or "unknown"


def _blas() -> str:
    try:
        from threadpoolctl import threadpool_info

        libraries = [f"{b['internal_api']} {b['version']}" for b in threadpool_info() if b["user_api"] == "blas"]
    except Exception as error:
        return _first_line(error)
    return ", ".join(dict.fromkeys(libraries)) or "unknown"


def driver_version() -> int | None:
    """The newest CUDA that the driver supports, 1000 · major + 10 · minor; None if absent."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    version = ctypes.c_int(0)
    try:
        failed = ctypes.CDLL(name).cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return None if failed else version.value or None


def _caches(packages: dict[str, str | None]) -> list[Cache]:
    folders: dict[str, str | Path] = {}
    for name, find in (("data sets", datasets.user_cache), ("compiled code", places.cache_location)):
        with suppress(ImportError):  # of platformdirs: a problem that is reported
            folders[name] = find()
    if os.environ.get("NUMBA_CACHE_DIR"):
        folders["compiled kernels"] = os.environ["NUMBA_CACHE_DIR"]
    folders["fonts"] = os.environ.get("MPLCONFIGDIR") or "~/.cache/matplotlib"
    if any(packages.get(name) for name in CUPY):
        folders["CUDA kernels"] = os.environ.get("CUPY_CACHE_DIR") or "~/.cupy/kernel_cache"
    found = {name: places.user_folder(folder) for name, folder in folders.items()}
    return [Cache(name, _tidy(str(folder)), _writable(folder)) for name, folder in found.items()]


def _writable(folder: Path) -> bool:
    """Whether a file can be created in the folder, or a missing folder can be created."""
    nearest = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return True
    except OSError:
        return False


_STATES = {True: "ok", False: "FAILED", None: "absent"}


def _attempt(name: str, check: Callable[[], str]) -> CheckResult:
    start = time.perf_counter()
    ok: bool | None
    try:
        ok, detail = True, check()
    except Absent as error:
        ok, detail = None, _tidy(str(error))
    except Exception as error:
        ok, detail = False, _first_line(error)
    return CheckResult(name, ok, round(time.perf_counter() - start, 3), detail)


# -- known problems ----------------------------------------------------------------------------------------------------


def _problems(
    packages: dict[str, str | None], caches: list[Cache], verdict: self_check.Verdict | None
) -> list[Problem]:
    problems = [_missing(packages), _two_cupys(packages), _numpy_too_new(packages), _numba_switches(), _folders()]
    wheel = next((name for name in CUPY if packages.get(name)), None)
    if wheel:
        problems += [_driver(wheel), _headers(wheel), _architectures(wheel), _numba_cuda(packages)]
    if verdict is not None and verdict.fault:
        what = f"{verdict.gpu} fails its check, and the CPU is used instead: {_tidy(verdict.fault)}"
        problems.append(Problem("error", what, "gpucnn doctor --self-check"))
    for cache in caches:
        if not cache.writable:
            what = f"the folder for {cache.name}, {cache.path}, cannot be written"
            problems.append(Problem("warning", what, f"{_CACHE_VARIABLES[cache.name]}=/another/folder gpucnn doctor"))
    return [problem for problem in problems if problem]


_CACHE_VARIABLES = {
    "data sets": "XDG_CACHE_HOME",
    "compiled code": "GPUCNN_CACHE",
    "compiled kernels": "NUMBA_CACHE_DIR",
    "fonts": "MPLCONFIGDIR",
    "CUDA kernels": "CUPY_CACHE_DIR",
}
"""The environment variable that moves each cache."""


def _missing(packages: dict[str, str | None]) -> Problem | None:
    absent = [name for name in BASE if not packages[name]]
    if not absent:
        return None
    return Problem("error", f"not installed: {', '.join(absent)}", f"python -m pip install {' '.join(absent)}")


def _two_cupys(packages: dict[str, str | None]) -> Problem | None:
    wheels = [name for name in CUPY if packages.get(name)]
    if len(wheels) < 2:
        return None
    return Problem(
        "error",
        f"{' and '.join(wheels)} are both installed: they overwrite each other's files",
        f'python -m pip uninstall -y {" ".join(wheels)} && python -m pip install "gpucnn[{_extra()}]"',
    )


def _extra() -> str:
    return "cuda13" if (driver_version() or 0) >= 13000 else "cuda12"


def _numpy_too_new(packages: dict[str, str | None]) -> Problem | None:
    if not packages.get("numba-cuda") or _numbers(packages["numpy"]) < (2, 5):
        return None
    return Problem(
        "error",
        f"numba-cuda {packages['numba-cuda']} does not work with NumPy {packages['numpy']}",
        'python -m pip install "numpy<2.5"',
    )


def _numba_switches() -> Problem | None:
    for name, effect in (
        ("NUMBA_DISABLE_JIT", "NumPy computes instead of the compiled kernels, many times slower"),
        ("NUMBA_ENABLE_CUDASIM", "Numba's GPU kernels run in its simulator"),
    ):
        if os.environ.get(name, "0") not in ("", "0"):
            severity = "error" if name == "NUMBA_DISABLE_JIT" else "warning"
            return Problem(severity, f"{name}={os.environ[name]} is set: {effect}", f"unset {name}")
    return None


def _folders() -> Problem | None:
    """Where data sets are read, and where runs are written."""
    data = os.environ.get("GPUCNN_DATA")
    if data and not os.path.isdir(os.path.expanduser(data)):
        what = f"GPUCNN_DATA={_tidy(data)!r} is not a folder: no data set can be loaded"
        return Problem("error", what, "unset GPUCNN_DATA")
    if not _writable(Path.cwd()):
        what = "the current folder cannot be written: training needs --out"
        return Problem("warning", what, "gpucnn train --out /another/folder")
    return None


def _driver(wheel: str) -> Problem | None:
    driver, needed = driver_version(), int(re.sub(r"\D", "", wheel) or 12)
    if driver is None:
        what = f"{wheel} is installed but no NVIDIA driver is found: gpucnn computes on the CPU"
        return Problem("warning", what, "nvidia-smi")
    if driver >= 1000 * needed:
        count, reason = choose.gpu_state()
        what = f"{wheel} and a driver are installed, but no GPU can be used: {_tidy(reason)}"
        return None if count else Problem("warning", what, "nvidia-smi")
    return Problem(
        "error",
        f"the NVIDIA driver is {_cuda(driver)} and {wheel} needs CUDA {needed}: update it or install what fits it",
        f'python -m pip uninstall -y {wheel} && python -m pip install "gpucnn[{_extra()}]"',
    )


def _architectures(wheel: str) -> Problem | None:
    """GPUs that the compilers do not know: those before Turing with CUDA 13, and new ones."""
    try:
        capabilities, newest = choose.gpu_capabilities(), nvrtc.newest_architecture()
    except Exception:  # `gpu_state` says what is broken
        return None
    oldest = min(capabilities, default=75)
    if "13" in wheel and oldest < 75:
        return Problem(
            "error",
            f"CUDA 13 has dropped GPUs below compute capability 7.5, and one here has {oldest / 10}: it needs "
            "cupy-cuda12x",
            f'python -m pip uninstall -y {wheel} && python -m pip install "gpucnn[cuda12]"',
        )
    if newest is None or max(capabilities, default=0) <= newest:
        return None
    return Problem(
        "warning",
        f"a GPU here has compute capability {max(capabilities) / 10} and the compilers know up to {newest / 10}: "
        "the driver compiles its kernels, from PTX",
        f'python -m pip install --upgrade --upgrade-strategy eager "gpucnn[{_extra()}]"',
    )


def _numba_cuda(packages: dict[str, str | None]) -> Problem | None:
    if packages.get("numba-cuda"):
        return None
    what = "numba-cuda is not installed: the kernels of the backend numba need it"
    return Problem("warning", what, f'python -m pip install "gpucnn[{_extra()}]"')


def _headers(wheel: str) -> Problem | None:
    """CuPy compiles against the headers of the CUDA runtime, which its wheel does not contain."""
    if any(installed_version(name) for name in ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12")):
        return None
    roots = [os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), TOOLKIT]
    if any(root and (Path(root) / "include/cuda_runtime.h").is_file() for root in roots):
        return None
    extra = "cuda13" if "13" in wheel else "cuda12"
    return Problem(
        "error", f"{wheel} is installed without the CUDA headers", f'python -m pip install "gpucnn[{extra}]"'
    )


# -- text --------------------------------------------------------------------------------------------------------------


def _numbers(version: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version or "")[:2])


def _cuda(driver: int) -> str:
    return f"for CUDA {driver // 1000}.{driver % 1000 // 10}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return _tidy(f"{type(error).__name__}: {lines[0]}")


def _tidy(text: str) -> str:
    """The text without home folder and user name."""
    home = os.path.expanduser("~")
    if home.strip(os.sep):  # a container's user may live in /
        text = text.replace(home, "~")
    try:
        user = re.escape(getpass.getuser())
    except (OSError, KeyError, ImportError):
        return text
    return re.sub(rf"(?<=[/\\]){user}(?=[/\\]|$)", "<user>", text)


# -- the command -------------------------------------------------------------------------------------------------------


@main.command()
@click.option("--self-check", "check_gpu", is_flag=True, help="Check the GPU again, whatever is kept of the last time.")
@AS_JSON
def doctor(check_gpu: bool, as_json: bool) -> int:
    """Report what this machine offers and what is broken, with the one command that fixes it.

    The exit status is 1 if something is broken.

    Keys of --json: verdict, ok, machine, packages, environment, caches (name, path, writable),
    checks (name, ok, seconds, detail), problems (severity, what, command), command.
    """
    report = examine(check_gpu)
    if as_json:
        print_json(report.to_json())
    else:
        click.echo(str(report))
    return 0 if report.ok else 1
