"""What this machine offers gpucnn, what is broken, and the one command that mends it.

Nothing here raises: what cannot be found out is `unknown`, and what fails is reported with the first line of its error.
Paths are shortened so that a report can be posted: the home folder is `~` and the user's name `<user>`.
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
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from .. import datasets, places
from ..devices import choose, free_memory, threads
from ..version import __version__

BASE = (
    "numpy", "numba", "llvmlite", "click", "rich", "safetensors", "pooch", "matplotlib", "pillow", "threadpoolctl",
)  # fmt: skip
"""Packages that gpucnn cannot do without."""

CUPY = ("cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x", "cupy")
"""The wheels that all install a package called `cupy`."""

OPTIONAL = (*CUPY, "numba-cuda", "cuda-toolkit", "torch")

TOOLKIT = Path("/usr/local/cuda")

VARIABLES = r"(GPUCNN|NUMBA|CUPY|CUDA)_\w+|(OMP|OPENBLAS|MKL)_NUM_THREADS|MPLCONFIGDIR|MPLBACKEND"


@dataclass(frozen=True)
class Cache:
    """A folder where something is kept between runs."""

    name: str
    path: str
    writable: bool


@dataclass(frozen=True)
class Check:
    """One thing that was tried, and how long it took."""

    name: str
    ok: bool
    seconds: float
    detail: str


@dataclass(frozen=True)
class Problem:
    """Something known to go wrong. An error keeps gpucnn from working well; a warning only takes something away."""

    severity: str
    what: str
    command: str


@dataclass(frozen=True)
class Report:
    """All that `gpucnn doctor` tells."""

    machine: dict[str, str]
    packages: dict[str, str | None]
    environment: dict[str, str]
    caches: list[Cache]
    checks: list[Check]
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every check passed and no problem is an error."""
        return all(check.ok for check in self.checks) and all(p.severity != "error" for p in self.problems)

    @property
    def verdict(self) -> str:
        """The report in one line."""
        failed = next((check for check in self.checks if not check.ok), None)
        problem = next((p for p in self.problems if p.severity == "error"), None)
        if problem:
            return f"not ready: {problem.what}"
        if failed:
            return f"not ready: the check {failed.name!r} failed: {failed.detail}"
        return f"ready: CPU with {self.machine['cores']} cores, GPU {self.machine['gpu']}"

    @property
    def command(self) -> str:
        """What to paste into the shell next."""
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
            ("checks", ((c.name, f"{'ok' if c.ok else 'FAILED'}  {c.seconds:.2f} s  {c.detail}") for c in self.checks)),
            ("problems", ((p.severity, f"{p.what}\n{'':24}{p.command}") for p in self.problems)),
        ):
            block = [f"  {name:<20}  {value}" for name, value in rows]
            lines += ["", title, *block] if block else []
        return "\n".join([*lines, "", "next", f"  {self.command}"])


def examine() -> Report:
    """Look at the machine, try what gpucnn needs, and compare with what is known to go wrong."""
    packages = {"gpucnn": __version__} | {name: _version(name) for name in BASE}
    packages |= {name: version for name in OPTIONAL if (version := _version(name))}
    environment = {name: _tidy(value) for name, value in sorted(os.environ.items()) if re.fullmatch(VARIABLES, name)}
    caches = _caches(packages)
    return Report(
        machine=_machine(any(packages.get(name) for name in CUPY)),
        packages=packages,
        environment=environment,
        caches=caches,
        checks=[_attempt(name, check) for name, check in CHECKS.items()],
        problems=sorted(_problems(packages, caches), key=lambda problem: problem.severity),
    )


# -- what is there ---------------------------------------------------------------------------------------------------


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
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine() or "unknown"


def _blas() -> str:
    try:
        from threadpoolctl import threadpool_info

        found = [f"{b['internal_api']} {b['version']}" for b in threadpool_info() if b["user_api"] == "blas"]
    except Exception as error:
        return _first_line(error)
    return ", ".join(dict.fromkeys(found)) or "unknown"


def driver_version() -> int | None:
    """The newest CUDA that the NVIDIA driver serves, as 1000 · major + 10 · minor; None without a driver."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    version = ctypes.c_int(0)
    try:
        failed = ctypes.CDLL(name).cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return None if failed else version.value or None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _caches(packages: dict[str, str | None]) -> list[Cache]:
    found = [_cache("data sets", datasets.user_cache()), _cache("compiled kernels", _numba_folder())]
    found.append(_cache("kernels for GPUs", places.cache_location()))
    found.append(_cache("fonts", Path(os.environ.get("MPLCONFIGDIR") or Path.home() / ".cache/matplotlib")))
    if any(packages.get(name) for name in CUPY):
        folder = os.environ.get("CUPY_CACHE_DIR") or Path.home() / ".cupy/kernel_cache"
        found.append(_cache("CUDA kernels", Path(folder)))
    return found


def _numba_folder() -> Path:
    """Numba keeps machine code beside the kernel files, or for each user where that folder cannot be written."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return Path(os.environ["NUMBA_CACHE_DIR"])
    from ..places import folder_of_kernels

    beside = folder_of_kernels() / "__pycache__"
    if _writable(beside):
        return beside
    try:
        from numba.misc.appdirs import AppDirs
    except ImportError:
        return beside

    return Path(AppDirs(appname="numba", appauthor=False).user_cache_dir)


