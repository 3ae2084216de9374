"""Kernels for the CPU, compiled by Numba, and their cache on disk.

@njit(nogil=True, cache=True)
def kernel(y, x): ...

Numba keeps machine code next to its source, or in a folder below the user's home, and fails where
neither can be written. Here it goes to the cache of gpucnn, or to NUMBA_CACHE_DIR.
"""

from __future__ import annotations

import gc
import io
import itertools
import secrets
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from .. import places
from ..errors import KernelError
from ..version import __version__
from . import forks

try:
    import numba
    from numba.core.bytecode import FunctionIdentity
    from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, _CacheLocator
    from numba.core.codegen import JITCodeLibrary
    from numba.core.compiler import Compiler
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.typed_passes import NopythonRewrites
    from numba.core.untyped_passes import InlineClosureLikes
except Exception as error:  # some versions of NumPy are refused with other errors than ImportError
    raise KernelError(
        f"Numba cannot be imported ({type(error).__name__}: {error}): python -m pip install --upgrade numba, or use "
        "the backend numpy"
    ) from error

forks.hold(global_compiler_lock)


def _number_functions() -> None:
    """Number the functions that Numba compiles from a random start, in this process and in each fork.

    The number is part of a function's symbol, in the cache on disk too. Numba counts from 1: two
    functions of one name and type, compiled by two processes, then had one symbol, and a third
    process that loaded both called the first one in place of the second.
    """
    FunctionIdentity._unique_ids = itertools.count(secrets.randbits(62))


_number_functions()
forks.in_child(_number_functions)


