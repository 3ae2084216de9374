"""Which backends, and which algorithm of an op, the user has chosen. Ops are only names here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..devices import choose
from ..devices.cpu import CPU
from ..devices.scoped import Scoped
from ..errors import ArgumentError, KernelError, did_you_mean
from . import precision

BACKENDS = {"numpy": "cpu", "njit": "cpu", "numba": "gpu", "cuda": "gpu"}
"""Each backend and the kind of device on which its kernels run."""

TUNING = ("off", "fast", "full")
"""How `use` takes `tune`: whether kernels are chosen by measurement, among those that "auto" may choose
(`fast`) or all that serve a call (`full`)."""

_op_names: dict[str, None] = {}


@dataclass(frozen=True)
class Choice:
    """What `use` has chosen: backends in the order in which they are tried, algorithms by op
    name, and whether the others are measured."""

    backends: tuple[str, ...]
    algorithms: tuple[tuple[str, str], ...] = ()
    tune: str = "off"


def _cpu() -> str:
    return "cpu"


automatic_device: Callable[[], str] = _cpu
"""The device of `use("auto")`. The package replaces it by one that takes a GPU that has passed its
check, which trains a model and so cannot be imported here."""


def _as_before(op: Any, kernel: Any, arrays: tuple, params: dict) -> Any:
    return kernel


tuner: Callable[[Any, Any, tuple, dict], Any] = _as_before
"""From an op, the kernel that would serve a call, and the call: the kernel that does so fastest. The package
replaces it by one that measures."""

_choice = Scoped("choice", Choice(CPU.backends))
_registrations = 0


def declare(op_name: str) -> None:
    """Add a name for which an algorithm can be chosen."""
    _op_names[op_name] = None


def registrations() -> int:
    """How often the set of registered kernels has changed."""
    return _registrations


def changed() -> None:
    """Announce that the set of registered kernels has changed."""
    global _registrations
    _registrations += 1


def decides() -> tuple[int, bool, int | None, Choice, str]:
    """All that decides which kernel serves a call of given shapes, as a key for caches."""
    device = choose.current()
    return _registrations, device is CPU, device.cc, _choice.get(), precision.in_force()


def backends() -> tuple[str, ...]:
    """The backends that serve calls, in the order in which they are tried."""
    return _choice.get().backends


def backend() -> str:
    """The backend in use; for `"auto"` the first of its device, such as `"njit"` on the CPU."""
    return _choice.get().backends[0]


def algorithms() -> dict[str, str]:
    """The algorithms chosen by `use`, by op name."""
    return dict(_choice.get().algorithms)


def tuning() -> str:
    """Whether kernels are chosen by measurement where `algorithms` has none."""
    return _choice.get().tune


def use(backend: str | None = None, *, device: str | None = None, tune: str | None = None, **algorithms: str) -> None:
    """Choose the backend (`"auto"`, `"numpy"`, `"njit"`, `"cuda"`, `"numba"`), the device on which
    arrays live and kernels run (`"cpu"`, `"gpu"`, `"gpu:N"`, `"emulator"`, `"simulator"`) and, by
    op name, the algorithm for all later calls. A backend without a device keeps the emulator or
    simulator if that is in use and runs it; otherwise `"cuda"` and `"numba"` select the GPU, and
    `"numpy"` and `"njit"` the CPU.

    `"auto"` without a device takes the first GPU, else the CPU. At the first time on a machine, the
    GPU is checked for a few seconds; one that fails is named in a warning, and the CPU is used.

    tune    "fast" or "full": where several kernels serve a call, they are checked and timed at its first
            time, and the fastest computes it from then on, in later processes too; "off" or another
            backend ends that. A training is repeated to the bit as long as the cache keeps the choices.

    The choice holds in all threads, except inside a `using` block, where it holds until its end and
    in its thread alone.

    >>> import gpucnn
    >>> gpucnn.use("numpy", conv2d="reference")
    >>> gpucnn.use("auto")
    """
    for name in algorithms:
        if name not in _op_names:
            hint = did_you_mean(name, _op_names) or f"algorithms can be chosen for {', '.join(_op_names)}"
            raise ArgumentError(f"{name!r} is not an op: {hint}")
    if tune not in (None, *TUNING):
        raise ArgumentError(f"tune={tune!r} is unknown: use one of {', '.join(TUNING)}")
    before = _choice.get()
    if backend is not None or device is not None:
        before = Choice(_with_device(backend or "auto", device))
    where = choose.selected().name
    if tune not in (None, "off") and (where in ("emulator", "simulator") or choose.is_emulated(where)):
        raise ArgumentError(f"tune={tune!r}: times on {choose.described(where)} mean nothing: use tune='off'")
    chosen = tuple((dict(before.algorithms) | algorithms).items())
    _choice.set(Choice(before.backends, chosen, tune or before.tune))


@contextmanager
def using(
    backend: str | None = None, *, device: str | None = None, tune: str | None = None, **algorithms: str
) -> Iterator[None]:
    """`use(...)` for the body of a with statement, in this thread (or asyncio task) alone."""
    with choose.using(), _choice.scope():
        use(backend, device=device, tune=tune, **algorithms)
        yield


OLDEST_FACTORS = 80
"""The compute capability from which on tensor cores multiply TF32 and bfloat16."""


@contextmanager
def computing(kind: str) -> Iterator[None]:
    """Products in the body of the with statement, in this thread, have the precision `kind`. Raises
    `KernelError` if the device or the backends in use cannot compute it."""
    require_precision(kind)
    with precision.scope(kind):
        yield


def require_precision(kind: str) -> None:
    """Raise `KernelError` unless the device and the backends in use compute products in this precision."""
    cc = choose.current().cc
    if kind == precision.FLOAT32:
        return
    if not {"numpy", "cuda"} & set(backends()):
        reason = f"the {backend()} kernels compute products in float32 alone"
    elif cc is not None and cc < OLDEST_FACTORS:
        reason = f"tensor cores multiply {kind} from compute capability 8.0 on, and this GPU has {cc / 10}"
    else:
        return
    raise KernelError(
        f"precision={kind!r}: {reason}: use precision='float32', backend='cuda' on a GPU of 8.0 or newer, or "
        "device='cpu' with backend='auto' or 'numpy'"
    )


def _with_device(backend: str, device: str | None) -> tuple[str, ...]:
    """Select the device; returns the backends that serve calls on it."""
    if backend != "auto" and backend not in BACKENDS:
        hint = did_you_mean(backend, BACKENDS) or f"use one of auto, {', '.join(BACKENDS)}"
        raise ArgumentError(f"backend={backend!r} is unknown: {hint}")
    if backend == "auto" and device in (None, "auto"):
        device = automatic_device()
    elif device in (None, "auto"):
        current = choose.selected()
        fits = current.name != "cpu" and backend in current.backends
        device = current.name if fits else BACKENDS.get(backend, "cpu")
    before = choose.selected().name
    target = choose.use(device or "cpu")
    if backend == "auto":
        return target.backends
    if backend not in target.backends:
        choose.use(before)
        runs = ", ".join(target.backends)
        raise ArgumentError(f"backend={backend!r} does not run on device={device!r}, which runs {runs}")
    return (backend,)