def _cache(name: str, folder: Path) -> Cache:
    return Cache(name, _tidy(str(folder)), _writable(folder))


def _writable(folder: Path) -> bool:
    """Whether a file can be made in the folder, or the folder itself where it is missing."""
    nearest = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return True
    except OSError:
        return False


# -- what works ------------------------------------------------------------------------------------------------------


def _attempt(name: str, check: Callable[[], str]) -> Check:
    start = time.perf_counter()
    try:
        ok, detail = True, check()
    except Exception as error:
        ok, detail = False, _first_line(error)
    return Check(name, ok, round(time.perf_counter() - start, 3), detail)


def _matrix_product() -> str:
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(-1, 1, (512, 512)).astype(np.float32) for _ in range(2))
    _agree(a @ b, a.astype(np.float64) @ b, np.abs(a) @ np.abs(b), 512)
    start = time.perf_counter()
    a @ b
    seconds = time.perf_counter() - start
    return f"{2 * 512**3 / seconds / 1e9:.0f} GFLOP/s"


def _compiled_kernel() -> str:
    import numba

    @numba.njit
    def triangle(n: int) -> int:
        total = 0
        for i in range(n + 1):
            total += i
        return total

    if triangle(1000) != 500500:
        raise ArithmeticError(f"0 + 1 + … + 1000 came out as {triangle(1000)}")
    return "compiled and run by Numba"


def _convolution() -> str:
    from ..dispatch import registry
    from ..dispatch.op import Spec
    from ..ops.conv2d import conv2d

    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (8, 14, 14, 8)).astype(np.float32)
    weight = rng.uniform(-1, 1, (3, 3, 8, 16)).astype(np.float32)
    params: dict[str, Any] = {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    truth = conv2d.reference(x.astype(np.float64), weight.astype(np.float64), **params)
    _agree(conv2d(x, weight, **params), truth, conv2d.reference(np.abs(x), np.abs(weight), **params), 72)
    kernel = registry.find(conv2d, (Spec(x.shape, x.dtype), Spec(weight.shape, weight.dtype)), params)
    return f"{kernel.id if kernel else 'the NumPy reference'} agrees with float64"


def _agree(result: np.ndarray, truth: np.ndarray, magnitude: np.ndarray, terms: int) -> None:
    """Raise unless a float32 sum of `terms` products is as near to the truth as rounding allows."""
    bound = (4 + terms**0.5) * np.finfo(np.float32).eps * magnitude
    if not np.all(np.abs(result - truth) <= bound):
        raise ArithmeticError(f"the error is {np.abs(result - truth).max():.3g}, allowed is {bound.max():.3g}")


def _weights_file() -> str:
    from ..models.saving import weights_sha256

    model, other = _tiny_model(), _tiny_model()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.weights.safetensors"
        model.save_weights(path)
        other.load_weights(path)
    if weights_sha256(model) != weights_sha256(other):
        raise ArithmeticError("the weights that were read are not those that were written")
    return "written, read, equal to the bit"


def _training() -> str:
    model = _tiny_model()
    model.compile("adam", "sparse_categorical_crossentropy")
    y = np.arange(32) % 2
    x = np.zeros((32, 8, 8, 1), np.float32)
    x[y == 1, 2:6, 2:6] = 1
    losses = [float(model.test_on_batch(x, y))]
    for _ in range(30):
        model.reset_metrics()
        model.train_on_batch(x, y)
    model.reset_metrics()
    losses.append(float(model.test_on_batch(x, y)))
    if not losses[1] < losses[0]:
        raise ArithmeticError(f"30 steps took the loss from {losses[0]:.3g} to {losses[1]:.3g}")
    return f"30 steps took the loss from {losses[0]:.2f} to {losses[1]:.2f}"


def _emulator() -> str:
    from ..devices import emulator

    reason = emulator.unavailable()
    return f"not here: {reason}" if reason else _kernel_for_gpus("emulator")


def _gpu() -> str:
    count, reason = choose.gpu_state()
    return _kernel_for_gpus("gpu:0") if count else f"none: {reason}"


def _kernel_for_gpus(where: str) -> str:
    """Hold one CUDA C++ kernel against its op."""
    from ..dispatch import registry
    from ..ops.matmul import matmul
    from ..profiling import trials

    kernel = registry.kernels(matmul, ("cuda",))["naive_cuda"]
    case = next(case for case in matmul.cases if case.name == "ragged")
    fault = trials.Trial(kernel, case, where, "fast" if where == "emulator" else "").fault()
    if fault:
        raise ArithmeticError(fault)
    return f"{kernel.id} agrees with its definition"


def _compilers() -> str:
    from ..profiling import figures

    return figures.unavailable() or "NVRTC compiles CUDA C++ without a GPU"


def _tiny_model() -> Any:
    from ..layers import Conv2D, Dense, Flatten, Input
    from ..models.sequential import Sequential

    return Sequential([Input((8, 8, 1)), Conv2D(4, 3, activation="relu"), Flatten(), Dense(2, activation="softmax")])


CHECKS: dict[str, Callable[[], str]] = {
    "matrix product": _matrix_product,
    "compiled kernel": _compiled_kernel,
    "convolution": _convolution,
    "weights file": _weights_file,
    "training": _training,
    "emulator": _emulator,
    "compilers": _compilers,
    "GPU kernel": _gpu,
}
"""What is tried, by name: each returns a remark or raises."""


# -- what is known to go wrong -----------------------------------------------------------------------------------------


def _problems(packages: dict[str, str | None], caches: list[Cache]) -> list[Problem]:
    found = [_missing(packages), _two_cupys(packages), _numpy_too_new(packages), _numba_switches()]
    wheel = next((name for name in CUPY if packages.get(name)), None)
    if wheel:
        found += [_driver(wheel), _headers(wheel)]
    for kept in caches:
        if not kept.writable:
            what = f"the folder for {kept.name}, {kept.path}, cannot be written"
            found.append(Problem("warning", what, f"{_CHOOSE[kept.name]}=/a/folder/of/yours gpucnn doctor"))
    return [problem for problem in found if problem]


_CHOOSE = {
    "data sets": "XDG_CACHE_HOME",
    "compiled kernels": "NUMBA_CACHE_DIR",
    "kernels for GPUs": "GPUCNN_CACHE",
    "fonts": "MPLCONFIGDIR",
    "CUDA kernels": "CUPY_CACHE_DIR",
}
"""The variable that moves each cache."""


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
        f"numba-cuda {packages['numba-cuda']} compiles nothing with NumPy {packages['numpy']}",
        'python -m pip install "numpy<2.5"',
    )


