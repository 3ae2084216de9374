"""Kernel files register themselves here; an op asks here for the kernel that should serve a call.

A kernel's id is its address: `conv2d/direct_njit` stands in `kernels/conv2d/direct_njit.py`. Files are imported the
first time that an op of their family is called, and only those whose backend can run on the device in use.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import places
from ..devices import choose
from ..devices.cpu import CPU
from ..errors import ArgumentError, KernelError

if TYPE_CHECKING:
    from .op import Op, Spec

BACKENDS = {"numpy": "cpu", "njit": "cpu", "numba": "gpu", "cuda": "gpu"}
"""Each backend and the kind of device on which its kernels run."""

_NOT_ON_GPU = ("float16", "float64")
_ops: dict[str, Op] = {}
_kernels: dict[str, dict[str, Kernel]] = {}
_imported: set[tuple[str, str]] = set()
_chosen: tuple[str, ...] = CPU.backends
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
    file: Path = Path()
    """The kernel file, whose name is the last part of the id."""


def kernel(
    op: Op,
    algorithm: str,
    backend: str,
    *,
    supports: Callable[..., bool] | None = None,
    workspace: Callable[..., tuple[Spec, ...]] | None = None,
    file: str | Path | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register the decorated function as a kernel of `op`.

    The function is called as `launch(*outputs, *operands, *workspace, **params)` and fills the outputs (for an op that
    works in place: `launch(*operands, *workspace, **params)`). Arrays are C-contiguous, non-empty, aligned to 256 bytes
    when the engine allocated them; outputs are uninitialised. An operand that is absent is None.

    supports    takes a `Spec` (or None) for each operand and the parameters; False leaves the call to another kernel.
    workspace   takes the same; returns the `Spec`s of the scratch arrays that the door allocates.
    file        the kernel file, whose name the id carries; by default the one that holds the function. A function that
                registers the kernels of several families passes the `__file__` of the family's file.
    """
    if backend not in BACKENDS:
        raise ArgumentError(f"@kernel({op.name}, {algorithm!r}, {backend!r}): backend must be one of {_list(BACKENDS)}")

    def decorate(launch: Callable[..., None]) -> Callable[..., None]:
        global _generation
        path = Path(file or launch.__code__.co_filename)
        made = Kernel(op, algorithm, backend, f"{op.family}/{path.stem}", launch, supports, workspace, path)
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


def use(backend: str | None = None, *, device: str | None = None, **algorithms: str) -> None:
    """Choose the backend (`"auto"`, `"numpy"`, `"njit"`, `"cuda"`, `"numba"`), the device on which arrays live and
    kernels run (`"cpu"`, `"gpu"`, `"gpu:N"`, `"emulator"`, `"simulator"`) and, by op name, the algorithm for all later
    calls. A backend without a device goes where it can run: a kernel for GPUs needs a GPU unless a device is named.

    >>> import gpucnn
    >>> gpucnn.use("numpy", conv2d="reference")
    >>> gpucnn.use("auto")
    """
    global _chosen, _generation
    for name in algorithms:
        if name not in _ops:
            raise ArgumentError(f"there is no op {name!r}: algorithms can be chosen for {_list(_ops)}")
    if backend is not None or device is not None:
        _chosen = _with_device(backend or "auto", device)
        _algorithms.clear()
    _algorithms.update(algorithms)
    _generation += 1


def _with_device(backend: str, device: str | None) -> tuple[str, ...]:
    """Make the device the one in use; returns the backends that serve calls on it."""
    if backend != "auto" and backend not in BACKENDS:
        raise ArgumentError(f"backend={backend!r} is unknown: use one of auto, {_list(BACKENDS)}")
    if device in (None, "auto"):
        current = choose.current()
        fits = current.name != "cpu" and backend in current.backends
        device = current.name if fits else BACKENDS.get(backend, "cpu")
    before = choose.current().name
    made = choose.use(device or "cpu")
    if backend == "auto":
        return made.backends
    if backend not in made.backends:
        choose.use(before)
        raise ArgumentError(f"backend={backend!r} does not run on device={device!r}, which runs {_list(made.backends)}")
    return (backend,)


@contextmanager
def using(backend: str | None = None, *, device: str | None = None, **algorithms: str) -> Iterator[None]:
    """`use(...)` for the body of a with statement."""
    global _chosen, _generation
    before = _chosen, dict(_algorithms), choose.current()
    try:
        use(backend, device=device, **algorithms)
        yield
    finally:
        _chosen = before[0]
        _algorithms.clear()
        _algorithms.update(before[1])
        choose.return_to(before[2])
        _generation += 1


