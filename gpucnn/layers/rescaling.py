"""Scaling of pixels to another range."""

from __future__ import annotations

import math
from typing import Any

from ..ops.rescaling import rescale
from .layer import Backward, Layer, Shape


class Rescaling(Layer):
    """Scale and shift every value: y = x · scale + offset, with the shape of x.

    scale   factor; 1 / 255 brings pixels of 0 … 255 to 0 … 1
    offset  summand; with scale 1 / 127.5 and offset -1 pixels come to -1 … 1

    Also takes the arguments of `Layer`. Raises `ArgumentError` if scale or offset is not one
    number.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layers.Rescaling(0.5, offset=-1)(np.array([[0, 2, 4]])).tolist()
    [[-1.0, 0.0, 1.0]]
    """

    def __init__(self, scale: float, offset: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale, self.offset = float(scale), float(offset)

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward)."""

        def backward(dy: Any, need_dx: bool = True) -> Any:
            return rescale(dy, scale=self.scale, offset=0.0) if need_dx else None

        return rescale(x, scale=self.scale, offset=self.offset), backward

    def flops(self, input_shape: Shape) -> int:
        """A product and a sum for each value."""
        return 2 * math.prod(input_shape[1:])
