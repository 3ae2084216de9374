"""Layers that end in an activation."""

from __future__ import annotations

from typing import Any

from .. import activations
from .layer import Backward, Layer


class Activated(Layer, abstract=True):
    """Base of layers with an `activation`: `linear` computes what the activation is applied to.

    The two halves can be called apart: a loss that is computed from the logits needs `linear` alone.
    """

    def __init__(self, activation: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def linear(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(z, backward) for a batch x, where the layer's result is activation(z)."""
        raise NotImplementedError(f"{type(self).__name__} must define linear(x, step, training) -> (z, backward)")

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(activation(linear(x)), backward)."""
        z, linear_backward = self.linear(x, step, training)
        y, activation_backward = self.activation.forward(z)

        def backward(dy: Any, need_dx: bool = True) -> Any:
            return linear_backward(activation_backward(dy), need_dx=need_dx)

        return y, backward
