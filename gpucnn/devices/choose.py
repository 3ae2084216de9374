"""Which device is in use: one at a time in each thread, chosen by name."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from ..errors import ArgumentError, KernelError, did_you_mean
from . import forks
from .cpu import CPU
from .device import Device
from .scoped import Scoped

_device: Scoped[Device] = Scoped("device", CPU)
_thread = threading.local()
"""`active` is the device that a thread has activated: CuPy keeps the current GPU for each thread."""

_opened: list[Device] = []
"""The GPUs that this process has opened."""
_lost: list[Device] = []
"""Those that were opened before this process was forked."""
_forked = False

_AFTER_A_FORK = (
    "CUDA was in use before this process was forked, and does not survive a fork: start processes with "
    "multiprocessing.get_context('spawn'), or use the GPU in the children alone"
)


def selected() -> Device:
    """The device in use in this thread, whether it can be reached or not."""
    return _device.get()


def current() -> Device:
    """The device in use in this thread. Raises `KernelError` for a GPU that was opened before this
    process was forked."""
    device = _device.get()
    if device is not CPU:
        _activate(device)
    return device


def use(name: str) -> Device:
    """Make a device the one in use: `cpu`, `gpu`, `gpu:N`, `emulator` or `simulator`. Existing
    arrays stay where they are. Users call `gpucnn.use(device=...)`, which chooses backends as
    well."""
    device = _by_name(select(name))
    _activate(device)
    _device.set(device)
    return device


@contextmanager
def using(device: Device | None = None) -> Iterator[None]:
    """Use a device in the body of a with statement, in this thread alone; None for the one in use.
    Another that is chosen in the body is in use until its end."""
    with _device.scope():
        if device is not None:
            _device.set(device)
        yield


def _activate(device: Device) -> None:
    if getattr(_thread, "active", None) is not device:
        if device in _lost:
            raise KernelError(f"{device.name} cannot be used: {_AFTER_A_FORK}")
        device.activate()
        _thread.active = device


def require_reachable(array: object) -> None:
    """Raise `KernelError` for an array on a GPU that was opened before this process was forked."""
    for device in _lost:
        if device.owns(array):
            raise KernelError(f"an array on {device.name} cannot be read: {_AFTER_A_FORK}")


def select(name: str = "auto") -> str:
    """The name of the device that a run will use: `auto` is `cpu`, and `gpu` is `gpu:0`. Raises if
    the device cannot be used here."""
    if name in ("auto", "cpu"):
        return "cpu"
    if re.fullmatch(r"gpu(:\d+)?", name):
        number = int(name.partition(":")[2] or 0)
        require_gpu(f"device={name!r}", number)
        return f"gpu:{number}"
    if name == "emulator":
        from .emulator import unavailable

        reason = unavailable()
        if reason:
            raise KernelError(f"device='emulator' cannot be used: {reason}")
        return name
    if name == "simulator":
        return name
    hint = did_you_mean(name, ("cpu", "gpu", "emulator", "simulator"))
    raise ArgumentError(f"device={name!r} is unknown: {hint or 'use auto, cpu, gpu, gpu:N, emulator or simulator'}")


def gpu_state() -> tuple[int, str]:
    """How many NVIDIA GPUs CuPy can reach, and their names, or why there are none."""
    if _lost:
        return 0, _AFTER_A_FORK
    try:
        import cupy
    except Exception as error:
        return 0, f"CuPy cannot be imported ({type(error).__name__}: {error})"
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
        names = [cupy.cuda.runtime.getDeviceProperties(i)["name"].decode() for i in range(count)]
    except Exception as error:
        reason = str(error).splitlines()[0]
        if _forked and "InitializationError" in reason:
            return 0, _AFTER_A_FORK
        return 0, "no NVIDIA driver found" if "InsufficientDriver" in reason else reason
    return count, ", ".join(names)


def gpu_capabilities() -> list[int]:
    """The compute capabilities of the GPUs that `gpu_state` counts, 10 times major plus minor."""
    count, _ = gpu_state()
    if not count:
        return []
    import cupy

    return [int(cupy.cuda.Device(number).compute_capability) for number in range(count)]


def is_emulated(name: str) -> bool:
    """Whether the device of this name is a GPU that `gpucnn emulate-gpu` emulates."""
    from .emulator import driver

    return name.startswith("gpu") and driver.running()


def described(name: str) -> str:
    """The name of a device for records: `gpu:0 (emulated)` for a GPU that is emulated."""
    return f"{name} (emulated)" if is_emulated(name) else name


def with_card() -> str:
    """The device in use, a GPU with the name of its card: `gpu:0 (NVIDIA H100)`."""
    name = selected().name
    kind, _, number = name.partition(":")
    if kind != "gpu":
        return name
    import cupy

    return f"{name} ({cupy.cuda.runtime.getDeviceProperties(int(number))['name'].decode()})"


def require_gpu(request: str, number: int = 0) -> None:
    """Raise `KernelError` if that GPU cannot be used, instead of silently taking the CPU."""
    count, reason = gpu_state()
    if not count:
        raise KernelError(
            f"{request} needs an NVIDIA GPU: {reason}; use the CPU, try device='emulator', or run `gpucnn doctor`"
        )
    if number >= count:
        raise KernelError(f"{request}: the GPUs here are numbered 0 … {count - 1} ({reason})")


def _by_name(name: str) -> Device:
    if name == _device.get().name:
        return _device.get()
    if name == "cpu":
        return CPU
    if name == "emulator":
        from .emulator.device import Emulator

        return Emulator()
    if name == "simulator":
        from .simulator import Simulator

        return Simulator()
    return _gpu(int(name.partition(":")[2]))


@cache
def _gpu(number: int) -> Device:
    """One object for each GPU, which keeps its compiled kernels."""
    from .gpu import Gpu

    gpu = Gpu(number)
    _opened.append(gpu)
    return gpu


def _start_anew() -> None:
    """In a forked child: CUDA refuses all that its parent has opened."""
    global _forked, _thread
    _forked, _thread = True, threading.local()
    _lost.extend(_opened)
    _opened.clear()


forks.in_child(_start_anew)
