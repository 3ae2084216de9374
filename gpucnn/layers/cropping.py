"""Layers that cut cells off the ends of axes."""

from __future__ import annotations

from typing import Any, ClassVar

from ..arguments import channels_last
from ..errors import ShapeError
from ..ops.reshaping import crop, pad
from ..ops.window import Sliding
from .layer import Backward, Layer, Shape
from .reshaping import pairs_of


class Cropping(Layer, abstract=True):
    """Cuts cells off before and after `rank` axes."""

    rank: ClassVar[int]

    def __init__(self, cropping: Any, data_format: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        channels_last(type(self).__name__, data_format)
        self.cropping = pairs_of(type(self).__name__, "cropping", cropping, self.rank)
        self.ndim = self.rank + 2

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, shorter …, channels)."""
        left = tuple(size - sum(pair) for size, pair in zip(input_shape[1:-1], self.cropping, strict=True))
        if min(left) < 1:
            raise ShapeError(f"{self.name}: nothing is left of input {input_shape} without {self.cropping}")
        return (input_shape[0], *left, input_shape[-1])

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward)."""
        cells = ((0, 0), *self.cropping, (0, 0))
        return crop(x, padding=cells), lambda dy, need_dx=True: pad(dy, padding=cells) if need_dx else None

    def sliding(self, input_shape: Shape) -> tuple[Sliding, ...]:
        """A window of one cell along the shorter axes."""
        return tuple(Sliding(padding=(-before, -after)) for before, after in self.cropping)


class Cropping1D(Cropping):
    """Cut steps off sequences: (N, W, C) → (N, W - before - after, C).

    cropping  steps on each side, or (before, after)

    Also takes the arguments of `Layer`. Raises `ArgumentError` for negative numbers, `ShapeError` if
    nothing is left.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layers.Cropping1D((2, 1))(np.arange(5).reshape(1, 5, 1)).ravel().tolist()
    [2.0, 3.0]
    """

    sets_itself = ("data_format",)
    rank = 1

    def __init__(self, cropping: Any = (1, 1), **kwargs: Any) -> None:
        super().__init__(cropping, None, **kwargs)


class Cropping2D(Cropping):
    """Cut pixels off images: (N, H, W, C) → (N, H - top - bottom, W - left - right, C).

    cropping     pixels on every side, (rows, columns), or ((top, bottom), (left, right))
    data_format  None or "channels_last"

    Also takes the arguments of `Layer`. Raises `ArgumentError` for negative numbers, `ShapeError` if
    nothing is left.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layers.Cropping2D(((0, 1), (2, 0)))(np.zeros((1, 4, 5, 3))).shape
    (1, 3, 3, 3)
    """

    rank = 2

    def __init__(self, cropping: Any = ((0, 0), (0, 0)), data_format: Any = None, **kwargs: Any) -> None:
        super().__init__(cropping, data_format, **kwargs)


class Cropping3D(Cropping):
    """Cut cells off volumes: (N, D, H, W, C) → (N, D - …, H - …, W - …, C).

    cropping     cells on every side, or for planes, rows and columns each a number or a pair
    data_format  None or "channels_last"

    Also takes the arguments of `Layer`. Raises `ArgumentError` for negative numbers, `ShapeError` if
    nothing is left.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layers.Cropping3D((1, 0, (0, 2)))(np.ones((1, 3, 3, 4, 1))).shape
    (1, 1, 3, 2, 1)
    """

    rank = 3

    def __init__(self, cropping: Any = ((1, 1), (1, 1), (1, 1)), data_format: Any = None, **kwargs: Any) -> None:
        super().__init__(cropping, data_format, **kwargs)
