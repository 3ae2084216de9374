"""A description of a call of an op: shapes and types of its arrays, and how to draw their
values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray
"""An operand or a result of an op's body."""


class Spec(NamedTuple):
    """Shape and dtype of one array."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def like(self, *shape: int) -> Spec:
        """The same dtype with another shape."""
        return Spec(shape, self.dtype)


@dataclass(frozen=True)
class Draw:
    """How to draw one operand of a case: `real`, `integers`, `distinct` or `among`."""

    shape: tuple[int, ...]
    kind: str = "real"
    low: float = -1.0
    high: float = 1.0
    dtype: str = "float32"
    values: tuple[float, ...] = ()

    def sample(self, rng: np.random.Generator, exact: bool = False) -> np.ndarray:
        """One array. With `exact`, real values become integers of -2 … 2, so that sums of products
        are exact."""
        if self.kind == "integers":
            return rng.integers(int(self.low), int(self.high), self.shape).astype(self.dtype)
        if self.kind == "among":
            return rng.choice(self.values, self.shape).astype(self.dtype)
        if self.kind == "distinct":
            size = int(np.prod(self.shape))
            return (rng.permutation(size).reshape(self.shape) - size // 2).astype(self.dtype)
        if exact:
            low, high = max(-2, int(np.floor(self.low))), min(2, int(np.ceil(self.high)))
            return rng.integers(low, high + 1, self.shape).astype(self.dtype)
        return rng.uniform(self.low, self.high, self.shape).astype(self.dtype)


def real(*shape: int, low: float = -1.0, high: float = 1.0, dtype: str = "float32") -> Draw:
    """Uniform values of [low, high)."""
    return Draw(shape, "real", low, high, dtype)


def integers(*shape: int, low: int = 0, high: int, dtype: str = "int32") -> Draw:
    """Integers of [low, high), such as class numbers."""
    return Draw(shape, "integers", low, high, dtype)


def distinct(*shape: int, dtype: str = "float32") -> Draw:
    """A shuffle of distinct integers, so that no maximum ties."""
    return Draw(shape, "distinct", dtype=dtype)


def among(*shape: int, values: tuple[float, ...], dtype: str = "float32") -> Draw:
    """Each element is one of these: for NaN, infinities, zeros with a sign, and the kinks of a
    function."""
    return Draw(shape, "among", dtype=dtype, values=values)


@dataclass(frozen=True)
class Given(Draw):
    """These values, of an array of integers."""

    array: Array | None = None

    @classmethod
    def of(cls, array: Array) -> Given:
        """Those of this array on the host."""
        return cls(array.shape, dtype=array.dtype.name, array=array)

    def sample(self, rng: np.random.Generator, exact: bool = False) -> np.ndarray:
        """The values."""
        assert self.array is not None
        return self.array


@dataclass(frozen=True)
class Case:
    """A named call of an op: how to draw each operand (None for an absent one), and the parameters.

    `bench=True` marks a large case that is timed and not tested.
    """

    name: str
    operands: tuple[Draw | None, ...]
    params: dict[str, Any] = field(default_factory=dict)
    bench: bool = False

    @property
    def specs(self) -> tuple[Spec | None, ...]:
        """Shape and dtype of each operand."""
        return tuple(None if d is None else Spec(d.shape, np.dtype(d.dtype)) for d in self.operands)
