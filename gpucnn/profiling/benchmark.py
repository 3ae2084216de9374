"""Speed: the kernels of a case are checked, then timed, and yield rows of a record.

A kernel that disagrees with its op is not timed, and a time beyond the limits of the device is
refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..devices import choose, storage
from ..dispatch import precision
from ..dispatch.case import Case, Draw
from ..dispatch.check import disagreement
from ..dispatch.op import Kernel, Op
from ..errors import ArgumentError, KernelError, did_you_mean
from . import timing, torch_ops, trials
from .clock import Run
from .records import Row, require_real

AXES = ("batch",)
"""What `--axis` can vary."""
RIVALS = ("numpy", "torch", "cublas")
"""What `--vs` can compare the kernels with."""

_WITHOUT_IMAGES = ("weight", "b", "gamma", "beta", "mean", "variance", "row", "step")
"""Operands whose first axis is not that of the images, if the op accepts the shapes so."""

_HOT_LIMIT = 1.05
"""A hot time may be this much better than the roof, to allow for the rounding of clocks."""

_FASTER = {precision.FLOAT32: 1.0, precision.TF32: 8.0, precision.BFLOAT16: 16.0}
"""How many times the rate of float32 arithmetic tensor cores reach at most (H100, whitepaper)."""


@dataclass(frozen=True)
class Plan:
    """What to measure.

    axes     by name (`batch`), values that replace those of a case
    vs       which of `RIVALS` to compare the kernels with
    """

    kernels: list[Kernel]
    cases: tuple[str, ...] = ()
    axes: dict[str, list[int]] = field(default_factory=dict)
    precision: str = precision.FLOAT32
    vs: tuple[str, ...] = ()
    where: str | None = None
    check_only: bool = False
    effort: timing.Effort = field(default_factory=timing.Effort)

    def __post_init__(self) -> None:
        for name, allowed, values in (
            ("axis", AXES, self.axes),
            ("precision", precision.PRECISIONS, [self.precision]),
            ("vs", RIVALS, self.vs),
        ):
            odd = [value for value in values if value not in allowed]
            if odd:
                raise ArgumentError(f"--{name} {odd[0]}: use one of {', '.join(allowed)}")
        if "torch" in self.vs and torch_ops.torch_version() is None:
            raise ArgumentError("--vs torch: PyTorch is not installed: pip install torch, or leave it out")

    def tasks(self) -> list[tuple[Op, Case, list[Kernel]]]:
        """Each op and case with the kernels that serve it."""
        ops: dict[str, Op] = {}
        for kernel in self.kernels:
            ops.setdefault(kernel.op.name, kernel.op)
        tasks = []
        for op in ops.values():
            for case in self._cases(op):
                specs = case.specs
                computing = [k for k in self.kernels if k.op is op and self.precision in k.precisions]
                serving = [k for k in computing if k.serves(specs, case.params)]
                if serving:
                    tasks.append((op, case, serving))
        if not tasks:
            names = sorted({c.name for op in ops.values() for c in op.cases if c.bench or self.cases})
            near = did_you_mean(self.cases[0], names) if self.cases else ""
            hint = near or "`gpucnn bench OP --list` shows the large cases"
            missing = f"the case {', '.join(self.cases)}" if self.cases else "any large case: give --case"
            kind = "" if self.precision == precision.FLOAT32 else f" in {self.precision}"
            raise ArgumentError(f"none of these {len(self.kernels)} kernels takes {missing}{kind}; {hint}")
        return tasks

    def _cases(self, op: Op) -> Iterator[Case]:
        for case in op.cases:
            if (case.name in self.cases) if self.cases else case.bench:
                batches = self.axes.get("batch")
                yield from [resized(op, case, n) for n in batches] if batches else [case]


def resized(op: Op, case: Case, batch: int) -> Case:
    """The case with another number of images. Raises `ArgumentError` if it has no such axis."""
    count = next(d for d in case.operands if d is not None).shape[:1]

    def resize(d: Draw | None, name: str, spared: tuple[str, ...]) -> Draw | None:
        return replace(d, shape=(batch, *d.shape[1:])) if d and d.shape[:1] == count and name not in spared else d

    for spared in (_WITHOUT_IMAGES, ()):
        names = op.operand_names
        operands = tuple(resize(d, name, spared) for d, name in zip(case.operands, names, strict=False))
        changed = Case(f"{case.name}@{batch}", operands, case.params, case.bench)
        try:
            op.specs(*changed.specs, **changed.params)
        except (ValueError, IndexError):
            continue
        return changed
    raise ArgumentError(f"{op.name}: case {case.name} has no axis of images that --axis batch could vary")


def rows(plan: Plan) -> Iterator[Row]:
    """Measure, and yield each row as soon as it is complete. Raises `KernelError` on an emulated
    GPU, whose times mean nothing."""
    if not plan.check_only:
        for kernel in (kernel for _, _, kernels in plan.tasks() for kernel in kernels):
            require_real(plan.where or trials.default_device(kernel.backend))
    for op, case, kernels in plan.tasks():
        for kernel in kernels:
            with precision.scope(plan.precision):
                row = _kernel_row(plan, op, case, kernel)
            yield row
        for name in plan.vs:
            with precision.scope(plan.precision):
                rival = _rival_row(plan, op, case, name)
            if rival is not None:
                yield rival


def profile(plan: Plan) -> list[str]:
    """Launch each kernel once on each case, for a profiler; returns a line for each."""
    lines = []
    for _, case, kernels in plan.tasks():
        for kernel in kernels:
            where = plan.where or trials.default_device(kernel.backend)
            with trials.running(where), precision.scope(plan.precision):
                Call(kernel, case).run()
                choose.current().synchronize()
            lines.append(f"{kernel.id} {case.name} on {where}")
    return lines


class Call:
    """A kernel with operands, outputs and workspace allocated, ready for repeated launches."""

    def __init__(self, kernel: Kernel, case: Case) -> None:
        rng = np.random.default_rng(0)
        self.operands = [None if d is None else storage.put(d.sample(rng)) for d in case.operands]
        specs = case.specs
        outputs = [] if kernel.op.inplace else [s for s in kernel.op.specs(*specs, **case.params) if s is not None]
        workspace = kernel.scratch(specs, case.params)
        self.workspace = sum(math.prod(s.shape) * s.dtype.itemsize for s in workspace)
        arrays = [*(storage.empty(*s) for s in outputs), *self.operands, *(storage.empty(*s) for s in workspace)]
        self.run = lambda: kernel.run(*arrays, **case.params)


def _kernel_row(plan: Plan, op: Op, case: Case, kernel: Kernel) -> Row:
    where = plan.where or trials.default_device(kernel.backend)
    row = _bare(op, case, kernel.id, kernel.backend, plan.precision, where)
    if not trials.runs_on(kernel.backend, where):
        return replace(row, note=f"{kernel.backend} kernels do not run on {where}")
    if where in ("emulator", "simulator"):
        return replace(row, note="not timed: no GPU here, and the emulator's time says nothing about one")
    with trials.running(where):
        try:
            fault = disagreement(kernel, case)
            if fault is not None:
                return replace(row, note=f"WRONG, so not timed: {fault}")
            if plan.check_only:
                return replace(row, note="agrees with its definition")
            call = Call(kernel, case)
            return _timed(replace(row, workspace=call.workspace), call.run, plan.effort)
        except KernelError as error:
            return replace(row, note=f"not timed: {error}")


def _rival_row(plan: Plan, op: Op, case: Case, name: str) -> Row | None:
    if name == "cublas":
        library = op.kernels(("cuda",)).get("cublas_cuda")
        if library is None or plan.precision not in library.precisions:
            return None
        return _kernel_row(plan, op, case, library)
    where = plan.where or ("gpu:0" if choose.gpu_state()[0] else "cpu")
    if name == "numpy":
        where = "cpu"
    label = "numpy (the definition)" if name == "numpy" else f"torch {torch_ops.torch_version()}"
    row = _bare(op, case, label, name, plan.precision, where)
    if where in ("emulator", "simulator"):
        return replace(row, note="not timed: no GPU here")
    if name == "torch" and plan.precision == precision.BFLOAT16:
        return replace(row, note="not timed: PyTorch's bfloat16 also rounds results")
    with trials.running(where):
        rng = np.random.default_rng(0)
        hosts = [None if d is None else d.sample(rng) for d in case.operands]
        if name == "numpy":
            call: Any = lambda: op.reference(*hosts, **case.params)  # noqa: E731
        else:
            call = torch_ops.torch_call(
                op, [None if a is None else storage.put(a) for a in hosts], case.params, plan.precision
            )
            if call is None:
                return None
            fault = _rival_fault(op, case, hosts, torch_ops.as_numpy(call()))
            if fault is not None:
                return replace(row, note=f"WRONG, so not timed: {fault}")
        if plan.check_only:
            return replace(row, note="agrees with the definition")
        return _timed(row, call, plan.effort)


def _timed(row: Row, call: Run, effort: timing.Effort) -> Row:
    """The row with its times, or with a note if the call cannot be measured."""
    try:
        return _filled(row, timing.measure(call, effort))
    except Exception as error:
        return replace(row, note=f"failed: {type(error).__name__}: {str(error).partition(chr(10))[0]}")


def _rival_fault(op: Op, case: Case, operands: Sequence[Any], results: tuple[np.ndarray, ...]) -> str | None:
    """What is wrong with the results of another library: differences beyond 2·10⁻³ of the largest
    value, more than rounding explains, even that of TF32."""
    expected = op.reference(*operands, **case.params)
    for got, right in zip(results, expected if isinstance(expected, tuple) else (expected,), strict=False):
        if got.shape != right.shape or not np.abs(got - right).max() <= 2e-3 * np.abs(right).max():
            return f"results differ from {op.name}'s definition"
    return None


def _bare(op: Op, case: Case, kernel: str, backend: str, precision: str, where: str) -> Row:
    specs = case.specs
    outputs = op.specs(*specs, **case.params)
    touched = sum(math.prod(s.shape) * s.dtype.itemsize for s in (*specs, *outputs) if s is not None)
    return Row(op.name, case.name, kernel, backend, precision, where, trials.work(op, case), touched)


def _filled(row: Row, measured: timing.Measurement) -> Row:
    hot, cold = measured.hot, measured.cold
    share = roof_share(row.flops / _FASTER[row.precision], row.bytes, hot.median)
    if share is not None and share > _HOT_LIMIT:
        return replace(row, note=f"refused: {hot.median * 1e6:.3g} µs would be {share:.0%} of what the device can do")
    return replace(
        row,
        hot=hot.median * 1e6,
        hot_low=hot.low * 1e6,
        hot_high=hot.high * 1e6,
        cold=cold.median * 1e6,
        cold_low=cold.low * 1e6,
        cold_high=cold.high * 1e6,
        host=measured.host * 1e6,
        samples=hot.samples,
        gflops=row.flops / hot.median * 1e-9,
        gbytes=row.bytes / cold.median * 1e-9,
        roof_share=share,
    )


def roof_share(flops: float, touched: int, seconds: float) -> float | None:
    """The share of the device's peak that a time implies: of FP32 arithmetic or memory, whichever
    binds (Williams, Waterman, Patterson, "Roofline", CACM 52 (2009)). What the last-level cache can
    keep from the call before is not read from memory. None if the peak is unknown."""
    peak = choose.current().peak()
    if peak is None:
        return None
    from_memory = max(0, touched - peak.cache_bytes)
    return max(flops / peak.flops, from_memory / peak.bytes_per_second) / seconds
