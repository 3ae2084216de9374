"""A BatchNormalization and the activation behind it as one node."""

from __future__ import annotations

from typing import Any

from ..dispatch.case import Spec
from ..layers.activation import Activation
from ..layers.batch_normalization import BatchNormalization
from ..layers.layer import Backward, Layer
from ..ops.batchnorm_activation import batchnorm_activation, batchnorm_activation_grad
from .ends import FLOAT32, applies_activation, chosen, function_of, of_one
from .node import Node


def batchnorm_and_activation(layers: list[Layer]) -> Node | None:
    """BatchNormalization, then an elementwise activation: of a training step x alone is kept."""
    if len(layers) < 2 or type(layers[0]) is not BatchNormalization or not applies_activation(layers[1]):
        return None
    norm, act = layers[:2]
    assert isinstance(norm, BatchNormalization) and isinstance(act, Activation)
    if (
        norm.synchronized
        or norm.activity_regularizer is not None
        or chosen("batchnorm", "batchnorm_grad", "activation", "activation_grad")
    ):
        return None
    params = {"epsilon": norm.epsilon, **function_of(act.activation)}
    x = Spec(of_one(norm), FLOAT32)
    channels = x.like(x.shape[-1])
    gamma, beta = (None if weight is None else channels for weight in (norm.gamma, norm.beta))
    if not batchnorm_activation.has_kernel(x, gamma, beta, **params):
        return None
    if not batchnorm_activation_grad.has_kernel(x, x, gamma, beta, channels, channels, **params):
        return None

    def forward(x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        if not (training and norm.trainable):
            return _one_by_one(norm, act, x, step, training)
        gamma, beta = (None if weight is None else weight.value for weight in (norm.gamma, norm.beta))
        y, mean, variance = batchnorm_activation(x, gamma, beta, **params)
        norm.batch_statistics = [mean, variance]

        def backward(dy: Any, need_dx: bool = True) -> Any:
            dgamma, dbeta = (None if weight is None else weight.gradient for weight in (norm.gamma, norm.beta))
            out = None, dgamma, dbeta
            dx, _, _ = batchnorm_activation_grad(dy, x, gamma, beta, mean, variance, **params, out=out)
            return dx if need_dx else None

        return y, backward

    return Node([norm, act], forward, fused=True)


def _one_by_one(norm: BatchNormalization, act: Activation, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
    z, norm_backward = norm.forward(x, step, training)
    y, act_backward = act.forward(z, step, training)

    def backward(dy: Any, need_dx: bool = True) -> Any:
        return norm_backward(act_backward(dy), need_dx=need_dx)

    return y, backward
