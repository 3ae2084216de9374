"""An op is one NumPy function: its contract, its CPU implementation and the oracle of every kernel.

Calling an op checks the shapes, chooses a kernel, allocates the outputs and launches. Where no
faster kernel is registered for the call, the NumPy body itself computes it.

A kernel's id is its address: `conv2d/direct_njit` is in `kernels/conv2d/direct_njit.py`. Files are
imported the first time that an op of their family is called, and only those whose backend can run
on the device in use.
"""

from __future__ import annotations

import importlib
import inspect
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import places
from ..arguments import check_keywords
from ..devices import choose, forks, storage
from ..devices.cpu import CPU
from ..devices.device import Device
from ..errors import ArgumentError, CompileError, KernelError, ShapeError, in_one_line
from ..files import executed
from . import choice, precision, tape
from .case import Case, Spec
from .operands import as_kernels_take_them, refusal, require_owned, targets_of

_TOO_LARGE = 1 << 31
"""Kernels count elements in 32 bits."""

_NOT_ON_GPU = ("float16", "float64")

_ops: dict[str, Op] = {}
_kernels: dict[str, dict[str, Kernel]] = {}
_imported: set[tuple[str, str]] = set()
_loading = threading.RLock()
"""Held while a kernel file is imported: `_whole_file` is for one file at a time."""
forks.hold(_loading, outermost=True)


@dataclass(frozen=True)
class Kernel:
    """One implementation of one op: what `@kernel` registers."""

    op: Op
    algorithm: str
    backend: str
    id: str
    launch: Callable[..., None]
    supports: Callable[..., bool] | None = None
    workspace: Callable[..., tuple[Spec, ...]] | None = None
    pays: Callable[..., bool] | None = None
    file: Path = Path()
    """The kernel file, whose name is the last part of the id."""
    precisions: tuple[str, ...] = (precision.FLOAT32,)
    executed: Callable[..., tuple[float, float]] | None = None
    compiled: bool = False

    def serves(self, operands: Sequence[Spec | None], params: dict[str, Any]) -> bool:
        """Whether the kernel takes this call. Kernels for GPUs compute in float32."""
        if choice.BACKENDS[self.backend] == "gpu" and any(
            s is not None and s.dtype.name in _NOT_ON_GPU for s in operands
        ):
            return False
        return self.supports is None or self.supports(*operands, **params)

    def is_worthwhile(self, operands: Sequence[Spec | None], params: dict[str, Any]) -> bool:
        """Whether "auto" chooses the kernel for a call that it serves."""
        return self.pays is None or self.pays(*operands, **params)

    def run(self, *arrays: Any, **params: Any) -> None:
        """Launch. Raises `CompileError` for what Numba cannot compile."""
        try:
            self.launch(*arrays, **params)
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "numba":
                raise
            raise CompileError(f"{self.id} cannot be compiled here: {in_one_line(error)}") from error

    def scratch(self, operands: Sequence[Spec | None], params: dict[str, Any]) -> tuple[Spec, ...]:
        """The arrays that the kernel needs as workspace for a call."""
        return _as_tuple(self.workspace(*operands, **params)) if self.workspace else ()