def backend() -> str:
    """The backend in use; for `"auto"` the first of its device, such as `"njit"` on the CPU."""
    return _chosen[0]


def asked() -> dict[str, str]:
    """The algorithms chosen by `use`, by op name."""
    return dict(_algorithms)


def find(op: Op, operands: tuple[Any, ...], params: dict[str, Any], algorithm: str | None = None) -> Kernel | None:
    """The kernel that serves this call, or None for the NumPy body. The call's own `algorithm` is the strongest choice,
    then `use(...)`, then the first of `op.prefer` that is registered and supports the call. What is chosen for an op
    holds for its gradients too, where they have such a kernel: a kernel of the forward pass alone can train."""
    known = kernels(op, _chosen)
    asked = algorithm or _algorithms.get(op.name)
    forward = op.gradient_of
    if forward is not None:
        asked = asked or _algorithms.get(forward.name)
        if asked and not _has(known, asked) and _has(kernels(forward, _chosen), asked):
            asked = None
    if asked == "reference" and choose.current() is CPU:
        return None
    order = [asked] if asked else list(op.prefer)
    for name in order:
        for backend in _chosen:
            found = known.get(f"{name}_{backend}")
            if found and serves(found, operands, params):
                return found
    if asked or ("numpy" not in _chosen and "njit" not in _chosen):
        shapes = ", ".join("None" if s is None else f"{s.shape} {s.dtype}" for s in operands)
        registered = sorted(k.removesuffix(f"_{b}") for k in known for b in _chosen if k.endswith(f"_{b}"))
        if choose.current() is CPU:
            registered.append("reference")
        raise KernelError(
            f"{op.name}: no {'/'.join(_chosen)} kernel for this call. Asked for {asked or 'auto'}; registered: "
            f"{_list(registered) or 'none'}; shapes {shapes}, {params}"
        )
    return None


def _has(known: dict[str, Kernel], algorithm: str) -> bool:
    return any(kernel.algorithm == algorithm for kernel in known.values())


def serves(kernel: Kernel, operands: tuple[Any, ...], params: dict[str, Any]) -> bool:
    """Whether the kernel takes this call: `operands` are `Spec`s or None. Kernels for GPUs compute in float32."""
    if BACKENDS[kernel.backend] == "gpu" and any(s is not None and s.dtype.name in _NOT_ON_GPU for s in operands):
        return False
    return kernel.supports is None or kernel.supports(*operands, **params)


def kernels(op: Op, backends: tuple[str, ...] = tuple(BACKENDS)) -> dict[str, Kernel]:
    """The registered kernels of one op by `algorithm_backend`, after importing the files of its family."""
    for backend in backends:
        if (op.family, backend) not in _imported:
            folder = places.folder_of_kernels() / op.family
            if backend == "njit":
                places.forget_outdated_code()
            for path in sorted(folder.glob(f"*_{backend}.py")):
                with _whole_file():
                    importlib.import_module(f"gpucnn.kernels.{op.family}.{path.stem}")
            _imported.add((op.family, backend))
    suffixes = tuple(f"_{b}" for b in backends)
    return {key: k for key, k in _kernels.get(op.name, {}).items() if key.endswith(suffixes)}


@contextmanager
def _whole_file() -> Iterator[None]:
    """Take back what a file has registered if it cannot be read to its end (say for Ctrl-C): it will be read again."""
    global _generation
    before = {op: dict(known) for op, known in _kernels.items()}
    try:
        yield
    except BaseException:
        _kernels.clear()
        _kernels.update(before)
        _generation += 1
        raise


def load(path: str | Path) -> list[Kernel]:
    """Import a user's own kernel file; returns the kernels that it registered."""
    path = Path(path)
    before = {id(k) for group in _kernels.values() for k in group.values()}
    spec = importlib.util.spec_from_file_location(f"gpucnn_user_kernels.{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise KernelError(f"{path} is not a Python file with kernels: give the path of a .py file")
    module = importlib.util.module_from_spec(spec)
    with _whole_file():
        spec.loader.exec_module(module)
    made = [k for group in _kernels.values() for k in group.values() if id(k) not in before]
    if not made:
        raise KernelError(
            f"{path} registered no kernel: decorate a function with @gpucnn.kernel(op, algorithm, backend)"
        )
    return made


def _list(names: Any) -> str:
    return ", ".join(names)