def _numba_switches() -> Problem | None:
    for name, effect in (
        ("NUMBA_DISABLE_JIT", "the compiled kernels run as plain Python, hundreds of times slower"),
        ("NUMBA_ENABLE_CUDASIM", "Numba's GPU kernels run in its simulator"),
    ):
        if os.environ.get(name, "0") not in ("", "0"):
            severity = "error" if name == "NUMBA_DISABLE_JIT" else "warning"
            return Problem(severity, f"{name}={os.environ[name]} is set: {effect}", f"unset {name}")
    return None


def _driver(wheel: str) -> Problem | None:
    driver, needed = driver_version(), int(re.sub(r"\D", "", wheel) or 12)
    if driver is None:
        what = f"{wheel} is installed and no NVIDIA driver is found: gpucnn computes on the CPU"
        return Problem("warning", what, "nvidia-smi")
    if driver >= 1000 * needed:
        return None
    return Problem(
        "error",
        f"the NVIDIA driver is {_cuda(driver)} and {wheel} needs CUDA {needed}: update it, or take what fits it",
        f'python -m pip uninstall -y {wheel} && python -m pip install "gpucnn[{_extra()}]"',
    )


def _headers(wheel: str) -> Problem | None:
    """CuPy compiles against the CUDA runtime's headers, which its own wheel does not bring."""
    if any(_version(name) for name in ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12")):
        return None
    roots = [os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), TOOLKIT]
    if any(root and (Path(root) / "include/cuda_runtime.h").is_file() for root in roots):
        return None
    extra = "cuda13" if "13" in wheel else "cuda12"
    return Problem(
        "error", f"{wheel} is installed without the headers of CUDA", f'python -m pip install "gpucnn[{extra}]"'
    )


# -- words -----------------------------------------------------------------------------------------------------------


def _numbers(version: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version or "")[:2])


def _cuda(driver: int) -> str:
    return f"for CUDA {driver // 1000}.{driver % 1000 // 10}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return _tidy(f"{type(error).__name__}: {lines[0]}")


def _tidy(text: str) -> str:
    """The text without home folder and user name."""
    text = text.replace(str(Path.home()), "~")
    try:
        user = re.escape(getpass.getuser())
    except (OSError, KeyError, ImportError):
        return text
    return re.sub(rf"(?<=[/\\]){user}(?=[/\\]|$)", "<user>", text)
