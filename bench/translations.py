"""A gpucnn model as one of ONNX, with the same weights and images channels first, as they are fastest there."""

from __future__ import annotations

from typing import Any

import numpy as np

import gpucnn
from gpucnn import layers
from gpucnn.layers.convolution_base import Convolution
from gpucnn.layers.pooling import Pooling
from gpucnn.runs.translations import (
    ACTIVATIONS,
    Untranslated,
    activation_of,
    dense_weight,
    global_pooling,
    kernel_of,
    padding_of,
)


def as_onnx(model: gpucnn.Sequential) -> bytes:
    """The model for inference, serialised; its input "x" is (n, channels, …) and its output "y"."""
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    constants: list[Any] = []
    last = "x"
    flattened: tuple[int, ...] | None = None

    def constant(value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(np.array(value, order="C"), f"c{len(constants)}"))
        return constants[-1].name

    def add(kind: str, *more: str, **attributes: Any) -> None:
        nonlocal last
        nodes.append(helper.make_node(kind, [last, *more], [f"t{len(nodes)}"], **attributes))
        last = nodes[-1].output[0]

    for layer in model.layers:
        if isinstance(layer, Convolution):
            weight, bias, groups = kernel_of(layer)
            pairs = padding_of(layer)
            arrays = [np.moveaxis(weight, (-1, -2), (0, 1)), *([] if bias is None else [bias])]
            pads = [a for a, _ in pairs] + [b for _, b in pairs]
            options = {"strides": layer.strides, "dilations": layer.dilation_rate, "group": groups, "pads": pads}
            add("Conv", *map(constant, arrays), kernel_shape=weight.shape[:-2], **options)
        elif isinstance(layer, layers.Dense):
            weight, *bias = layer.get_weights()
            add("Gemm", constant(dense_weight(weight, flattened)), *map(constant, bias))
            flattened = None
        elif isinstance(layer, Pooling):
            pairs = padding_of(layer)
            pads = [a for a, _ in pairs] + [b for _, b in pairs]
            kind = "MaxPool" if "Max" in type(layer).__name__ else "AveragePool"
            add(kind, kernel_shape=layer.pool_size, strides=layer.strides, pads=pads)
        elif global_pooling(layer):
            add("GlobalAveragePool" if global_pooling(layer) == "mean" else "GlobalMaxPool")
            add("Flatten")
        elif isinstance(layer, layers.BatchNormalization):
            add("BatchNormalization", *map(constant, layer.get_weights()), epsilon=layer.epsilon)
        elif isinstance(layer, layers.Flatten):
            flattened = layer.input_shape[1:] if len(layer.input_shape) > 2 else None
            add("Flatten")
        elif not isinstance(layer, (layers.Activation, layers.Dropout)):
            raise Untranslated(f"{layer.name} has no translation")
        name = activation_of(layer)
        if name == "silu":
            before = last
            add("Sigmoid")
            add("Mul", before)
        elif name:
            add(ACTIVATIONS[name][2])
    nodes[-1].output[0] = "y"
    sample = model.input_shape[1:]
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", sample[-1], *sample[:-1]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", *model.output_shape[1:]])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()
