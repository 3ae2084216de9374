"""Layers that change the shape alone: Flatten, Reshape, Permute and the zero paddings."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..ops.reshaping import crop, pad, transpose
from .arguments import check_data_format
from .layer import Backward, Layer, Shape


class _Viewed(Layer, abstract=True):
    """The same values in the same order, under another shape."""

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward), both without a copy."""
        shape = x.shape
        y = x.reshape(self.compute_output_shape(shape))
        return y, lambda dy, need_dx=True: dy.reshape(shape) if need_dx else None


class Flatten(_Viewed):
    """(batch, …) → (batch, product of the others)."""

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_data_format("Flatten", data_format)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, product of the others)."""
        return (input_shape[0], math.prod(input_shape[1:]))


class Reshape(_Viewed):
    """(batch, …) → (batch, *target_shape); one extent of `target_shape` may be -1."""

    def __init__(self, target_shape: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        given = tuple(target_shape) if isinstance(target_shape, (tuple, list)) else (target_shape,)
        if not all(isinstance(e, (int, np.integer)) and (e > 0 or e == -1) for e in given) or given.count(-1) > 1:
            raise ArgumentError(
                f"Reshape(target_shape={target_shape!r}): give extents without the batch axis, at most one of them -1"
            )
        self.target_shape = tuple(map(int, given))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, *target_shape), the -1 worked out."""
        size, known = math.prod(input_shape[1:]), math.prod(e for e in self.target_shape if e != -1)
        if size % known or (-1 not in self.target_shape and size != known):
            raise ShapeError(
                f"{self.name}: {size} values of input {input_shape} do not fit into target_shape {self.target_shape}"
            )
        return (input_shape[0], *(size // known if e == -1 else e for e in self.target_shape))


class Permute(Layer):
    """The axes in another order: `Permute((2, 1))` swaps the first two after the batch axis, counted from 1."""

    def __init__(self, dims: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(dims, (tuple, list)) or sorted(dims) != list(range(1, len(dims) + 1)):
            raise ArgumentError(f"Permute(dims={dims!r}): name each axis behind the batch axis once, counted from 1")
        self.dims = tuple(map(int, dims))
        self.ndim = len(self.dims) + 1

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The extents in the new order."""
        return (input_shape[0], *(input_shape[axis] for axis in self.dims))

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward)."""
        axes = (0, *self.dims)
        inverse = tuple(axes.index(axis) for axis in range(len(axes)))
        return transpose(x, axes=axes), lambda dy, need_dx=True: transpose(dy, axes=inverse) if need_dx else None


class ZeroPadding(Layer, abstract=True):
    """Zeros before and after `rank` axes."""

    rank: ClassVar[int]

    def __init__(self, padding: Any, data_format: str | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_data_format(type(self).__name__, data_format)
        self.padding = self._pairs(padding)
        self.ndim = self.rank + 2

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, longer …, channels)."""
        grown = (size + sum(pair) for size, pair in zip(input_shape[1:-1], self.padding, strict=True))
        return (input_shape[0], *grown, input_shape[-1])

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward)."""
        padding = ((0, 0), *self.padding, (0, 0))
        return pad(x, padding=padding), lambda dy, need_dx=True: crop(dy, padding=padding) if need_dx else None

    def _pairs(self, padding: Any) -> tuple[tuple[int, int], ...]:
        """(before, after) for each axis, from one number for all, or one number or pair for each."""
        each = padding if self.rank > 1 and isinstance(padding, (tuple, list)) else (padding,) * self.rank
        pairs = tuple(tuple(axis) if isinstance(axis, (tuple, list)) else (axis, axis) for axis in each)
        counts = [n for pair in pairs for n in pair]
        whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 0 for n in counts)
        if len(pairs) != self.rank or any(len(pair) != 2 for pair in pairs) or not whole:
            form = "a pair (before, after)" if self.rank == 1 else f"for each of {self.rank} axes a number or a pair"
            raise ArgumentError(f"{type(self).__name__}(padding={padding!r}): give a number of cells, or {form}")
        return tuple((int(before), int(after)) for before, after in pairs)


class ZeroPadding1D(ZeroPadding):
    """Zeros before and after sequences (batch, steps, channels); `padding` is a number or a pair."""

    rank = 1

    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(padding, data_format, **kwargs)


class ZeroPadding2D(ZeroPadding):
    """Zeros around images (batch, rows, columns, channels): n, (rows, columns), or ((top, bottom), (left, right))."""

    rank = 2

    def __init__(self, padding: Any = (1, 1), data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(padding, data_format, **kwargs)


class ZeroPadding3D(ZeroPadding):
    """Zeros around volumes (batch, planes, rows, columns, channels): n, or a number or a pair for each axis."""

    rank = 3

    def __init__(self, padding: Any = ((1, 1), (1, 1), (1, 1)), data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(padding, data_format, **kwargs)
