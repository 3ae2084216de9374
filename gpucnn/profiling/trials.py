"""Trials of correctness: which kernels are checked on which cases, and on which device.

Tests and `gpucnn kernels check` run them. The emulator takes time for each operation, so each of
its modes runs only the cases that it can afford: `fast` up to 50 MFLOP, `check` up to 1 MFLOP.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .. import ops
from ..devices import choose
from ..dispatch import choice
from ..dispatch.case import Case
from ..dispatch.check import cases_for, disagreement
from ..dispatch.op import Kernel, Op, declared
from ..errors import ArgumentError, KernelError, did_you_mean

MODES = ("fast", "check")
"""How kernels for GPUs run in the emulator."""

AFFORDABLE = {"fast": 50e6, "check": 1e6}
"""The largest case of each mode, in floating-point operations."""


@dataclass(frozen=True)
class Trial:
    """One kernel on one case on one device; `mode` is empty except in the emulator."""

    kernel: Kernel
    case: Case
    device: str
    mode: str = ""

    def __str__(self) -> str:
        where = f"{self.device}-{self.mode}" if self.mode else self.device
        return f"{self.kernel.id}-{self.kernel.op.name}-{self.case.name}-{where}"

    def fault(self, **settings: Any) -> str | None:
        """One sentence on what is wrong, or None. `settings` are further ones of the emulator, such
        as `seed`. Raises `CompileError` if the kernel cannot be compiled here."""
        with running(self.device, self.mode, **settings):
            return disagreement(self.kernel, self.case)


def every_op() -> list[Op]:
    """All ops of gpucnn in the order of their files, then those that a user declared."""
    for module in pkgutil.iter_modules(ops.__path__):
        importlib.import_module(f"gpucnn.ops.{module.name}")
    return list(declared().values())


def every_kernel(pattern: str = "", backends: Iterable[str] = tuple(choice.BACKENDS)) -> list[Kernel]:
    """Kernels whose id contains the pattern, or whose op or backend it is. Raises if none."""
    kernels = [k for op in every_op() for k in op.kernels(tuple(backends)).values()]
    chosen = [k for k in kernels if pattern in k.id or pattern in (k.op.name, k.backend)]
    if not chosen:
        names = {name: None for k in kernels for name in (k.op.name, k.id, k.backend)}
        hint = did_you_mean(pattern, names) or f"`gpucnn kernels list` shows all {len(kernels)}"
        raise ArgumentError(f"no kernel matches {pattern!r}: {hint}")
    return chosen


def trials(
    kernels: Iterable[Kernel], device: str | None = None, mode: str | None = None, largest: float = math.inf
) -> list[Trial]:
    """The trials of these kernels on a device, or by default where each can run here: kernels for
    the CPU on the CPU, kernels for GPUs on the first GPU or else in the emulator, in `mode` ("fast"
    by default).

    largest    skip cases with more floating-point operations
    """
    if mode is not None and mode not in MODES:
        raise ArgumentError(f"mode={mode!r} is unknown: use one of {', '.join(MODES)}")
    planned = []
    for kernel in kernels:
        where = device or default_device(kernel.backend)
        if not runs_on(kernel.backend, where):
            continue
        used = (mode or "fast") if where == "emulator" else ""
        limit = min(largest, AFFORDABLE.get(used, math.inf))
        planned += [Trial(kernel, c, where, used) for c in cases_for(kernel) if work(kernel.op, c) <= limit]
    return planned


def default_device(backend: str) -> str:
    """The device on which kernels of a backend are checked here by default."""
    if choice.BACKENDS[backend] == "cpu":
        return "cpu"
    return "gpu:0" if choose.gpu_state()[0] else "emulator"


def runs_on(backend: str, where: str) -> bool:
    """Whether kernels of a backend run on a device of this name."""
    kind = where.partition(":")[0]
    return backend in {"cpu": ("numpy", "njit"), "simulator": ("numba",)}.get(kind, ("cuda", "numba"))


def missing(backend: str, where: str) -> str | None:
    """Why kernels of a backend cannot run on a device here, in one sentence; None if they can."""
    if where.startswith("gpu"):
        count, reason = choose.gpu_state()
        return reason if not count else missing_numba_cuda() if backend == "numba" else None
    if backend == "njit":
        from ..devices import njit

        return njit.unavailable()
    if where != "emulator":
        return None
    from ..devices import emulator

    return emulator.unavailable() or (missing_numba_cuda() if backend == "numba" else None)


def missing_numba_cuda() -> str | None:
    """Why numba.cuda kernels cannot be compiled here, in one sentence; None if they can."""
    try:
        from ..devices import numba_cuda
    except KernelError as error:
        return str(error)
    return numba_cuda.unavailable()


@contextmanager
def running(where: str, mode: str = "", **settings: Any) -> Iterator[None]:
    """The device in use, and the emulator's mode, for the body of a with statement."""
    with choice.using("auto", device=where):
        if where != "emulator":
            yield
            return
        from ..devices import emulator

        with emulator.running(mode=mode or "fast", **settings):
            yield


def work(op: Op, case: Case) -> float:
    """Floating-point operations of a case; the number of elements if the op has no count."""
    specs = case.specs
    if op.flops is not None:
        return float(op.flops(*specs, **case.params))
    return float(sum(math.prod(s.shape) for s in (*specs, *op.specs(*specs, **case.params)) if s is not None))
