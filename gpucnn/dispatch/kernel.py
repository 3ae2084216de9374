"""What a kernel is: one implementation of one op."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CompileError, in_one_line
from . import choice, precision
from .case import Spec

if TYPE_CHECKING:
    from .op import Op

_NOT_ON_GPU = ("float16", "float64")


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
    pays: Callable[..., bool] | None = None
    file: Path = Path()
    """The kernel file, whose name is the last part of the id."""
    precisions: tuple[str, ...] = (precision.FLOAT32,)

    def serves(self, operands: Sequence[Spec | None], params: dict[str, Any]) -> bool:
        """Whether the kernel takes this call. Kernels for GPUs compute in float32."""
        if choice.BACKENDS[self.backend] == "gpu" and any(
            s is not None and s.dtype.name in _NOT_ON_GPU for s in operands
        ):
            return False
        return self.supports is None or self.supports(*operands, **params)

    def is_worthwhile(self, operands: Sequence[Spec | None], params: dict[str, Any]) -> bool:
        """Whether "auto" chooses the kernel for a call that it serves."""
        return self.pays is None or self.pays(*operands, **params)

    def run(self, *arrays: Any, **params: Any) -> None:
        """Launch. Raises `CompileError` for what Numba cannot compile."""
        try:
            self.launch(*arrays, **params)
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "numba":
                raise
            raise CompileError(f"{self.id} cannot be compiled here: {in_one_line(error)}") from error

    def scratch(self, operands: Sequence[Spec | None], params: dict[str, Any]) -> tuple[Spec, ...]:
        """The arrays that the kernel needs as workspace for a call."""
        return as_tuple(self.workspace(*operands, **params)) if self.workspace else ()


def as_tuple(value: Any) -> tuple:
    """The value, or a tuple of it alone."""
    return value if isinstance(value, tuple) and not isinstance(value, Spec) else (value,)
