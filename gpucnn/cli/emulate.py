"""The command emulate-gpu: another command, or a script, on an emulated GPU."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

import click

from ..devices.emulator import driver
from ..errors import ArgumentError, did_you_mean
from .group import main, options

_UNITS = {"": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@options(
    click.option(
        "--check", is_flag=True, help="Check each kernel (bounds, races, uninitialised reads) and the order of streams."
    ),
    click.option(
        "--lazy",
        metavar="SEED",
        type=click.IntRange(0, 2**32 - 1),
        help="Do work only when it is waited for; with a SEED above 0 some sooner, in a random order.",
    ),
    click.option("--card", metavar="NAME", default="h100", help="h100, rtx3060, t4 or gtx1660.  [default: h100]"),
    click.option("--memory", metavar="SIZE", help="Memory of the GPU, such as 512MiB.  [default: as the card]"),
    click.option("--devices", metavar="N", type=click.IntRange(1, 8), default=1, show_default=True, help="GPUs."),
    click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="COMMAND..."),
)
def emulate_gpu(
    check: bool, lazy: int | None, card: str, memory: str | None, devices: int, command: Sequence[str]
) -> None:
    """Run COMMAND on an emulated GPU, without a GPU: a command of gpucnn, or a Python script.

    \b
    gpucnn emulate-gpu train --model slides --epochs 1 --backend cuda
    gpucnn emulate-gpu --check my_cupy_script.py
    gpucnn emulate-gpu --lazy 7 python -m pytest tests

    CuPy and numba-cuda run as they are, on a CUDA driver of gpucnn's that keeps arrays in the host's
    memory and runs kernels by the emulator. A fault is named on standard error. Times mean nothing.
    """
    session = driver.Session(card, check, lazy, None if memory is None else _bytes(memory), devices)
    arguments = _python(command)
    environment = driver.environment(session)
    sys.stdout.flush()
    os.execve(sys.executable, arguments, environment)


def _python(command: Sequence[str]) -> list[str]:
    """What Python is to run. Raises `ArgumentError`."""
    first = command[0] if command else ""
    if first in ("python", "python3"):
        return [sys.executable, *command[1:]]
    if first.endswith(".py"):
        return [sys.executable, *command]
    if first not in main.commands or first == "emulate-gpu":
        hint = did_you_mean(first, main.commands) or "give a command of gpucnn, a .py file, or python and its arguments"
        raise ArgumentError(f"emulate-gpu {first}: {hint}" if first else f"emulate-gpu: {hint}")
    return [sys.executable, "-m", "gpucnn", *command]


def _bytes(size: str) -> int:
    match = re.fullmatch(r"(\d+)\s*([KMG]iB)?", size, re.IGNORECASE)
    if not match:
        raise ArgumentError(f"--memory {size}: give a number of bytes, or such as 512MiB or 2GiB")
    return int(match[1]) * _UNITS[(match[2] or "").upper()]
