"""What runs: neighbouring layers that are computed together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import regularizers
from ..devices import storage
from ..layers.layer import Backward, Layer

Forward = Callable[[Any, Any, bool], tuple[Any, Backward]]


class Node:
    """One or more neighbouring layers with one forward and one backward pass."""

    def __init__(self, layers: Sequence[Layer], forward: Forward, fused: bool = False) -> None:
        self.layers = list(layers)
        self.fused = fused
        self._forward = forward
        self._regularizer = layers[-1].activity_regularizer
        self.samples: int | None = None

    def outputs(self) -> list[Any]:
        """The shapes of the arrays that the node leaves for its backward pass."""
        return [self.layers[-1].output_shape]

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward, float]:
        """(y, backward, penalty); the penalty is the activity regularizer's, per image."""
        y, backward = self._forward(x, step, training)
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
