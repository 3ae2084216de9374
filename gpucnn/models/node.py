"""What runs: neighbouring layers that are computed together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import layers, regularizers
from ..devices import storage
from ..layers.layer import Backward, Layer

Forward = Callable[[Any, Any, bool], tuple[Any, Backward]]


class Node:
    """One or more neighbouring layers with one forward and one backward pass.

    forward      (x, step, training) → (y, backward)
    fused        whether fused ops compute it
    needs_input  whether backward needs what only training keeps, such as what the activation was applied to
    """

    def __init__(
        self, layers: Sequence[Layer], forward: Forward, fused: bool = False, needs_input: bool = False
    ) -> None:
        self.layers = list(layers)
        self.fused = fused
        self.needs_input = needs_input
        self.unpenalised = forward
        self._regularizer = layers[-1].activity_regularizer
        self.samples: int | None = None

    def outputs(self) -> list[Any]:
        """The shapes of the arrays that the node leaves for its backward pass."""
        return [self.layers[-1].output_shape]

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward, float]:
        """(y, backward, penalty); the penalty is the activity regularizer's, per image."""
        y, backward = self.unpenalised(x, step, training)
        return self._penalised(y, backward)

    def _penalised(self, y: Any, backward: Backward) -> tuple[Any, Backward, float]:
        regularizer = self._regularizer
        if regularizer is None:
            return y, backward, 0.0
        share = 1.0 / (self.samples or len(y))

        def regularized(dy: Any, need_dx: bool = True) -> Any:
            regularizers.add_gradient(regularizer, dy, y, share)
            return backward(dy, need_dx=need_dx)

        return y, regularized, float(storage.get(regularizers.penalty(regularizer, y, share))[0])


_NEW = layers.BatchNormalization, layers.Conv2D, layers.Conv2DTranspose, layers.Dense, layers.DepthwiseConv2D
_FILES_OF_NEW = {kind.__module__ for kind in (*_NEW, layers.MaxPooling2D, layers.SeparableConv2D)}
"""The files whose layers pass back a gradient of their own making."""


def gives_new_gradient(behind: Sequence[Layer]) -> bool:
    """Whether the gradient that these layers pass back is an array that nothing else reads. It may not be if the
    user's code has made it, or a layer that passes one gradient back along several paths."""
    passing_on = layers.Dropout, layers.Flatten, layers.Reshape
    return next((type(layer) for layer in behind if type(layer) not in passing_on), Layer).__module__ in _FILES_OF_NEW
