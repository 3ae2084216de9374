"""Which backends, and which algorithm of an op, the user has chosen. Ops are only names here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..devices import choose
from ..devices.cpu import CPU
from ..errors import ArgumentError

BACKENDS = {"numpy": "cpu", "njit": "cpu", "numba": "gpu", "cuda": "gpu"}
"""Each backend and the kind of device on which its kernels run."""

_op_names: dict[str, None] = {}
_chosen: tuple[str, ...] = CPU.backends
_algorithms: dict[str, str] = {}
_generation = 0


def declare(op_name: str) -> None:
    """Add a name for which an algorithm can be chosen."""
    _op_names[op_name] = None


def generation() -> int:
    """A number that changes whenever a cached decision might."""
    return _generation


def changed() -> None:
    """Announce that cached decisions may be out of date."""
    global _generation
    _generation += 1


def backends() -> tuple[str, ...]:
    """The backends that serve calls, in the order in which they are tried."""
    return _chosen


def backend() -> str:
    """The backend in use; for `"auto"` the first of its device, such as `"njit"` on the CPU."""
    return _chosen[0]


def algorithms() -> dict[str, str]:
    """The algorithms chosen by `use`, by op name."""
    return dict(_algorithms)


def use(backend: str | None = None, *, device: str | None = None, **algorithms: str) -> None:
    """Choose the backend (`"auto"`, `"numpy"`, `"njit"`, `"cuda"`, `"numba"`), the device on which
    arrays live and kernels run (`"cpu"`, `"gpu"`, `"gpu:N"`, `"emulator"`, `"simulator"`) and, by
    op name, the algorithm for all later calls. A backend without a device keeps the emulator or
    simulator if that is in use and runs it; otherwise `"cuda"` and `"numba"` select the GPU, and
    the others the CPU.

    >>> import gpucnn
    >>> gpucnn.use("numpy", conv2d="reference")
    >>> gpucnn.use("auto")
    """
    global _chosen, _generation
    for name in algorithms:
        if name not in _op_names:
            raise ArgumentError(f"{name!r} is not an op: algorithms can be chosen for {', '.join(_op_names)}")
    if backend is not None or device is not None:
        _chosen = _with_device(backend or "auto", device)
        _algorithms.clear()
    _algorithms.update(algorithms)
    _generation += 1


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


def _with_device(backend: str, device: str | None) -> tuple[str, ...]:
    """Select the device; returns the backends that serve calls on it."""
    if backend != "auto" and backend not in BACKENDS:
        raise ArgumentError(f"backend={backend!r} is unknown: use one of auto, {', '.join(BACKENDS)}")
    if device in (None, "auto"):
        current = choose.current()
        fits = current.name != "cpu" and backend in current.backends
        device = current.name if fits else BACKENDS.get(backend, "cpu")
    before = choose.current().name
    target = choose.use(device or "cpu")
    if backend == "auto":
        return target.backends
    if backend not in target.backends:
        choose.use(before)
        runs = ", ".join(target.backends)
        raise ArgumentError(f"backend={backend!r} does not run on device={device!r}, which runs {runs}")
    return (backend,)
