"""Which device is in use: one at a time, chosen by name."""

from __future__ import annotations

import re
from functools import cache

from ..errors import ArgumentError, KernelError
from .cpu import CPU
from .device import Device

_current: Device = CPU


def current() -> Device:
    """The device in use."""
    return _current


def use(name: str) -> Device:
    """Make a device the one in use: `cpu`, `gpu`, `gpu:N`, `emulator` or `simulator`. Existing
    arrays stay where they are. Users call `gpucnn.use(device=...)`, which chooses backends as
    well."""
    global _current
    _current = _by_name(select(name))
    _current.activate()
    return _current


def return_to(device: Device) -> None:
    """Make a device the one in use again."""
    global _current
    _current = device
    _current.activate()


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
    raise ArgumentError(f"device={name!r} is unknown: use auto, cpu, gpu, gpu:N, emulator or simulator")


def gpu_state() -> tuple[int, str]:
    """How many NVIDIA GPUs CuPy can reach, and their names, or why there are none."""
    try:
        import cupy
    except Exception as error:
        return 0, f"CuPy cannot be imported ({type(error).__name__}: {error})"
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
        names = [cupy.cuda.runtime.getDeviceProperties(i)["name"].decode() for i in range(count)]
    except Exception as error:
        reason = str(error).splitlines()[0]
        return 0, "no NVIDIA driver found" if "InsufficientDriver" in reason else reason
    return count, ", ".join(names)


def require_gpu(request: str, number: int = 0) -> None:
    """Raise `KernelError` if that GPU cannot be used, instead of silently taking the CPU."""
    count, reason = gpu_state()
    if not count:
        raise KernelError(
            f"{request} needs an NVIDIA GPU: {reason}; use the CPU, try device='emulator', or run `gpucnn doctor`"
        )
    if number >= count:
        raise KernelError(f"{request}: there are {count} GPUs here ({reason}), numbered from 0")


def _by_name(name: str) -> Device:
    if name == _current.name:
        return _current
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

    return Gpu(number)
