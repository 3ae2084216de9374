"""numba.cuda kernels, compiled to PTX. Nothing else in gpucnn imports numba.cuda.

@numba_function
def conv2d_direct(y, x, weight, ...): ...

conv2d_direct[grid, block](y, x, weight, ...)     # on the device in use
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import BuiltinFunctionType, ModuleType, SimpleNamespace
from typing import Any

import numba
import numpy as np

from .. import places
from ..errors import ArgumentError, CompileError, KernelError, in_one_line
from ..version import installed_version
from . import choose
from .launch import GpuFunction
from .launchable import Geometry
from .simulator import simulated

try:
    from numba import cuda
except Exception as error:  # many of the ways in which this fails raise no ImportError
    raise KernelError(
        f"numba.cuda cannot be imported ({type(error).__name__}: {error}): pip install 'gpucnn[compile]', "
        "or with a GPU 'gpucnn[cuda12]' or 'gpucnn[cuda13]'"
    ) from error

__all__ = ["NumbaFunction", "cuda", "numba_device", "numba_function", "unavailable"]

NEWEST = (8, 0)
"""The newest compute capability for which PTX is compiled. Newer GPUs get the same text, which the
emulator runs as well: no kernel needs later features."""


class NumbaFunction(GpuFunction):
    """A kernel written for numba.cuda."""

    def __init__(self, body: Callable[..., None], fastmath: bool) -> None:
        super().__init__(Path(body.__code__.co_filename), body.__name__)
        self.body, self.fastmath = body, fastmath
        self.simulated = cuda.jit(body) if simulated() else None
        self._ptx: dict[tuple, tuple[str, str]] = {}

    def __repr__(self) -> str:
        return f"<numba.cuda kernel {self.name}>"

    def source(self) -> str:
        """The kernel's Python."""
        return inspect.getsource(self.body)

    def convert(self, arguments: tuple) -> list[Any]:
        """Python ints become int32, floats float32 and bools bool; NumPy scalars and arrays are
        left as they are."""
        return [_converted(self.name, a) for a in arguments]

    def parameter_names(self) -> list[str]:
        """The names in Python."""
        return list(inspect.signature(self.body).parameters)

    def run(self, geometry: Geometry, arguments: list[Any]) -> None:
        """Launch on the device in use; compiled for the arguments' types at the first launch."""
        choose.current().launch_numba(self, geometry, arguments)

    def kinds(self, arguments: list[Any]) -> tuple:
        """What decides Numba's types of these arguments: dtype and number of axes of each."""
        return tuple([(a.dtype, None if isinstance(a, np.generic) else len(a.shape)) for a in arguments])

    def signature(self, arguments: list[Any]) -> tuple:
        """Numba's types of these arguments."""
        return tuple([_type(*kind) for kind in self.kinds(arguments)])

    def ptx(self, signature: tuple, cc: tuple[int, int]) -> tuple[str, str]:
        """(PTX, name of the entry) for these types and GPUs of this compute capability or newer."""
        key = (signature, min(cc, NEWEST))
        if key not in self._ptx:
            text = self._cached(*key)
            self._ptx[key] = text, text.partition(".entry")[2].split("(")[0].strip()
        return self._ptx[key]

    def entry_arguments(self, arguments: list[Any]) -> list[Any]:
        """The arguments as Numba's entry points take them: an array becomes meminfo, parent, item
        count, item size, data, shape and strides in bytes."""
        out: list[Any] = []
        for a in arguments:
            if isinstance(a, np.generic):
                out.append(a)
                continue
            before, after = _layout(a.shape, a.itemsize)
            out += (*before, a, *after)
        return out

    def _compiled(self, signature: tuple, cc: tuple[int, int]) -> str:
        try:
            with _without_device(cc):
                return cuda.compile_ptx(self.body, signature, cc=cc, lineinfo=True, fastmath=self.fastmath)[0]
        except Exception as error:
            reason = None if self.body is _nothing else unavailable()
            message = f"{self.id} {self.name} cannot be compiled here: {reason or in_one_line(error)}"
            raise CompileError(message) from error

    def _cached(self, signature: tuple, cc: tuple[int, int]) -> str:
        """The PTX, from disk if it has been compiled before: compiling takes up to seconds."""
        reason = _not_installed()
        if reason is not None:
            raise CompileError(f"{self.id} {self.name} cannot be compiled here: {reason}")
        ingredients = _ingredients(self.body)
        if ingredients is None:
            return self._compiled(signature, cc)
        key = places.cache_key(_place(self.body), signature, cc, self.fastmath, _versions(), *sorted(ingredients))
        return places.cached("ptx", f"{key}.ptx", lambda: self._compiled(signature, cc).encode()).decode()


