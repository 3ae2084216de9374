"""Pixels brought to another range."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..ops.rescaling import rescale
from .layer import Backward, Layer, Shape


class Rescaling(Layer):
    """y = x · scale + offset: `Rescaling(1 / 255)` brings bytes to 0 … 1, `Rescaling(1 / 127.5, -1)` to -1 … 1."""

    def __init__(self, scale: float, offset: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, value in {"scale": scale, "offset": offset}.items():
            if not isinstance(value, (int, float, np.number)):
                raise ArgumentError(f"Rescaling({name}={value!r}): use one number for all channels")
        self.scale, self.offset = float(scale), float(offset)

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward)."""

        def backward(dy: Any, need_dx: bool = True) -> Any:
            return rescale(dy, scale=self.scale, offset=0.0) if need_dx else None

        return rescale(x, scale=self.scale, offset=self.offset), backward

    def flops(self, input_shape: Shape) -> int:
        """A product and a sum for each value."""
        return 2 * math.prod(input_shape[1:])
