"""Kernel files register themselves here; an op asks here for the kernel that should serve a call.

A kernel's id is its address: `conv2d/direct_njit` stands in `kernels/conv2d/direct_njit.py`. Files are imported the
first time that an op of their family is called, and only those whose backend can run on the device in use.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ArgumentError, KernelError

if TYPE_CHECKING:
    from .op import Op, Spec

BACKENDS = {"numpy": "cpu", "njit": "cpu", "numba": "gpu", "cuda": "gpu"}
"""Each backend and the kind of device on which its kernels run."""

_AUTO = ("njit", "numpy")
_ops: dict[str, Op] = {}
_kernels: dict[str, dict[str, Kernel]] = {}
_imported: set[tuple[str, str]] = set()
_chosen: tuple[str, ...] = _AUTO
_algorithms: dict[str, str] = {}
_generation = 0


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


def kernel(
    op: Op,
    algorithm: str,
    backend: str,
    *,
    supports: Callable[..., bool] | None = None,
    workspace: Callable[..., tuple[Spec, ...]] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register the decorated function as a kernel of `op`.

    The function is called as `launch(*outputs, *operands, *workspace, **params)` and fills the outputs (for an op that
    works in place: `launch(*operands, *workspace, **params)`). Arrays are C-contiguous, non-empty, aligned to 256 bytes
    when the engine allocated them; outputs are uninitialised. An operand that is absent is None.

    supports    takes a `Spec` (or None) for each operand and the parameters; False leaves the call to another kernel.
    workspace   takes the same; returns the `Spec`s of the scratch arrays that the door allocates.
    """
    if backend not in BACKENDS:
        raise ArgumentError(f"@kernel({op.name}, {algorithm!r}, {backend!r}): backend must be one of {_list(BACKENDS)}")

    def decorate(launch: Callable[..., None]) -> Callable[..., None]:
        global _generation
        stem = Path(launch.__code__.co_filename).stem
        made = Kernel(op, algorithm, backend, f"{op.family}/{stem}", launch, supports, workspace)
        _kernels.setdefault(op.name, {})[f"{algorithm}_{backend}"] = made
        _generation += 1
        return launch

    return decorate


def declare(op: Op) -> None:
    """Make an op known by its name."""
    _ops[op.name] = op


def declared() -> dict[str, Op]:
    """All declared ops by name."""
    return dict(_ops)


def generation() -> int:
    """A number that changes whenever a cached decision might."""
    return _generation


def use(backend: str | None = None, **algorithms: str) -> None:
    """Choose the backend (`"auto"`, `"numpy"`, `"njit"`, …) and, by op name, the algorithm for all later calls.

    >>> import gpucnn
    >>> gpucnn.use("numpy", conv2d="reference")
    >>> gpucnn.use("auto")
    """
    global _chosen, _generation
    if backend is not None:
        if backend != "auto" and backend not in BACKENDS:
            raise ArgumentError(f"backend={backend!r} is unknown: use one of auto, {_list(BACKENDS)}")
        if backend in BACKENDS and BACKENDS[backend] == "gpu":
            from . import device

            device.require_gpu(f"backend={backend!r}")
        _chosen = _AUTO if backend == "auto" else (backend,)
        _algorithms.clear()
    for name in algorithms:
        if name not in _ops:
            raise ArgumentError(f"there is no op {name!r}: algorithms can be chosen for {_list(_ops)}")
    _algorithms.update(algorithms)
    _generation += 1


@contextmanager
def using(backend: str | None = None, **algorithms: str) -> Iterator[None]:
    """`use(...)` for the body of a with statement."""
    global _chosen, _generation
    before = _chosen, dict(_algorithms)
    try:
        use(backend, **algorithms)
        yield
    finally:
        _chosen = before[0]
        _algorithms.clear()
        _algorithms.update(before[1])
        _generation += 1


def backend() -> str:
    """The backend in use; for `"auto"` on the CPU, `"njit"`."""
    return _chosen[0]


def asked() -> dict[str, str]:
    """The algorithms chosen by `use`, by op name."""
    return dict(_algorithms)


