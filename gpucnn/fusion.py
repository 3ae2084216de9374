"""From layers to the nodes that run: which neighbours are computed together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .layers.layer import Backward, Layer

Forward = Callable[[Any, Any, bool], tuple[Any, Backward]]


class Node:
    """One or more neighbouring layers with one forward and one backward pass."""

    def __init__(self, layers: list[Layer], forward: Forward) -> None:
        self.layers = layers
        self._forward = forward
        self._regularizer = layers[-1].activity_regularizer

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward, float]:
        """(y, backward, penalty): the penalty is that of the layer's activity regularizer, per image."""
        y, backward = self._forward(x, step, training)
        regularizer = self._regularizer
        if regularizer is None:
            return y, backward, 0.0

        def regularized(dy: Any, need_dx: bool = True) -> Any:
            return backward(dy + (regularizer.gradient(y) / len(y)).astype(dy.dtype), need_dx=need_dx)

        return y, regularized, float(regularizer(y)) / len(y)


def program(layers: list[Layer], logits: bool) -> list[Node]:
    """The nodes of a model. With `logits`, the last layer stops before its activation."""
    nodes = [Node([layer], layer.forward) for layer in layers]
    if logits:
        last = layers[-1]
        nodes[-1] = Node([last], last.linear)  # type: ignore[attr-defined]
    return nodes
