"""The list of kernels: a row for each kernel and op, and the text of its files."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from ..devices import choose
from ..dispatch.choice import BACKENDS
from ..dispatch.op import Kernel
from ..errors import ArgumentError, did_you_mean
from . import launches, static_analysis, trials

_LANGUAGES = {"numpy": "NumPy", "njit": "Numba", "numba": "numba.cuda", "cuda": "CUDA C++"}
_NEEDS = {
    "numpy": "NumPy",
    "njit": "Numba",
    "numba": "an NVIDIA GPU, CuPy and numba-cuda; or g++ and numba-cuda for the emulator",
    "cuda": "an NVIDIA GPU and CuPy; or g++ for the emulator",
}


Progress = Callable[[int, int], None]
"""Called with how many steps are done, and how many there are."""


def _unreported(done: int, total: int) -> None:
    pass


def rows(
    pattern: str = "",
    arch: str | None = None,
    progress: Progress = _unreported,
    backends: Iterable[str] = tuple(BACKENDS),
) -> list[dict[str, Any]]:
    """A row for each kernel of the backends that the pattern selects (see `trials.every_kernel`);
    with `arch`, such as sm_90, also the figures of those for GPUs on their largest case."""
    kernels = trials.every_kernel(pattern, backends)
    rows = []
    for done, kernel in enumerate(kernels):
        if arch:
            progress(done, len(kernels))
        rows.append(_row(kernel) | {"figures": _figures(kernel, arch) if arch else []})
    return rows


def gaps(backend: str) -> list[dict[str, str | None]]:
    """The ops that have no kernel of the backend; of each also the kernel that computes it instead on the
    same device, with its idea, or None."""
    others = [other for other, device in BACKENDS.items() if device == BACKENDS[backend]]
    rows = []
    for op in trials.every_op():
        if not op.kernels((backend,)):
            instead = next(iter(op.kernels(others).values()), None)
            found = {"instead": instead.id, "idea": _idea(instead)} if instead else {"instead": None, "idea": None}
            rows.append({"op": op.name, **found})
    return rows


def _figures(kernel: Kernel, arch: str) -> list[dict[str, Any]]:
    """The figures of each function of a kernel for GPUs on its largest case."""
    case = static_analysis.largest_case(kernel, arch) if BACKENDS[kernel.backend] == "gpu" else None
    return [] if case is None else [static_analysis.row(f) for f in static_analysis.of_kernel(kernel, case, arch)]


def sources(ident: str) -> dict[str, Any]:
    """The files of the kernel `ident` and the ops that it serves. Raises `ArgumentError` for an
    unknown id."""
    kernels = _kernels(ident)
    path = kernels[0].file
    files = [p for p in (path, path.with_suffix(".cu")) if p.is_file()]
    return {
        "id": ident,
        "ops": [kernel.op.name for kernel in kernels],
        "files": [{"name": p.name, "text": p.read_text(encoding="utf-8")} for p in files],
    }


def figures(ident: str, arch: str, progress: Progress = _unreported) -> list[dict[str, Any]]:
    """The figures of the kernel `ident`, if it is for GPUs, on all large cases."""
    pairs = [
        (kernel, case)
        for kernel in _kernels(ident)
        for case in kernel.op.cases
        if BACKENDS[kernel.backend] == "gpu" and case.bench and launches.serves(kernel, case, arch)
    ]
    rows = []
    for done, (kernel, case) in enumerate(pairs):
        progress(done, len(pairs))
        functions = [static_analysis.row(f) for f in static_analysis.of_kernel(kernel, case, arch)]
        rows += [{"op": kernel.op.name, **row} for row in functions]
    return rows


def memory_traffic(ident: str, progress: Progress = _unreported) -> list[dict[str, Any]]:
    """The memory traffic of the kernel `ident`, if it is for GPUs; nothing where the emulator cannot
    run."""
    from ..devices import emulator
    from . import traffic

    kernels = [k for k in _kernels(ident) if BACKENDS[k.backend] == "gpu" and emulator.unavailable() is None]
    rows = []
    for done, kernel in enumerate(kernels):
        progress(done, len(kernels))
        case = traffic.small_case(kernel)
        if case is not None:
            counts = traffic.of_kernel(kernel, case)
            ratios = {"excess": counts.excess, "conflicts": counts.conflicts}
            rows.append({"op": kernel.op.name, **asdict(counts), **ratios})
    return rows


def _kernels(ident: str) -> list[Kernel]:
    kernels = [kernel for kernel in trials.every_kernel() if kernel.id == ident]
    if not kernels:
        ids = sorted({kernel.id for kernel in trials.every_kernel()})
        family = [other for other in ids if other.split("/")[0] == ident.split("/")[0]]
        hint = f"this family has {', '.join(family)}" if family else "`gpucnn kernels list` shows all"
        raise ArgumentError(f"there is no kernel {ident!r}: {did_you_mean(ident, ids) or hint}")
    return kernels


def place(backend: str) -> tuple[str | None, str | None]:
    """(where kernels of a backend run here, or None; why they do not run on a GPU, or None)."""
    if BACKENDS[backend] == "cpu":
        return "cpu", None
    count, reason = choose.gpu_state()
    if count:
        return "gpu", None
    missing = trials.missing(backend, "emulator")
    if missing is None:
        return "emulator", reason
    return None, f"{reason}; and {missing}"


def _row(kernel: Kernel) -> dict[str, Any]:
    runs, why_not = place(kernel.backend)
    if not any(launches.serves(kernel, case) for case in kernel.op.cases):
        runs = None
    return {
        "id": kernel.id,
        "op": kernel.op.name,
        "algorithm": kernel.algorithm,
        "backend": kernel.backend,
        "language": _LANGUAGES[kernel.backend],
        "needs": _NEEDS[kernel.backend],
        "runs": runs,
        "why_not": why_not,
        "idea": _idea(kernel),
    }


def _idea(kernel: Kernel) -> str:
    """The first sentence of the kernel file."""
    text = ast.get_docstring(ast.parse(kernel.file.read_bytes())) or ""
    return " ".join(text.split("\n\n")[0].split())
