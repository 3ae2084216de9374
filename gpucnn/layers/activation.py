"""Activation functions as layers of their own."""

from __future__ import annotations

import math
import warnings
from typing import Any

from .. import activations
from ..errors import ArgumentError
from .activated import Activated
from .layer import Backward, Shape


class Activation(Activated):
    """y = activation(x): a name, a function of `gpucnn.activations`, or one of your own that returns (y, backward)."""

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(activation, **kwargs)

    def linear(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(x, backward), unchanged."""
        return x, lambda dz, need_dx=True: dz if need_dx else None

    def flops(self, input_shape: Shape) -> int:
        """One for each value."""
        return math.prod(input_shape[1:])


class ReLU(Activation):
    """min(x, max_value) above the threshold, negative_slope · (x - threshold) up to it."""

    def __init__(
        self, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(activations.rectifier(negative_slope, max_value, threshold), **kwargs)


class LeakyReLU(Activation):
    """x above 0, negative_slope · x up to it: 0.3 here and 0.2 in `activations.leaky_relu`, as in Keras."""

    def __init__(self, negative_slope: float = 0.3, *, alpha: float | None = None, **kwargs: Any) -> None:
        if alpha is not None:
            negative_slope = self._arguments["negative_slope"] = self._arguments.pop("alpha")
            warnings.warn("LeakyReLU(alpha=...) is called negative_slope= today", DeprecationWarning, stacklevel=2)
        super().__init__(activations.rectifier(negative_slope), **kwargs)


class ELU(Activation):
    """x above 0, alpha · (exp(x) - 1) up to it."""

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(activations.Elementwise("elu", alpha), **kwargs)


class Softmax(Activation):
    """exp(x) / Σ exp(x) over the last axis; gpucnn has no other `axis`."""

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__("softmax", **kwargs)
        self.axis = axis

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of x."""
        if self.axis not in (-1, len(input_shape) - 1):
            raise ArgumentError(
                f"{self.name}: Softmax(axis={self.axis!r}) of inputs {input_shape}: gpucnn sums over the last "
                "axis only; put Permute before and behind it"
            )
        return input_shape
