"""Layers that move or pad values and compute nothing: Flatten, Reshape, Permute, ZeroPadding."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from ..arguments import channels_last, is_count
from ..errors import ArgumentError, ShapeError
from ..ops.reshaping import crop, pad, transpose
from ..ops.window import Sliding
from .layer import Backward, Layer, Shape


class _Viewed(Layer, abstract=True):
    """The same values in the same order, read under another shape."""

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward), both without a copy."""
        shape = x.shape
        y = x.reshape(self.compute_output_shape(shape))
        return y, lambda dy, need_dx=True: dy.reshape(shape) if need_dx else None


class Flatten(_Viewed):
    """Make each input one row of values: (N, …) → (N, product of the other extents).

    data_format  None or "channels_last"

    Values keep their order: rows, columns, channels, the last axis fastest. Also takes the
    arguments of `Layer`.

    >>> from gpucnn import Input, Sequential, layers
    >>> Sequential([Input((28, 28, 1)), layers.Flatten()]).output_shape
    (None, 784)
    """

    def __init__(self, data_format: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        channels_last("Flatten", data_format)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, product of the other extents)."""
        return (input_shape[0], math.prod(input_shape[1:]))


class Reshape(_Viewed):
    """Read the values of each input under another shape: (N, …) → (N, *target_shape).

    target_shape  extents without the batch axis; one of them may be -1, which means what is left

    Values keep their order, the last axis fastest. Also takes the arguments of `Layer`. Raises
    `ArgumentError` for extents that are not positive, `ShapeError` if the number of values differs.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layers.Reshape((2, -1))(np.array([[1, 2, 3, 4]])).tolist()
    [[[1.0, 2.0], [3.0, 4.0]]]
    """

    def __init__(self, target_shape: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        extents = tuple(target_shape) if isinstance(target_shape, (tuple, list)) else (target_shape,)
        if (
            not extents
            or not all(is_count(e) or (type(e) is int and e == -1) for e in extents)
            or extents.count(-1) > 1
        ):
            raise ArgumentError(
                f"Reshape(target_shape={target_shape!r}): give extents without the batch axis, at most one of them -1"
            )
        self.target_shape = tuple(map(int, extents))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, *target_shape), with the extent that replaces -1."""
        size, fixed = math.prod(input_shape[1:]), math.prod(e for e in self.target_shape if e != -1)
        if size % fixed or (-1 not in self.target_shape and size != fixed):
            raise ShapeError(
                f"{self.name}: {size} values of input {input_shape} do not fit into target_shape {self.target_shape}"
            )
        return (input_shape[0], *(size // fixed if e == -1 else e for e in self.target_shape))


class Permute(Layer):
    """Put the axes of each input into another order: y.shape[i] = x.shape[dims[i - 1]].

    dims  each axis after the batch axis once, counted from 1: (2, 1) turns (N, A, B) into (N, B, A)

    Also takes the arguments of `Layer`. Raises `ArgumentError` if dims does not name each axis
    once, `ShapeError` for inputs with another number of axes.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layers.Permute((2, 1))(np.array([[[1, 2, 3], [4, 5, 6]]])).tolist()
    [[[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]]
    """

    def __init__(self, dims: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if (
            not isinstance(dims, (tuple, list))
            or not dims
            or not all(map(is_count, dims))
            or sorted(dims) != [*range(1, len(dims) + 1)]
        ):
            raise ArgumentError(f"Permute(dims={dims!r}): name each axis after the batch axis once, counted from 1")
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

    def __init__(self, padding: Any, data_format: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        channels_last(type(self).__name__, data_format)
        self.padding = pairs_of(type(self).__name__, "padding", padding, self.rank)
        self.ndim = self.rank + 2

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, longer …, channels)."""
        grown = (size + sum(pair) for size, pair in zip(input_shape[1:-1], self.padding, strict=True))
        return (input_shape[0], *grown, input_shape[-1])

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward)."""
        padding = ((0, 0), *self.padding, (0, 0))
        return pad(x, padding=padding), lambda dy, need_dx=True: crop(dy, padding=padding) if need_dx else None

    def sliding(self, input_shape: Shape) -> tuple[Sliding, ...]:
        """A window of one cell along the longer axes."""
        return tuple(Sliding(padding=pair) for pair in self.padding)


def pairs_of(owner: str, name: str, value: Any, rank: int) -> tuple[tuple[int, int], ...]:
    """(before, after) for each axis, from one number for all, or a number or pair for each."""
    each = value if rank > 1 and isinstance(value, (tuple, list)) else (value,) * rank
    pairs = tuple(tuple(axis) if isinstance(axis, (tuple, list)) else (axis, axis) for axis in each)
    counts = [n for pair in pairs for n in pair]
    whole = all(is_count(n) or (type(n) is int and n == 0) for n in counts)
    if len(pairs) != rank or any(len(pair) != 2 for pair in pairs) or not whole:
        form = "a pair (before, after)" if rank == 1 else f"for each of {rank} axes a number or a pair"
        raise ArgumentError(f"{owner}({name}={value!r}): give a number of cells, or {form}")
    return tuple((int(before), int(after)) for before, after in pairs)


class ZeroPadding1D(ZeroPadding):
    """Add zeros before and after sequences: (N, W, C) → (N, before + W + after, C).

    padding      steps on each side, or (before, after)
    data_format  None or "channels_last"

    Also takes the arguments of `Layer`. Raises `ArgumentError` for negative numbers.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layers.ZeroPadding1D((2, 1))(np.array([[[3], [4]]])).ravel().tolist()
    [0.0, 0.0, 3.0, 4.0, 0.0]
    """

    rank = 1

    def __init__(self, padding: Any = 1, data_format: Any = None, **kwargs: Any) -> None:
        super().__init__(padding, data_format, **kwargs)


class ZeroPadding2D(ZeroPadding):
    """Add zeros around images: (N, H, W, C) → (N, top + H + bottom, left + W + right, C).

    padding      pixels on every side, (rows, columns), or ((top, bottom), (left, right))
    data_format  None or "channels_last"

    Also takes the arguments of `Layer`. Raises `ArgumentError` for negative numbers.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.ones((1, 1, 2, 1))
    >>> layers.ZeroPadding2D(1)(x)[0, :, :, 0].tolist()
    [[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    >>> layers.ZeroPadding2D(((0, 1), (2, 0)))(x).shape
    (1, 2, 4, 1)
    """

    rank = 2

    def __init__(self, padding: Any = (1, 1), data_format: Any = None, **kwargs: Any) -> None:
        super().__init__(padding, data_format, **kwargs)


class ZeroPadding3D(ZeroPadding):
    """Add zeros around volumes: (N, D, H, W, C) → (N, D + …, H + …, W + …, C).

    padding      cells on every side, or for planes, rows and columns each a number or a pair
    data_format  None or "channels_last"

    Also takes the arguments of `Layer`. Raises `ArgumentError` for negative numbers.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layers.ZeroPadding3D((1, 0, (0, 2)))(np.ones((1, 2, 3, 4, 1))).shape
    (1, 4, 3, 6, 1)
    """

    rank = 3

    def __init__(self, padding: Any = ((1, 1), (1, 1), (1, 1)), data_format: Any = None, **kwargs: Any) -> None:
        super().__init__(padding, data_format, **kwargs)