class _WithoutEngine:
    """Numba's code generator without the engine that makes machine code of each module."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def _add_module(self, module: Any) -> None:
        """Nothing is made of the module."""

    def set_env(self, name: str, env: Any) -> None:
        """The environment serves callers in Python, and there are none."""


class _Library(JITCodeLibrary):
    """A function with all that it calls, optimized as a whole.

    Numba also optimizes each function that is linked into others, so that inner ones are done over for
    each level above them.
    """

    def _optimize_functions(self, ll_module: Any) -> None:
        if isinstance(self._codegen, _WithoutEngine):
            ll_module.data_layout = self._codegen._data_layout
        else:
            super()._optimize_functions(ll_module)

    def _optimize_final_module(self) -> None:
        if not isinstance(self._codegen, _WithoutEngine):
            super()._optimize_final_module()


_UNUSED = {InlineClosureLikes, NopythonRewrites}
"""Steps of Numba for what no kernel of gpucnn has: closures, and expressions of whole arrays. They take a twentieth
of the time."""


class _Whole(Compiler):
    """Compiles a function that Python or C code calls."""

    generator: Callable[[Any], Any] = staticmethod(lambda codegen: codegen)

    def compile_extra(self, func: Any) -> Any:
        """Compile, without looking for garbage in all that Numba holds until the end: that takes a tenth longer."""
        collecting = gc.isenabled()
        gc.disable()
        try:
            return super().compile_extra(func)
        finally:
            if collecting:
                gc.enable()

    def define_pipelines(self) -> Any:
        """The steps, with a place for the result."""
        self.state.library = _Library(self.generator(self.state.targetctx.codegen()), self.state.func_id.func_qualname)
        self.state.library.enable_object_caching()
        (pipeline,) = super().define_pipelines()
        if (self.state.func_id.func.__module__ or "").startswith("gpucnn."):
            pipeline.passes = [step for step in pipeline.passes if step[0] not in _UNUSED]
        return [pipeline]


class _ForLinking(_Whole):
    """Compiles a function as far as others need it to take it in."""

    generator = _WithoutEngine


_ALONE: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": _ForLinking}
"""For functions that compiled code alone calls: machine code is made only of what calls them, which holds
theirs. Without this and the wrappers they are compiled in less than half the time."""


def njit(*, cache: bool = False, **options: Any) -> Callable[[Callable], Any]:
    """`numba.njit` with these options; with `cache`, what it compiles is kept on disk. Functions that are
    inlined are for compiled code alone."""
    how = _ALONE if options.get("forceinline") else {"pipeline_class": _Whole}

    def decorate(function: Callable) -> Any:
        dispatcher = numba.njit(**(how | options))(function)
        return cached(dispatcher, function) if cache and dispatcher is not function else dispatcher

    return decorate


inner: Callable[[Callable], Any] = njit(nogil=True, error_model="numpy", **_ALONE)
"""Compiles a function that kernels call, or that becomes one; division by zero follows NumPy."""


def cached(dispatcher: Any, function: Callable) -> Any:
    """The dispatcher, which from now on keeps on disk what it compiles, by the code of this function."""
    if folder() is not None:
        dispatcher._cache = _Cache(function)
    return dispatcher


def address_of(dispatcher: Any, kinds: tuple) -> int:
    """The address of a compiled function for arguments of these Numba types, by which C code and
    other compiled functions call it; it holds as long as the process."""
    dispatcher.compile(kinds)
    compiled = dispatcher.overloads[kinds]
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_cfunc_wrapper_name)


def unavailable() -> str | None:
    """Why Numba does not compile here; None if it does."""
    return "NUMBA_DISABLE_JIT is set" if numba.config.DISABLE_JIT else None  # type: ignore[attr-defined]


def is_off() -> bool:
    """Whether Numba is told not to compile; the first time, a warning says what that costs."""
    reason = unavailable()
    if reason:
        _warn_of_slowness(reason)
    return reason is not None


@cache
def _warn_of_slowness(reason: str) -> None:
    warnings.warn(f"{reason}, so NumPy computes instead of compiled kernels, many times slower", stacklevel=2)


def folder() -> Path | None:
    """The folder of compiled kernels, below NUMBA_CACHE_DIR or in the cache of gpucnn; None if none
    can be written."""
    chosen = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    if not chosen:
        return places.cache_folder("numba")
    return places.cache_folder("numba", "NUMBA_CACHE_DIR", Path(chosen, "gpucnn"))


_before: ContextVar[list[Callable[[], None]] | None] = ContextVar("_before", default=None)


@contextmanager
def before_compiling(function: Callable[[], None]) -> Iterator[None]:
    """In the body of a with statement, call a function once, before a kernel is compiled that is not in
    the cache on disk."""
    token = _before.set([function])
    try:
        yield
    finally:
        _before.reset(token)


def _announce_compiling() -> None:
    waiting = _before.get()
    if waiting:
        waiting.pop()()


class CompiledElsewhere(Exception):
    """Another process is compiling the kernel."""


class _Claims(NamedTuple):
    """A folder with a file for each kernel that one of two processes is compiling, and what this one does about
    those of the other: it waits, or raises `CompiledElsewhere`."""

    folder: Path
    waits: bool

    def take(self, name: str) -> bool:
        """Whether the kernel is this process' to compile."""
        try:
            (self.folder / name).touch(exist_ok=False)
        except FileExistsError:
            if not self.waits:
                raise CompiledElsewhere from None
            return False
        except OSError:  # the folder is gone: the other process has ended
            pass
        return True

    def give_back(self, name: str) -> None:
        """What was compiled is in the cache."""
        (self.folder / name).unlink(missing_ok=True)


_SECONDS = 20.0
"""A process that has not compiled a kernel by then has ended or failed."""

_claims: ContextVar[_Claims | None] = ContextVar("_claims", default=None)


@contextmanager
def sharing(folder: Path, waits: bool) -> Iterator[None]:
    """In the body of a with statement, compile no kernel that another process, which shares this folder, is
    compiling: wait for it, or raise `CompiledElsewhere`."""
    token = _claims.set(_Claims(folder, waits))
    try:
        yield
    finally:
        _claims.reset(token)


_SYMBOLS = "numbered at random"
"""Sets the cache apart from those with symbols that clash."""