def _nothing() -> None:
    return


@lru_cache
def _not_installed() -> str | None:
    """What to do without numba-cuda. With `min` of two float32 and others, numba.cuda of Numba itself
    fails, and which of them differs from version to version."""
    if installed_version("numba-cuda") is not None:
        return None
    return (
        "numba-cuda is not installed, and numba.cuda of Numba itself refuses some of these kernels: "
        "pip install 'gpucnn[compile]', or with a GPU 'gpucnn[cuda12]' or 'gpucnn[cuda13]'"
    )


@lru_cache
def unavailable() -> str | None:
    """Why numba.cuda cannot compile here, in one sentence; None if it can."""
    if _not_installed() is not None:
        return _not_installed()
    try:
        NumbaFunction(_nothing, False)._compiled((), (8, 0))
    except KernelError as error:
        first = str(error.__cause__).strip().splitlines() or [type(error.__cause__).__name__]
        return f"numba.cuda finds no compiler ({first[0]}): pip install 'gpucnn[compile]'"
    return None


def numba_function(body: Callable[..., None] | None = None, *, fastmath: bool = False) -> Any:
    """Make a function written for numba.cuda a kernel, with ints as int32, floats as float32."""
    if body is None:
        return lambda inner: NumbaFunction(inner, fastmath)
    return NumbaFunction(body, fastmath)


def numba_device(body: Callable) -> Any:
    """Make a function one that kernels call; the compiler inlines it."""
    return cuda.jit(device=True)(body)


@lru_cache
def _type(dtype: np.dtype, axes: int | None) -> Any:
    """Numba's type of an array with this many axes; of a scalar for None."""
    scalar = numba.from_dtype(dtype)
    return scalar if axes is None else numba.types.Array(scalar, axes, "C")


@lru_cache(1024)
def _layout(shape: tuple[int, ...], itemsize: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """What the entry takes before and after the address of a C-contiguous array."""
    strides = [itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    before, after = (0, 0, math.prod(shape), itemsize), (*shape, *strides)
    return tuple(map(np.int64, before)), tuple(map(np.int64, after))


def _converted(kernel: str, value: Any) -> Any:
    if isinstance(value, np.generic) or hasattr(value, "shape"):
        return value
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, int):
        if not -(2**31) <= value < 2**31:
            raise ArgumentError(
                f"{kernel}: {value} does not fit into int32: pass np.int64, np.uint32 or np.uint64 by name"
            )
        return np.int32(value)
    if isinstance(value, float):
        return np.float32(value)
    raise KernelError(f"{kernel}: a kernel takes arrays and numbers, not {type(value).__name__}")


def _ingredients(body: Callable) -> set[str] | None:
    """All that the compiled code depends on: the files of a function and of the functions that it
    calls, and the values that these take from their modules or enclosing functions. None if one of
    the values has no usable text."""
    texts: set[str] = set()
    waiting, seen = [body], set()
    while waiting:
        function = waiting.pop()
        if function in seen:
            continue
        seen.add(function)
        place = _place(function)
        texts.add(f"{place}\n{Path(function.__code__.co_filename).read_text(encoding='utf-8')}")
        for name, value in _named(function):
            called = getattr(value, "py_func", None)
            if callable(called):
                waiting.append(called)
                texts.add(f"{place}: {name} = {_place(called)}")
            elif isinstance(value, (int, float, str, tuple, np.generic, np.dtype, numba.types.Type)):
                texts.add(f"{place}: {name} = {value!r}")
            elif not isinstance(value, (ModuleType, type, BuiltinFunctionType, np.ufunc)) and value is not cuda:
                return None
    return texts


def _named(function: Callable) -> list[tuple[str, Any]]:
    """The variables that a function takes from its module and its enclosing functions."""
    variables = inspect.getclosurevars(function)
    return [*variables.globals.items(), *variables.nonlocals.items()]


def _place(function: Callable) -> str:
    return f"{function.__code__.co_filename}:{function.__code__.co_firstlineno} {function.__qualname__}"


@lru_cache
def _versions() -> str:
    packages = ("numba-cuda", "nvidia-nvvm", "nvidia-cuda-nvcc-cu12")
    return " ".join([numba.__version__, *(installed_version(package) or "none" for package in packages)])


@contextmanager
def _without_device(cc: tuple[int, int]) -> Iterator[None]:
    """Compile without a GPU: Numba compiles functions that kernels call for the device that it
    finds, if any."""
    dispatcher = cuda.dispatcher
    before = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=cc)
    try:
        yield
    finally:
        dispatcher.get_current_device = before
