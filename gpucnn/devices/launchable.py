"""What a device needs of a kernel to launch it: `CudaFunction` and `NumbaFunction`, as a device
sees them.

Those two classes launch on the device in use, so the devices cannot import them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..errors import CompileError


class Geometry(NamedTuple):
    """How many threads run a kernel.

    grid, block   blocks of the grid and threads of a block, up to three extents, x first
    shared_bytes  dynamic shared memory of a block
    """

    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared_bytes: int = 0


class CudaLaunchable(Protocol):
    """A CUDA C++ kernel: the entry `name` of the file `path`, compiled with these defines."""

    path: Path
    name: str
    defines: dict[str, Any]

    def __hash__(self) -> int:
        """Kernels are keys of caches."""

    def source(self) -> str:
        """The text of the file, includes expanded."""

    def program(self) -> str:
        """The same without the file's other kernels."""

    def parameters(self) -> list[tuple[str, np.dtype, bool]]:
        """(name, dtype, whether it is a pointer) of each parameter."""

    def refused(self, log: str) -> CompileError:
        """The error for what a compiler prints."""


class NumbaLaunchable(Protocol):
    """A numba.cuda kernel: its Python function, and the PTX that Numba compiles for arguments of
    given types."""

    path: Path
    name: str
    body: Callable[..., None]
    simulated: Any
    """The kernel in Numba's simulator; None outside of it."""

    def __hash__(self) -> int:
        """Kernels are keys of caches."""

    def source(self) -> str:
        """The kernel's Python."""

    def kinds(self, arguments: list[Any]) -> tuple:
        """What decides Numba's types of these arguments, as a key of caches."""

    def signature(self, arguments: list[Any]) -> tuple:
        """Numba's types of these arguments."""

    def ptx(self, signature: tuple, cc: tuple[int, int]) -> tuple[str, str]:
        """(PTX, name of the entry) for these types and this compute capability."""

    def entry_arguments(self, arguments: list[Any]) -> list[Any]:
        """The arguments as the entry takes them."""
