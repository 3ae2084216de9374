"""Activation functions as nodes of ONNX, opset 17."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...activations import Activation, ClippedReLU, Elementwise, Linear, LogSoftmax, Softmax
from ...errors import ArgumentError
from .graph import Graph, Tensor

Writer = Callable[[Graph, Tensor, float], Tensor]
"""Adds the nodes of a function with its parameter."""


def _single(op: str, parameter: str | None = None, *also: str, **attributes: Any) -> Writer:
    """One node; the function's parameter becomes the attribute of this name, and those in `also`."""

    def write(graph: Graph, x: Tensor, alpha: float) -> Tensor:
        names = (parameter, *also) if parameter else ()
        return graph.apply(x, op, **attributes, **dict.fromkeys(names, alpha))

    return write


def _clip(low: float, high: float) -> Writer:
    return lambda graph, x, alpha: graph.apply(x, "Clip", low, high)


def _gate(*ops: str) -> Writer:
    """x · f(x), with f as nodes in a row."""

    def write(graph: Graph, x: Tensor, alpha: float) -> Tensor:
        gate = x
        for op in ops:
            gate = graph.apply(gate, op)
        return graph.apply(x, "Mul", gate.name)

    return write


def _log_sigmoid(graph: Graph, x: Tensor, alpha: float) -> Tensor:
    """-softplus(-x)."""
    return graph.apply(graph.apply(graph.apply(x, "Neg"), "Softplus"), "Neg")


def _tanh_shrink(graph: Graph, x: Tensor, alpha: float) -> Tensor:
    return graph.apply(x, "Sub", graph.apply(x, "Tanh").name)


def _gelu(graph: Graph, x: Tensor, alpha: float) -> Tensor:
    """x / 2 · (1 + erf(x / √2))."""
    error = graph.apply(graph.apply(x, "Mul", math.sqrt(0.5)), "Erf")
    doubled = graph.apply(error, "Add", 1.0)
    return graph.apply(graph.apply(x, "Mul", doubled.name), "Mul", 0.5)


def _gelu_tanh(graph: Graph, x: Tensor, alpha: float) -> Tensor:
    """x · sigmoid(√(8 / π) · (x + 0.044715 x³)), the cube as two products."""
    square = graph.apply(x, "Mul", x.name)
    inner = graph.apply(graph.apply(square, "Mul", 0.044715), "Add", 1.0)
    scaled = graph.apply(graph.apply(x, "Mul", inner.name), "Mul", math.sqrt(8 / math.pi))
    return graph.apply(x, "Mul", graph.apply(scaled, "Sigmoid").name)


ELEMENTWISE: dict[str, Writer] = {
    "relu": _single("Relu"),
    "relu6": _clip(0, 6),
    "leaky_relu": _single("LeakyRelu", "alpha"),
    "elu": _single("Elu", "alpha"),
    "selu": _single("Selu"),
    "celu": _single("Celu", "alpha"),
    "sigmoid": _single("Sigmoid"),
    "log_sigmoid": _log_sigmoid,
    "hard_sigmoid": _single("HardSigmoid", alpha=1 / 6, beta=0.5),
    "tanh": _single("Tanh"),
    "tanh_shrink": _tanh_shrink,
    "hard_tanh": _clip(-1, 1),
    "hard_shrink": _single("Shrink", "lambd"),
    "soft_shrink": _single("Shrink", "lambd", "bias"),
    "softplus": _single("Softplus"),
    "softsign": _single("Softsign"),
    "silu": _gate("Sigmoid"),
    "hard_silu": _single("HardSwish"),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "mish": _gate("Softplus", "Tanh"),
    "exponential": _single("Exp"),
}
"""How each of `ops.activation.FUNCTIONS` is written."""


def _clipped_relu(graph: Graph, x: Tensor, function: ClippedReLU) -> Tensor:
    """min(x, max_value) above the threshold, negative_slope · (x - threshold) up to it."""
    top, slope, threshold = (function.params[name] for name in ("max_value", "negative_slope", "threshold"))
    if slope == 0 and threshold == 0:
        return graph.apply(x, "Clip", 0.0, top)
    if slope == 0 and math.isinf(top):
        return graph.apply(x, "ThresholdedRelu", alpha=threshold)
    above = graph.add("Greater", x.name, graph.constant("threshold", threshold))
    high = x if math.isinf(top) else graph.apply(x, "Min", top)
    low = graph.apply(graph.apply(x, "Sub", threshold), "Mul", slope)
    return Tensor(graph.add("Where", above, high.name, low.name), x.shape, x.channels_first)


def write(graph: Graph, x: Tensor, activation: Activation, layer: str) -> Tensor:
    """Add the nodes of an activation. Raises `ArgumentError` for functions of the user's."""
    kind = type(activation)
    if kind is Linear:
        return x
    if isinstance(activation, Elementwise) and kind is Elementwise:
        return ELEMENTWISE[activation.name](graph, x, activation.alpha)
    if isinstance(activation, ClippedReLU) and kind is ClippedReLU:
        return _clipped_relu(graph, x, activation)
    if kind in (Softmax, LogSoftmax):
        return graph.apply(x, "Softmax" if kind is Softmax else "LogSoftmax", axis=x.channel_axis)
    raise ArgumentError(
        f"{layer}: the activation {activation.name} cannot be written as ONNX; use one of gpucnn.activations"
    )