class Op:
    """An operation: call it with arrays and every parameter by name. The decorator `@op` creates
    it."""

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
        sums: Callable | None = None,
        factors: tuple[int, ...] = (),
    ) -> None:
        self.body = body
        self.outputs = outputs
        self.cases = tuple(cases)
        self.prefer = tuple(prefer)
        self.flops = flops
        self.terms = terms
        self.ulps = ulps
        self.sums = sums
        self.factors = factors
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
        self._registrations = -1

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def specs(self, *arrays: Any, **params: Any) -> tuple[Spec, ...]:
        """What the call would return, as `Spec`s, computed from shapes alone. Raises
        `ShapeError`, and `ArgumentError` for parameters that do not fit the body's annotations."""
        check_keywords(self.name, self.body, params)
        return _as_tuple(self.outputs(*map(_spec, arrays), **params))

    def reference(self, *arrays: Any, **params: Any) -> Any:
        """The NumPy body itself, in whatever dtype comes in, of factors in the precision in force. Like
        a kernel, it neither warns nor raises at values that are not finite, whatever `numpy.seterr` says."""
        with np.errstate(all="ignore"):
            return self.body(*self.with_factors(arrays), **params)

    def with_factors(self, arrays: Sequence[Any]) -> Sequence[Any]:
        """The operands, those that are multiplied rounded to the precision in force."""
        kind = precision.in_force()
        if kind == precision.FLOAT32 or not self.factors:
            return arrays
        return [precision.rounded(a, kind) if i in self.factors else a for i, a in enumerate(arrays)]

    def __call__(self, *arrays: Any, algorithm: str | None = None, out: Any = None, **params: Any) -> Any:
        """Check → choose → allocate → launch.

        algorithm  the name of one algorithm, as in `Conv2D(..., algorithm=...)`
        out        where the result is written: an array of the device in use with the shape and dtype
                   of the result, as `storage.empty` makes it, which overlaps none of the operands unless
                   the op allows it. For several results a tuple in their order, with None for each that is
                   to be allocated. An op that works in place does not take it.
        """
        if self._registrations != choice.registrations():
            self._decisions.clear()
            self._registrations = choice.registrations()
        where = choose.current()
        require_owned(self.name, where, arrays, self.operand_names)
        shapes = tuple([None if a is None else (a.shape, a.dtype) for a in arrays])
        key = (choice.decides(), shapes, tuple(params.items()), algorithm)
        try:
            decision = self._decisions.get(key)
        except TypeError:  # a list, or another parameter that has no hash
            check_keywords(self.name, self.body, params)
            raise ArgumentError(f"{self.name}: parameters are numbers, text and tuples, not {params}") from None
        if decision is None:
            decision = self._decisions[key] = self._decide(arrays, params, algorithm)
        kernel, specs, workspace = decision
        if out is None:
            targets = None
        elif self.inplace:
            raise ArgumentError(f"{self.name} works in place and returns its operands: call it without out=")
        else:
            targets = targets_of(self.name, where, out, specs)
        if kernel is None:
            return self._body_on_host(where, arrays, params, targets)
        fit = as_kernels_take_them(self.name, where, arrays, self.operand_names, self.inplace)
        scratch = [storage.empty(*s) for s in workspace]
        where.begin(kernel, arrays, params)
        if self.inplace:
            outs = [fit[i] for i in self.inplace if fit[i] is not None]
            launched = (*fit, *scratch)
        else:
            if targets is None:
                outs = [storage.empty(*s) for s in specs]
            else:
                outs = [storage.empty(*s) if t is None else t for t, s in zip(targets, specs, strict=True)]
            launched = (*outs, *fit, *scratch)
        if (recorder := tape.recording()) is None:
            kernel.run(*launched, **params)
        else:
            recorder.run(kernel, launched, params, (*outs, *scratch))
        return outs[0] if len(outs) == 1 else tuple(outs)

    def kernels(self, backends: Sequence[str] = tuple(choice.BACKENDS)) -> dict[str, Kernel]:
        """The registered kernels by `algorithm_backend`, after importing the files of the op's
        family."""
        suffixes = tuple(f"_{backend}" for backend in backends)
        with _loading:
            for backend in backends:
                if (self.family, backend) in _imported:
                    continue
                folder = places.folder_of_kernels() / self.family
                for path in sorted(folder.glob(f"*_{backend}.py")):
                    with _whole_file():
                        importlib.import_module(f"gpucnn.kernels.{self.family}.{path.stem}")
                _imported.add((self.family, backend))
            return {key: kernel for key, kernel in _kernels.get(self.name, {}).items() if key.endswith(suffixes)}

    def find(
        self, operands: tuple[Spec | None, ...], params: dict[str, Any], algorithm: str | None = None
    ) -> Kernel | None:
        """The kernel that serves this call, or None for the NumPy body. The call's `algorithm` is the strongest
        choice, then `use(...)`, then the first of `prefer` that is registered and supports the call. A choice
        for an op applies to those of its gradients that have a kernel of that name."""
        backends = choice.backends()
        kernels = self.kernels(backends)
        if any(kernel.backend == "njit" for kernel in kernels.values()) and _numba_compiles_nothing():
            kernels = {key: kernel for key, kernel in kernels.items() if kernel.backend != "njit"}
        if self.factors and precision.is_as_stated():
            kernels = {key: kernel for key, kernel in kernels.items() if precision.in_force() in kernel.precisions}
        name = algorithm or choice.algorithms().get(self.name)
        if self.gradient_of is not None:
            name = name or choice.algorithms().get(self.gradient_of.name)
            if name and name not in _names(kernels) and name in _names(self.gradient_of.kernels(backends)):
                name = None
        if name == "reference" and choose.current() is CPU:
            return None
        excess = None
        for candidate in [name] if name else self.prefer:
            for backend in backends:
                kernel = kernels.get(f"{candidate}_{backend}")
                if kernel and kernel.serves(operands, params) and (name or kernel.is_worthwhile(operands, params)):
                    largest = max((math.prod(s.shape) for s in kernel.scratch(operands, params)), default=0)
                    if largest < _TOO_LARGE:
                        return kernel
                    excess = f"the workspace of {kernel.id} would have {largest:,} elements"
        if excess:
            raise ShapeError(f"{self.name}: {excess}: use less than 2**31, such as with a smaller batch")
        if name or ("numpy" not in backends and "njit" not in backends):
            raise refusal(self.name, backends, [k.algorithm for k in kernels.values()], operands, params, name)
        return None

    def has_kernel(self, *operands: Spec | None, **params: Any) -> bool:
        """Whether such a call runs a kernel rather than the body, with the backends in use."""
        try:
            return self.find(operands, params) is not None
        except KernelError:
            return False

    def _body_on_host(self, where: Device, arrays: tuple, params: dict, targets: tuple | None) -> Any:
        """The NumPy body: on the CPU the reference, elsewhere for calls without elements, which
        need no kernel."""
        if where is CPU:
            result = self.reference(*arrays, **params)
        else:
            result = self.reference(*(None if a is None else storage.get(a) for a in arrays), **params)
            result = tuple(map(where.put, result)) if isinstance(result, tuple) else where.put(result)
        results = _as_tuple(result)
        if targets is not None:
            results = tuple(_copied(value, target) for value, target in zip(results, targets, strict=True))
        if (recorder := tape.recording()) is not None:
            recorder.repeat(partial(self._repeat_body, results, **params), arrays)
        return results[0] if len(results) == 1 else results

    def _repeat_body(self, results: tuple, *arrays: Any, **params: Any) -> None:
        """The NumPy body once more, into arrays that it returned before."""
        for value, target in zip(_as_tuple(self.reference(*arrays, **params)), results, strict=True):
            if value is not target:
                _copied(value, target)

    def _decide(self, arrays: tuple, params: dict, algorithm: str | None) -> tuple:
        specs = self.specs(*arrays, **params)
        operands = tuple(map(_spec, arrays))
        sizes = [math.prod(s.shape) for s in (*operands, *specs) if s is not None]
        if max(sizes) >= _TOO_LARGE:
            raise ShapeError(f"{self.name}: an array of {max(sizes):,} elements is too large: use less than 2**31")
        if not min(sizes):
            return None, specs, ()
        kernel = self.find(operands, params, algorithm)
        if kernel and not algorithm and choice.tuning() != "off":
            kernel = choice.tuner(self, kernel, arrays, params)
        return kernel, specs, kernel.scratch(operands, params) if kernel else ()


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
    sums: Callable | None = None,
    factors: tuple[int, ...] = (),
) -> Callable[[Callable], Op]:
    """Turn a NumPy function into an op.

    outputs   shape rule: takes a `Spec` (or None) for each array and the parameters; returns the
              `Spec` of the result (a tuple for several results) or raises `ShapeError`.
    cases     named calls, the same for tests, benchmarks and a user's own kernel.
    prefer    algorithms in the order in which "auto" tries them.
    flops     work of a call, from the same arguments as `outputs`.
    terms     for a sum of products: the number of terms behind each output value, from the same
              arguments. Kernels must then agree within (4 + √terms) · eps · Σ|a||b| (in a lower
              precision terms / 8 more), and exactly on small integers.
    ulps      for any other op: a kernel's error may be `ulps` · eps · max(1, |value|).
    sums      for a sum of products that ends in a function: from the absolute operands and the
              parameters, Σ|a||b| times a bound of the function's slope, for each result. Kernels must
              then agree within (4 + √terms) · eps · sums + ulps · eps · max(1, |value|), and within
              the latter on small integers.
    factors   indices of the operands that a sum of products multiplies: a lower precision rounds them,
              as `precision.rounded` does.
    inplace   indices of the operands that are updated in place; such an op returns those that are
              not None.
    gradient_of
              the op whose gradient this is: an algorithm that is chosen for it applies to the
              gradient too.
    """

    def decorate(body: Callable) -> Op:
        operation = Op(body, outputs, cases, prefer, flops, terms, ulps, inplace, gradient_of, sums, factors)
        _ops[operation.name] = operation
        choice.declare(operation.name)
        return operation

    return decorate


