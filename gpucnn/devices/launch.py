"""Launching a kernel of either language, and how many blocks a launch needs.

GPUCNN_DEBUG=2 prints a line for each launch on standard error; 4 also prints each kernel's source
before its first launch.
"""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError
from . import ahead, choose
from .launchable import Geometry


class GpuFunction(ABC):
    """One kernel, launched as `function[grid, block](*arguments)` or `function[grid, block,
    shared_bytes](*arguments)`.

    grid, block   a number, or up to three (x first)
    shared_bytes  dynamic shared memory of a block
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self._shown = False

    def __getitem__(self, configuration: tuple) -> Any:
        grid, block, *shared = configuration
        geometry = Geometry(_extents(grid), _extents(block), *map(int, shared))

        def launch(*arguments: Any) -> None:
            converted = self.convert(arguments)
            self._require_owned(converted)
            if ahead.thread.compile is not None:
                return self.rehearse(ahead.thread.compile)
            level = debug_level()
            if level < 2:
                return self.run(geometry, converted)
            if level >= 4 and not self._shown:
                self._shown = True
                print(self.source(), file=sys.stderr)
            choose.current().synchronize()
            start = time.perf_counter()
            self.run(geometry, converted)
            choose.current().synchronize()
            return print(self._line(geometry, converted, time.perf_counter() - start), file=sys.stderr)

        return launch

    @property
    def id(self) -> str:
        """The id of the kernel file, such as `conv2d/direct_cuda`."""
        return f"{self.path.parent.name}/{self.path.stem}"

    @abstractmethod
    def source(self) -> str:
        """The text of the kernel."""

    @abstractmethod
    def convert(self, arguments: tuple) -> list[Any]:
        """The arguments as the kernel takes them: Python numbers become the kernel's types. Raises
        `ArgumentError`."""

    @abstractmethod
    def parameter_names(self) -> list[str]:
        """The kernel's parameters, in order."""

    def _require_owned(self, arguments: list[Any]) -> None:
        """Raise `ArgumentError` for an array that does not lie on the device in use."""
        device = choose.current()
        for place, argument in enumerate(arguments):
            if not isinstance(argument, np.generic) and not device.owns(argument):
                host = isinstance(argument, np.ndarray)
                raise ArgumentError(
                    f"{self.name}: {self.parameter_names()[place]} is an array of "
                    f"{'the host' if host else 'another device'} ({type(argument).__name__}), and the device in use is "
                    f"{device.name}: copy it there with gpucnn.devices.storage.{'put' if host else 'own'}"
                )

    @abstractmethod
    def run(self, geometry: Geometry, arguments: list[Any]) -> None:
        """Launch on the device in use."""

    def rehearse(self, compile: Callable[[Any], None]) -> None:  # noqa: B027
        """What is done instead of a launch when launches are rehearsed."""

    def _line(self, geometry: Geometry, arguments: list[Any], seconds: float) -> str:
        grid, block, shared = geometry
        shapes = " ".join(f"{a.dtype}{list(a.shape)}" for a in arguments if getattr(a, "shape", ()))
        where = choose.current().name
        size = f"grid {'×'.join(map(str, grid))}, block {'×'.join(map(str, block))}, {shared} bytes shared"
        return f"{self.id} {self.name}: {shapes}, {size}, {seconds * 1e3:.3f} ms on {where}"


def debug_level() -> int:
    """The number in GPUCNN_DEBUG; 0 if it is not set."""
    level = os.environ.get("GPUCNN_DEBUG")
    return int(level) if level and level.isdigit() else 0


def ceil_div(count: int, size: int) -> int:
    """How many pieces of `size` cover `count`."""
    return -(-count // size)


def blocks_1d(count: int, threads: int) -> tuple[int]:
    """A grid with one thread for each of `count` elements."""
    return (ceil_div(count, threads),)


def _extents(value: Any) -> tuple[int, ...]:
    return (int(value),) if isinstance(value, (int, np.integer)) else tuple(map(int, value))