class _Locator(_CacheLocator):
    """Where Numba keeps what it compiles of one function, and what makes it out of date."""

    def __init__(self, function: Callable, file: str, root: Path) -> None:
        self._line = function.__code__.co_firstlineno
        self._file = Path(file)
        self._folder = root / self.get_suitable_cache_subpath(file)

    @classmethod
    def from_function(cls, function: Callable, file: str) -> _Locator | None:
        """The locator of a function in a file; None if there is no folder."""
        root = folder()
        return None if root is None else cls(function, file, root)

    def get_cache_path(self) -> str:
        """The folder."""
        return str(self._folder)

    def ensure_cache_path(self) -> None:
        """Make the folder; what keeps an entry from being written is reported when it is written."""
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)

    def get_source_stamp(self) -> str:
        """What the machine code depends on apart from the function's types: its file, and the files
        of the functions that are inlined into it."""
        return places.cache_key(
            self._file.read_text(encoding="utf-8"), _shared_sources(), numba.__version__, __version__, _SYMBOLS
        )

    def get_disambiguator(self) -> str:
        """What tells functions of one name apart."""
        return str(self._line)


@cache
def _shared_sources() -> str:
    shared = [
        *sorted(places.folder_of_kernels().glob("shared/*.py")),
        *map(Path(__file__).with_name, ("atomics.py", "njit.py", "packed_tasks.py", "team.py")),
    ]
    return places.cache_key(*(path.read_text(encoding="utf-8") for path in shared))


class _Locating(CompileResultCacheImpl):
    _locator_classes: list[type[object]] = [_Locator]  # noqa: RUF012  as Numba declares it


class _Entries(IndexDataCacheFile):
    """A file for each function and types, which is written whole and verified when it is read.

    Numba's own index of the files has to be read and written again for each new entry, so that two
    processes which compile at once can each take the other's machine code for theirs.
    """

    def __init__(self, folder: str, name: str, stamp: str) -> None:
        super().__init__(folder, name, stamp)
        self._name = name

    def load(self, key: Any) -> Any:
        """The entry; None if it is missing or damaged, and this process is to compile it."""
        name, claims, start = self._name_of(key), _claims.get(), time.monotonic()
        while (entry := self._entry(name)) is None and claims is not None:
            if claims.take(name):
                return self._entry(name)  # which may have come meanwhile
            if time.monotonic() > start + _SECONDS:
                break
            time.sleep(0.005)
        return entry

    def save(self, key: Any, data: Any) -> None:
        """Write the entry."""
        name, claims = self._name_of(key), _claims.get()
        self._save_data(name, data)
        if claims is not None:
            claims.give_back(name)

    def flush(self) -> None:
        """Delete all entries of the function."""
        for path in Path(self._cache_path).glob(f"{self._name}.*.nbc"):
            path.unlink(missing_ok=True)

    def _entry(self, name: str) -> Any:
        return None if places.intact(Path(self._data_path(name))) is None else self._load_data(name)

    def _name_of(self, key: Any) -> str:
        return f"{self._name}.{places.cache_key(self._source_stamp, key)}.nbc"

    @contextmanager
    def _open_for_write(self, path: str) -> Iterator[BinaryIO]:
        with io.BytesIO() as content:
            yield content
            places.keep(Path(path), content.getvalue())


class _Cache(FunctionCache):
    """Numba's cache of one function, of which an unusable entry counts as missing."""

    _impl_class = _Locating

    def __init__(self, function: Callable) -> None:
        super().__init__(function)
        locator = self._impl.locator
        self._cache_file = _Entries(locator.get_cache_path(), self._impl.filename_base, locator.get_source_stamp())

    def load_overload(self, signature: Any, target: Any) -> Any:
        """The machine code for these types; None if it is missing or cannot be used."""
        try:
            entry = super().load_overload(signature, target)
        except CompiledElsewhere:
            raise
        except Exception:  # an intact entry of another installation, of which the stamp says nothing
            entry = None
        if entry is None:
            _announce_compiling()
        return entry