def find(op: Op, operands: tuple[Any, ...], params: dict[str, Any], algorithm: str | None = None) -> Kernel | None:
    """The kernel that serves this call, or None for the NumPy body. The call's own `algorithm` is the strongest choice,
    then `use(...)`, then the first of `op.prefer` that is registered and supports the call."""
    asked = algorithm or _algorithms.get(op.name)
    if asked == "reference":
        return None
    known = kernels(op, _chosen)
    order = [asked] if asked else list(op.prefer)
    for name in order:
        for backend in _chosen:
            found = known.get(f"{name}_{backend}")
            if found and (found.supports is None or found.supports(*operands, **params)):
                return found
    if asked or ("numpy" not in _chosen and "njit" not in _chosen):
        shapes = ", ".join("None" if s is None else str(s.shape) for s in operands)
        registered = sorted(k.removesuffix(f"_{b}") for k in known for b in _chosen if k.endswith(f"_{b}"))
        raise KernelError(
            f"{op.name}: no {'/'.join(_chosen)} kernel for this call. Asked for {asked or 'auto'}; registered: "
            f"{_list([*registered, 'reference'])}; shapes {shapes}, {params}"
        )
    return None


def kernels(op: Op, backends: tuple[str, ...] = tuple(BACKENDS)) -> dict[str, Kernel]:
    """The registered kernels of one op by `algorithm_backend`, after importing the files of its family."""
    for backend in backends:
        if (op.family, backend) not in _imported:
            _imported.add((op.family, backend))
            folder = folder_of_kernels() / op.family
            if backend == "njit":
                forget_outdated_code()
            for path in sorted(folder.glob(f"*_{backend}.py")):
                importlib.import_module(f"gpucnn.kernels.{op.family}.{path.stem}")
    suffixes = tuple(f"_{b}" for b in backends)
    return {key: k for key, k in _kernels.get(op.name, {}).items() if key.endswith(suffixes)}


@cache
def forget_outdated_code() -> None:
    """Drop what Numba compiled before the shared code in `kernels/include` was last edited.

    Numba's cache on disk looks at the file of a function alone, so it would run the old code of the functions inlined.
    """
    folder = folder_of_kernels()
    edited = max((path.stat().st_mtime for path in (folder / "include").glob("*.py")), default=0.0)
    elsewhere = os.environ.get("NUMBA_CACHE_DIR")
    for index in Path(elsewhere or folder).rglob("*.nbi"):
        with suppress(OSError):  # another process may be doing the same, or the folder is read-only
            if index.stat().st_mtime < edited:
                index.unlink()


def load(path: str | Path) -> list[Kernel]:
    """Import a user's own kernel file; returns the kernels that it registered."""
    path = Path(path)
    before = {id(k) for group in _kernels.values() for k in group.values()}
    spec = importlib.util.spec_from_file_location(f"gpucnn_user_kernels.{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise KernelError(f"{path} is not a Python file with kernels: give the path of a .py file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = [k for group in _kernels.values() for k in group.values() if id(k) not in before]
    if not made:
        raise KernelError(
            f"{path} registered no kernel: decorate a function with @gpucnn.kernel(op, algorithm, backend)"
        )
    return made


def folder_of_kernels() -> Path:
    """The folder `kernels/`, in the installed package or beside it in a checkout, importable as `gpucnn.kernels`."""
    if "gpucnn.kernels" not in sys.modules:
        here = Path(__file__).resolve().parent
        for folder in (here / "kernels", here.parent / "kernels"):
            if (folder / "__init__.py").is_file():
                spec = importlib.util.spec_from_file_location(
                    "gpucnn.kernels", folder / "__init__.py", submodule_search_locations=[str(folder)]
                )
                assert spec is not None and spec.loader is not None
                module = importlib.util.module_from_spec(spec)
                sys.modules["gpucnn.kernels"] = module
                spec.loader.exec_module(module)
                break
        else:
            raise KernelError(f"the folder kernels/ is neither in nor beside {here}: reinstall gpucnn")
    return Path(next(iter(sys.modules["gpucnn.kernels"].__path__)))


def _list(names: Any) -> str:
    return ", ".join(names)
