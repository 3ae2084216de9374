"""Whether a kernel agrees with the NumPy body of its op, for tests, benchmarks and authors of
kernels."""

from __future__ import annotations

import math
import traceback
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ..devices import choose, recorders, storage
from ..devices.device import ALIGNMENT
from ..errors import CompileError, GpucnnError, in_one_line
from . import precision
from .case import Case, Spec
from .op import Kernel

GUARD = 16 * ALIGNMENT
"""Bytes of the guard band on each side of an array."""

_NAN = 0xFF
"""This byte, repeated, is a NaN of every floating-point type."""

_PATTERNS = (0x55, 0xAA)
"""The bytes that integers are poisoned with, in the first and in the second launch."""


def cases_for(kernel: Kernel, bench: bool = False) -> list[Case]:
    """The cases of the kernel's op that it supports: the small ones, or those for benchmarks."""
    return [case for case in kernel.op.cases if case.bench is bench and _supports(kernel, case)]


def disagreement(kernel: Kernel, case: Case) -> str | None:
    """One sentence on what is wrong with the kernel on this case, or None if nothing is. Raises
    `CompileError` if it cannot be compiled here.

    Expected values come from the op's body in float64, of factors in each precision that the kernel
    computes. A sum of products is computed twice: from small integers, where every order of summation
    gives the same bits, and from real numbers, where the error may be (4 + √terms) · eps · Σ|a||b| (in
    a lower precision terms / 8 more). Any other op may be wrong by ulps · eps · max(1, |value|); a sum
    of products that ends in a function may have both errors. Integers must be equal. Each time the
    kernel is launched twice, on poisoned outputs and workspace, between guard bands; the second launch
    of a `compiled` kernel is the repetition of a recorded one.
    """
    if not _supports(kernel, case):
        return f"{kernel.id} does not support case {case.name!r} of {kernel.op.name}"
    for kind, exact in product(kernel.precisions, (True, False) if kernel.op.terms else (False,)):
        with precision.scope(kind):
            fault = _Trial(kernel, case, exact).fault()
        if fault:
            numbers = ("integer-valued" if exact else "real") + ("" if kind == precision.FLOAT32 else f" {kind}")
            return f"{kernel.id}, {kernel.op.name} on case {case.name!r} with {numbers} operands: {fault}"
    return None


class _Guarded:
    """An array between two guard bands. All three hold poison, which a kernel meets if it reads
    what nobody wrote."""

    def __init__(self, spec: Spec, pattern: int) -> None:
        self.poison = _NAN if spec.dtype.kind == "f" else pattern
        nbytes = math.prod(spec.shape) * spec.dtype.itemsize
        self._memory = storage.empty((GUARD + nbytes + GUARD,), np.uint8)
        self.before, self.behind = self._memory[:GUARD], self._memory[GUARD + nbytes :]
        self.array = self._memory[GUARD : GUARD + nbytes].view(spec.dtype).reshape(spec.shape)
        self.taint()

    def taint(self) -> None:
        """Poison all of it."""
        self._memory[...] = self.poison
        choose.current().mark_uninitialised(self.array)

    def fill(self, values: np.ndarray) -> None:
        """Copy the values into the array."""
        self.array[...] = storage.put(values)

    def values(self) -> np.ndarray:
        """The array's values on the host."""
        return storage.get(self.array)

    def overrun(self) -> str | None:
        """Where the kernel wrote into a guard band, or None."""
        for band, edge in (
            (storage.get(self.before)[::-1], "before its start"),
            (storage.get(self.behind), "behind its end"),
        ):
            written = np.flatnonzero(band != self.poison)
            if written.size:
                return f"{written[0]} bytes {edge}"
        return None