def kernel(
    op: Op,
    algorithm: str,
    backend: str,
    *,
    supports: Callable[..., bool] | None = None,
    workspace: Callable[..., tuple[Spec, ...]] | None = None,
    pays: Callable[..., bool] | None = None,
    file: str | Path | None = None,
    precisions: tuple[str, ...] = (precision.FLOAT32,),
    executed: Callable[..., tuple[float, float]] | None = None,
    compiled: bool = False,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register the decorated function as a kernel of `op`.

    The function is called as `launch(*outputs, *operands, *workspace, **params)` and fills the
    outputs (for an op that works in place: `launch(*operands, *workspace, **params)`). Arrays are
    C-contiguous, non-empty, on the device in use, and start at a multiple of 16 bytes on a GPU (of
    256 where the engine allocated them); outputs are uninitialised. An operand that is absent is None.

    supports    takes a `Spec` (or None) for each operand and the parameters; False leaves the call to
                another kernel.
    workspace   takes the same; returns the `Spec`s of the scratch arrays that the door allocates.
    pays        takes the same; False where another algorithm is expected to be faster: "auto" then
                tries the next one, and the kernel serves the call only if it is chosen by name.
    file        the kernel file, whose name the id carries; by default the one that holds the
                function. A function that registers the kernels of several families passes the
                `__file__` of the family's file.
    precisions  those that the kernel computes; `precision.in_force()` is the one of a call. On a GPU, a
                kernel for float32 alone may serve calls of any.
    executed    takes the same as `supports`; returns the FLOPs of a product whose blocks differ in
                length and those of the longest of them, for predictions.
    compiled    for `njit`: the function only launches tasks of `devices.team`, which ones and with what
                numbers depends on shapes and parameters alone, and a recorded step repeats those.
    """
    if backend not in choice.BACKENDS:
        raise ArgumentError(
            f"@kernel({op.name}, {algorithm!r}, {backend!r}): backend must be one of {', '.join(choice.BACKENDS)}"
        )

    def decorate(launch: Callable[..., None]) -> Callable[..., None]:
        path = Path(file or launch.__code__.co_filename)
        settings = supports, workspace, pays, path, precisions, executed, compiled
        entry = Kernel(op, algorithm, backend, f"{op.family}/{path.stem}", launch, *settings)
        _kernels.setdefault(op.name, {})[f"{algorithm}_{backend}"] = entry
        choice.changed()
        return launch

    return decorate


def declared() -> dict[str, Op]:
    """All declared ops by name."""
    return dict(_ops)


def load(path: str | Path) -> list[Kernel]:
    """Import a user's own kernel file; returns the kernels that it registered."""
    path = Path(path)
    before = {id(k) for group in _kernels.values() for k in group.values()}
    with _loading, _whole_file():
        executed(path, "gpucnn_user_kernels")
    loaded = [k for group in _kernels.values() for k in group.values() if id(k) not in before]
    if not loaded:
        raise KernelError(
            f"{path} registered no kernel: decorate a function with @gpucnn.kernel(op, algorithm, backend)"
        )
    return loaded


@contextmanager
def _whole_file() -> Iterator[None]:
    """Undo what a file has registered if its import fails (for example at Ctrl-C): it will be
    imported again."""
    before = {op: dict(kernels) for op, kernels in _kernels.items()}
    try:
        yield
    except BaseException:
        _kernels.clear()
        _kernels.update(before)
        choice.changed()
        raise


def _numba_compiles_nothing() -> bool:
    from ..devices import njit  # which imports Numba

    return njit.is_off()


def _names(kernels: dict[str, Kernel]) -> set[str]:
    return {kernel.algorithm for kernel in kernels.values()}


def _copied(value: Any, target: Any) -> Any:
    """The value, copied into the target if there is one."""
    if target is None:
        return value
    target[...] = value
    return target


def _spec(array: Any) -> Spec | None:
    return None if array is None else Spec(tuple(array.shape), np.dtype(array.dtype))


def _as_tuple(value: Any) -> tuple:
    return value if isinstance(value, tuple) and not isinstance(value, Spec) else (value,)
