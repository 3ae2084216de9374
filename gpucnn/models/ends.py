"""The end of a fused layer: its bias and its activation, as the fused ops take them, and the gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import activations
from ..devices import choose
from ..devices.cpu import CPU
from ..dispatch import choice
from ..dispatch.case import Spec
from ..layers.activation import Activation
from ..layers.conv import Conv1D, Conv2D, Conv3D
from ..layers.convolution_base import Convolution
from ..layers.depthwise_conv import DepthwiseConv1D, DepthwiseConv2D
from ..layers.kernel_and_bias import KernelAndBias
from ..layers.layer import Layer
from ..ops import epilogue
from ..ops.bias import bias_grad
from ..ops.bias_activation import bias_activation_grad
from .node import gives_new_gradient

FLOAT32 = np.dtype(np.float32)

CONVOLUTIONS = Conv1D, Conv2D, Conv3D, DepthwiseConv1D, DepthwiseConv2D
"""Layers that the fused ops of convolutions compute."""


def chosen(*ops: str) -> bool:
    """Whether an algorithm was chosen for one of these ops."""
    return not choice.algorithms().keys().isdisjoint(ops)


class End:
    """The activation behind a layer that is act(op(x, kernel) + bias), as the fused ops take it.

    layer    the layer
    layers   with the layer behind it, if that applies the activation
    behind   those that follow
    """

    def __init__(self, layers: list[Layer], activation: Any, count: int) -> None:
        self.layer = layers[0]
        self.layers, self.behind = layers[:count], layers[count:]
        self.may_overwrite = gives_new_gradient(self.behind)
        self.params = function_of(activation)
        self.keeps_input = epilogue.keeps_input(**self.params)

    def backward(self, dy: Any, kept: Any, **scaled: Any) -> Any:
        """dz, in place of dy where possible; the gradient of the bias is written. With dropout, dy is scaled."""
        db = self.layer.bias.gradient  # type: ignore[attr-defined]
        if self.params["function"] == epilogue.LINEAR:
            bias_grad(dy, out=db)
            return dy
        dz = dy if self.may_overwrite and choose.current() is CPU and CPU.takes(dy) else None
        return bias_activation_grad(dy, kept, **self.params, **scaled, out=(dz, db))[0]

    def has_kernel(self) -> bool:
        """Whether the gradient does."""
        if self.params["function"] == epilogue.LINEAR:
            return True
        shape = Spec((1, *self.layer.output_shape[1:]), FLOAT32)  # type: ignore[index]
        return bias_activation_grad.has_kernel(shape, shape, **self.params)


def function_of(activation: Any) -> dict[str, Any]:
    """An elementwise activation as the ops take it."""
    return {"function": activation.name, "alpha": getattr(activation, "alpha", 0.0)}


def end_of(layers: list[Layer], activation: Any = None) -> End | None:
    """The end of the first layer, with bias and elementwise activation, by default the layer's, or that of the layer
    behind it; None if an algorithm was chosen for one."""
    layer: Any = layers[0]
    if chosen("bias", "bias_grad", "activation", "activation_grad"):
        return None
    if layer.activity_regularizer is not None or not layer.use_bias:
        return None
    count = 1
    if activation is None:
        activation = layer.activation
        if type(activation) is activations.Linear and len(layers) > 1 and applies_activation(layers[1]):
            activation, count = layers[1].activation, 2  # type: ignore[attr-defined]
    if type(activation) not in (activations.Elementwise, activations.Linear):
        return None
    end = End(layers, activation, count)
    return end if end.has_kernel() else None


def applies_activation(layer: Layer) -> bool:
    """Whether a layer is gpucnn's, does nothing else, and its function is one of those that kernels know."""
    if not isinstance(layer, Activation) or type(layer).__module__ != Activation.__module__:
        return False
    return type(layer.activation) is activations.Elementwise and layer.activity_regularizer is None


def of_one(layer: Layer) -> tuple[int, ...]:
    """The shape of a batch of one input."""
    return (1, *layer.input_shape[1:])  # type: ignore[index]


def images(conv: Convolution, x: Any) -> Any:
    """x as the op takes it: sequences are images of one row."""
    return x.reshape(len(x), 1, *x.shape[1:]) if conv.rank == 1 else x


def image_of_one(layer: Layer, shape: Any = None) -> tuple[int, ...]:
    """The shape of a batch of one input, or of one with a shape of the layer's, as the op takes it."""
    one = of_one(layer) if shape is None else (1, *shape[1:])
    return (1, *one) if len(one) == 3 else one


def operands_of(layer: KernelAndBias) -> list[Spec]:
    """x, kernel and bias of a layer for one input, as the op takes them."""
    if isinstance(layer, Convolution):
        shapes = image_of_one(layer), layer.op_weight.shape, layer.bias.shape
    else:
        shapes = of_one(layer), layer.kernel.shape, layer.bias.shape
    return [Spec(shape, FLOAT32) for shape in shapes]
