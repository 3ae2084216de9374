"""An op is one NumPy function: its contract, its CPU implementation and the oracle of every kernel.

Calling an op checks the shapes, chooses a kernel, allocates the outputs and launches. Where no faster kernel is
registered for the call, the NumPy body itself computes it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..devices import choose, storage
from ..devices.cpu import CPU
from ..devices.device import Device
from ..errors import ArgumentError, ShapeError
from . import registry

__all__ = ["Array", "Case", "Draw", "Op", "ShapeError", "Spec", "among", "distinct", "integers", "op", "real"]


_TOO_LARGE = 1 << 31
"""Kernels count elements in 32 bits."""


Array = np.ndarray
"""An operand or a result of an op's body."""


class Spec(NamedTuple):
    """Shape and dtype of one array."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def like(self, *shape: int) -> Spec:
        """The same dtype with another shape."""
        return Spec(shape, self.dtype)


@dataclass(frozen=True)
class Draw:
    """How to draw one operand of a case: `real`, `integers`, `distinct` or `among`."""

    shape: tuple[int, ...]
    kind: str = "real"
    low: float = -1.0
    high: float = 1.0
    dtype: str = "float32"
    values: tuple[float, ...] = ()

    def sample(self, rng: np.random.Generator, exact: bool = False) -> np.ndarray:
        """One array. With `exact`, real values become integers of -2 … 2, so that sums of products are exact."""
        if self.kind == "integers":
            return rng.integers(int(self.low), int(self.high), self.shape).astype(self.dtype)
        if self.kind == "among":
            return rng.choice(self.values, self.shape).astype(self.dtype)
        if self.kind == "distinct":
            size = int(np.prod(self.shape))
            return (rng.permutation(size).reshape(self.shape) - size // 2).astype(self.dtype)
        if exact:
            low, high = max(-2, int(np.floor(self.low))), min(2, int(np.ceil(self.high)))
            return rng.integers(low, high + 1, self.shape).astype(self.dtype)
        return rng.uniform(self.low, self.high, self.shape).astype(self.dtype)


def real(*shape: int, low: float = -1.0, high: float = 1.0, dtype: str = "float32") -> Draw:
    """Uniform values of [low, high)."""
    return Draw(shape, "real", low, high, dtype)


def integers(*shape: int, low: int = 0, high: int, dtype: str = "int32") -> Draw:
    """Integers of [low, high), such as class numbers."""
    return Draw(shape, "integers", low, high, dtype)


def distinct(*shape: int, dtype: str = "float32") -> Draw:
    """A shuffle of distinct integers, so that no maximum ties."""
    return Draw(shape, "distinct", dtype=dtype)


def among(*shape: int, values: tuple[float, ...], dtype: str = "float32") -> Draw:
    """Each element is one of these: for NaN, infinities, zeros with a sign, and the kinks of a function."""
    return Draw(shape, "among", dtype=dtype, values=values)


@dataclass(frozen=True)
class Case:
    """A named call of an op: how to draw each operand (None for an absent one), and the parameters.

    `bench=True` marks a large case that is timed and not tested.
    """

    name: str
    operands: tuple[Draw | None, ...]
    params: dict[str, Any] = field(default_factory=dict)
    bench: bool = False

    @property
    def specs(self) -> tuple[Spec | None, ...]:
        """Shape and dtype of each operand."""
        return tuple(None if d is None else Spec(d.shape, np.dtype(d.dtype)) for d in self.operands)


class Op:
    """An operation: call it with arrays and every parameter by name. Made by the decorator `@op`."""

    def __init__(
        self,
        body: Callable,
        outputs: Callable,
        cases: Sequence[Case],
        prefer: Sequence[str],
        flops: Callable | None,
        terms: Callable | None,
        ulps: float,
        inplace: tuple[int, ...],
        gradient_of: Op | None = None,
    ) -> None:
        self.body = body
        self.outputs = outputs
        self.cases = tuple(cases)
        self.prefer = tuple(prefer)
        self.flops = flops
        self.terms = terms
        self.ulps = ulps
        self.inplace = inplace
        self.gradient_of = gradient_of
        self.name: str = body.__name__
        self.family: str = body.__module__.rpartition(".")[2]
        parameters = inspect.signature(body).parameters.values()
        self.operand_names = tuple(p.name for p in parameters if p.kind is not p.KEYWORD_ONLY)
        self.__doc__ = body.__doc__
        self.__name__ = body.__name__
        self.__module__ = body.__module__
        self.__wrapped__ = body
        self._decisions: dict = {}
        self._generation = -1

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def specs(self, *arrays: Any, **params: Any) -> tuple[Spec, ...]:
        """What the call would return, as `Spec`s, computed from shapes alone. Raises `ShapeError`."""
        return _as_tuple(self.outputs(*map(_spec, arrays), **params))

    def reference(self, *arrays: Any, **params: Any) -> Any:
        """The NumPy body itself, in whatever dtype comes in."""
        return self.body(*arrays, **params)

    def __call__(self, *arrays: Any, algorithm: str | None = None, out: Any = None, **params: Any) -> Any:
        """Check → choose → allocate → launch.

        algorithm  the name of one algorithm, as in `Conv2D(..., algorithm=...)`
        out        where the result is written: a C-contiguous array with the shape and dtype of the result, which
                   overlaps no operand. For several results a tuple in their order, with None for each that is to be
                   allocated. An op that works in place does not take it.
        """
        if self._generation != registry.generation():
            self._decisions.clear()
            self._generation = registry.generation()
        shapes = tuple([None if a is None else (a.shape, a.dtype) for a in arrays])
        key = (shapes, tuple(params.items()), algorithm)
        decision = self._decisions.get(key)
        if decision is None:
            decision = self._decisions[key] = self._decide(arrays, params, algorithm)
        kernel, specs, workspace = decision
        where = choose.current()
        if where is not CPU:
            self._check_device(where, arrays)
        targets = None if out is None else self._targets(where, out, specs)
        if kernel is None:
            return self._body_on_host(where, arrays, params, targets)
        arrays = self._contiguous(arrays)
        scratch = [storage.empty(*s) for s in workspace]
        if self.inplace:
            outs = [arrays[i] for i in self.inplace if arrays[i] is not None]
            kernel.launch(*arrays, *scratch, **params)
        else:
            if targets is None:
                outs = [storage.empty(*s) for s in specs]
            else:
                outs = [storage.empty(*s) if t is None else t for t, s in zip(targets, specs, strict=True)]
            kernel.launch(*outs, *arrays, *scratch, **params)
        return outs[0] if len(outs) == 1 else tuple(outs)

    def _targets(self, where: Device, out: Any, specs: tuple[Spec, ...]) -> tuple:
        """The arrays of `out`, one for each result, or None where a result is to be allocated."""
        if self.inplace:
            raise ArgumentError(f"{self.name} works in place and returns its operands: leave out= out")
        targets = out if isinstance(out, tuple) else (out,)
        if len(targets) != len(specs):
            arrays = f"{len(specs)} array" + "s" * (len(specs) != 1)
            raise ArgumentError(
                f"{self.name} returns {arrays} and out= has {len(targets)}: use None for one to allocate"
            )
        for target, spec in zip(targets, specs, strict=True):
            if target is None:
                continue
            if not where.owns(target):
                raise ArgumentError(
                    f"{self.name}: out is a {type(target).__name__} and the device in use is {where.name}: make it "
                    "there with gpucnn.devices.storage.empty"
                )
            if target.shape != spec.shape or target.dtype != spec.dtype:
                raise ArgumentError(
                    f"{self.name}: out is {target.shape} {target.dtype} and the result is {spec.shape} {spec.dtype}"
                )
            if not target.flags.c_contiguous:
                raise ArgumentError(
                    f"{self.name}: out of shape {target.shape} is a view with gaps or exchanged axes: use a "
                    "C-contiguous array"
                )
        return targets

    def _contiguous(self, arrays: tuple) -> tuple:
        """The operands as kernels take them; one that is updated in place must be so already."""
        if all(a is None or a.flags.c_contiguous for a in arrays):
            return arrays
        for i in self.inplace:
            if arrays[i] is not None and not arrays[i].flags.c_contiguous:
                raise ArgumentError(f"{self.name} updates operand {i} in place: give a C-contiguous array, not a view")
        contiguous = choose.current().contiguous
        return tuple(None if a is None else contiguous(a) for a in arrays)

    def _check_device(self, where: Device, arrays: tuple) -> None:
        for name, array in zip(self.operand_names, arrays, strict=False):
            if array is not None and not where.owns(array):
                raise ArgumentError(
                    f"{self.name}: {name} is a {type(array).__name__} and the device in use is {where.name}: copy it "
                    "there with gpucnn.devices.storage.put"
                )

    def _body_on_host(self, where: Device, arrays: tuple, params: dict, targets: tuple | None) -> Any:
        """The NumPy body: on the CPU the reference, elsewhere for calls without elements, which need no kernel."""
        if where is CPU:
            result = self.body(*arrays, **params)
        else:
            result = self.body(*(None if a is None else storage.get(a) for a in arrays), **params)
            result = tuple(map(where.put, result)) if isinstance(result, tuple) else where.put(result)
        if targets is None:
            return result
        results = [_copied(value, target) for value, target in zip(_as_tuple(result), targets, strict=True)]
        return results[0] if len(results) == 1 else tuple(results)

    def _decide(self, arrays: tuple, params: dict, algorithm: str | None) -> tuple:
        specs = self.specs(*arrays, **params)
        operands = tuple(map(_spec, arrays))
        sizes = [math.prod(s.shape) for s in (*operands, *specs) if s is not None]
        if max(sizes) >= _TOO_LARGE:
            raise ShapeError(f"{self.name}: an array of {max(sizes):,} elements is too large: use less than 2**31")
        if not min(sizes):
            return None, specs, ()
        kernel = registry.find(self, operands, params, algorithm)
        workspace = scratch(kernel, operands, params) if kernel else ()
        return kernel, specs, workspace


def op(
    *,
    outputs: Callable,
    cases: Sequence[Case] = (),
    prefer: Sequence[str] = (),
    flops: Callable | None = None,
    terms: Callable | None = None,
    ulps: float = 4.0,
    inplace: tuple[int, ...] = (),
    gradient_of: Op | None = None,
) -> Callable[[Callable], Op]:
    """Make an op of a NumPy function.

    outputs   shape rule: takes a `Spec` (or None) for each array and the parameters; returns the `Spec` of the result
              (a tuple of them for several results) or raises `ShapeError`.
    cases     named calls, the same for tests, benchmarks and a user's own kernel.
    prefer    algorithms in the order in which "auto" tries them.
    flops     work of a call, from the same arguments as `outputs`.
    terms     for a sum of products: the number of terms behind each output value, from the same arguments. Kernels are
              then held to (4 + √terms) · eps · Σ|a||b|, and to equality on small integers.
    ulps      for any other op: a kernel's error may be `ulps` · eps · max(1, |value|).
    inplace   indices of the operands that are updated in place; such an op returns those that are not None.
    gradient_of
              the op whose gradient this is: an algorithm that is chosen for it holds for the gradient too.
    """

    def decorate(body: Callable) -> Op:
        operation = Op(body, outputs, cases, prefer, flops, terms, ulps, inplace, gradient_of)
        registry.declare(operation)
        return operation

    return decorate


def _copied(value: Any, target: Any) -> Any:
    """The value, copied into the target if there is one."""
    if target is None:
        return value
    target[...] = value
    return target


def _spec(array: Any) -> Spec | None:
    return None if array is None else Spec(tuple(array.shape), np.dtype(array.dtype))


def scratch(kernel: registry.Kernel, operands: Sequence[Spec | None], params: dict[str, Any]) -> tuple[Spec, ...]:
    """The arrays that a kernel needs as workspace for a call."""
    return _as_tuple(kernel.workspace(*operands, **params)) if kernel.workspace else ()


def _as_tuple(value: Any) -> tuple:
    return value if isinstance(value, tuple) and not isinstance(value, Spec) else (value,)