class _Trial:
    """A kernel and its op's body on one set of operands."""

    def __init__(self, kernel: Kernel, case: Case, exact: bool) -> None:
        self.kernel, self.op, self.case, self.params, self.exact = kernel, kernel.op, case, case.params, exact
        random = np.random.default_rng(zlib.crc32(case.name.encode()))
        self.operands = [None if draw is None else draw.sample(random, exact) for draw in case.operands]
        self.specs = [a if a is None else Spec(a.shape, a.dtype) for a in self.operands]
        self.outputs = [spec for spec in self.op.specs(*self.operands, **self.params) if spec is not None]
        self.names = list(self.op.operand_names[: len(self.operands)])
        changed = [self.names[i] for i in self.op.inplace if self.operands[i] is not None]
        self.output_names = changed or [f"output {i}" for i in range(len(self.outputs))]

    def fault(self) -> str | None:
        """What is wrong, or None."""
        expected, bounds = _references.get(self)
        for spec, correct in zip(self.outputs, expected, strict=True):
            if (correct.shape, correct.dtype.kind) != (spec.shape, spec.dtype.kind):
                body = f"{correct.shape} {correct.dtype}"
                return f"the body returns {body} but the shape rule says {spec.shape} {spec.dtype}"
        first = self.launch(_PATTERNS[0])
        if isinstance(first, str):
            return first
        for name, output, correct, bound in zip(self.output_names, first, expected, bounds, strict=True):
            with np.errstate(invalid="ignore"):
                near = np.abs(output - correct.astype(np.float64)) <= bound
                agrees = (output == correct) | (near & np.isfinite(correct))  # nothing is near infinity
                agrees |= (output != output) & (correct != correct)  # a NaN where there must be one
            if not agrees.all():
                index = _first(~agrees)
                allowed = np.broadcast_to(bound, output.shape)[index]
                count = f"{np.count_nonzero(~agrees)} of {output.size} values are wrong"
                return f"{name}{list(index)} is {output[index]}, expected {correct[index]} ± {allowed:.2g}; {count}"
        second = self.launch(_PATTERNS[1], recorded=self.kernel.compiled)
        if isinstance(second, str):
            return second
        for name, one, other in zip(self.output_names, first, second, strict=True):
            differs = one.reshape(-1, 1).view(np.uint8) != other.reshape(-1, 1).view(np.uint8)
            if differs.any():
                index = _first(differs.any(axis=1).reshape(one.shape))
                return f"two launches differ at {name}{list(index)}: {one[index]} and {other[index]}"
        return None

    def body(
        self, operands: Sequence[np.ndarray | None], function: Callable[..., Any] | None = None
    ) -> tuple[np.ndarray, ...]:
        """The results of the op's body, or of another function of its operands, in float64."""
        doubles = [a if a is None else a.astype(np.float64 if a.dtype.kind == "f" else a.dtype) for a in operands]
        with np.errstate(all="ignore"):
            result = (function or self.op.body)(*self.op.with_factors(doubles), **self.params)
        results = result if isinstance(result, tuple) else (result,)
        return tuple(np.asarray(r) for r in results if r is not None)

    def bounds(self, expected: Sequence[np.ndarray]) -> list[Any]:
        """The largest allowed difference from the expected values, for each output."""
        eps = [np.finfo(spec.dtype).eps if spec.dtype.kind == "f" else 0.0 for spec in self.outputs]
        bounds: list[Any] = [0.0] * len(eps)
        if self.op.terms is None or self.op.sums is not None:
            sizes = [np.where(np.isfinite(values), np.abs(values), 1.0) for values in expected]
            bounds = [self.op.ulps * e * np.maximum(1.0, size) for e, size in zip(eps, sizes, strict=True)]
        if self.op.terms is not None and not self.exact:
            terms = self.op.terms(*self.specs, **self.params)
            factor = 4.0 + math.sqrt(terms)
            if (
                self.op.factors and precision.in_force() != precision.FLOAT32
            ):  # tensor cores cut off an ulp for 8 or 16 terms
                factor += terms / 8
            sums = self.body([a if a is None else np.abs(a) for a in self.operands], self.op.sums)
            bounds = [bound + factor * e * total for bound, e, total in zip(bounds, eps, sums, strict=True)]
        return bounds

    def launch(self, pattern: int, recorded: bool = False) -> list[np.ndarray] | str:
        """The outputs of one launch, or what it wrote that it must not write. If `recorded`, the launch is
        recorded with operands of zeros and repeated with the true ones."""
        inputs = [None if spec is None else _Guarded(spec, pattern) for spec in self.specs]
        scratch = [_Guarded(spec, pattern) for spec in self.kernel.scratch(self.specs, self.params)]
        changed = [guarded for i in self.op.inplace if (guarded := inputs[i]) is not None]
        fresh = [] if changed else [_Guarded(spec, pattern) for spec in self.outputs]
        arguments = [*fresh, *inputs, *scratch]
        arrays = [a if a is None else a.array for a in arguments]
        try:
            if recorded:
                repeat = self._recorded(inputs, arrays, [guarded.array for guarded in (*fresh, *scratch)])
                for tainted in (*fresh, *scratch):
                    tainted.taint()
            for guarded, operand in zip(inputs, self.operands, strict=True):
                if guarded is not None and operand is not None:
                    guarded.fill(operand)
            if recorded:
                repeat()
            else:
                self.kernel.run(*arrays, **self.params)
            choose.current().synchronize()  # what the launch breaks is its own fault
        except CompileError:
            raise
        except GpucnnError as error:
            return str(error)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            return f"{type(error).__name__}: {in_one_line(error)} ({Path(frame.filename).name}:{frame.lineno})"

        names = [*(self.output_names if fresh else []), *self.names, *(f"workspace {i}" for i in range(len(scratch)))]
        for name, argument in zip(names, arguments, strict=True):
            where = argument and argument.overrun()
            if where:
                return f"writes outside of {name}, {where}"
        for name, guarded, operand in zip(self.names, inputs, self.operands, strict=True):
            if guarded and guarded not in changed and guarded.values().tobytes() != operand.tobytes():  # type: ignore[union-attr]
                return f"writes into its operand {name}"
        return [guarded.values() for guarded in changed or fresh]

    def _recorded(
        self, inputs: Sequence[_Guarded | None], arrays: Sequence[Any], computed: Sequence[np.ndarray]
    ) -> Callable[[], None]:
        """What repeats a launch that was recorded while all operands were zeros, which it may have prepared."""
        from ..devices.recording import Recording  # which imports Numba

        for guarded in inputs:
            if guarded is not None:
                guarded.array[...] = 0
        recording = Recording(lambda array: any(np.may_share_memory(array, one) for one in computed), math.inf)
        with recorders.noted_by(recording):
            self.kernel.run(*arrays, **self.params)
        recording.end()
        return recording.replay


class _References:
    """The expected values and bounds of the last trials, which those of other kernels need again.

    limit  bytes to keep
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[tuple, tuple[Case, Sequence[np.ndarray], list[Any]]] = OrderedDict()

    def get(self, trial: _Trial) -> tuple[Sequence[np.ndarray], list[Any]]:
        """The expected values of a trial's outputs, and the largest allowed difference of each."""
        key = trial.op, id(trial.case), trial.exact, precision.in_force()
        if key not in self._kept:
            expected = trial.body(trial.operands)
            self._kept[key] = trial.case, expected, trial.bounds(expected)  # the case, so that its id stays its own
            while len(self._kept) > 1 and sum(map(_size, self._kept.values())) > self._limit:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key][1:]


def _size(entry: tuple[Case, Sequence[np.ndarray], list[Any]]) -> int:
    """Bytes."""
    return sum(np.asarray(values).nbytes for values in (*entry[1], *entry[2]))


_references = _References(256 << 20)


def _supports(kernel: Kernel, case: Case) -> bool:
    return kernel.serves(case.specs, case.params)


def _first(where: np.ndarray) -> tuple[int, ...]:
    """The first index at which `where` is true."""
    return tuple(map(int, np.unravel_index(int(where.argmax()), where.shape)))
