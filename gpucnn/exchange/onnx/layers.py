"""Layers as nodes of ONNX, opset 17, in inference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ... import layers
from ...devices import storage
from ...errors import ArgumentError
from ...layers.layer import Layer
from . import activations
from .graph import Graph, Tensor


def write(graph: Graph, x: Tensor, layer: Layer) -> Tensor:
    """Add the nodes of a layer. Raises `ArgumentError` for a layer that ONNX cannot express."""
    graph.enter(layer.name)
    writer = _WRITERS.get(type(layer))
    if writer is None:
        raise ArgumentError(
            f"the layer {layer.name} ({type(layer).__name__}) cannot be written as ONNX, which has nodes for "
            "gpucnn's own layers only: leave it out, or export the layers before it"
        )
    y = writer(graph, x, layer)
    assert layer.output_shape is not None
    return replace(y, shape=layer.output_shape)


def _convolution(graph: Graph, x: Tensor, layer: Any) -> Tensor:
    x = graph.layout(x, channels_first=True)
    channels = layer.channels
    weight = layer.kernel.numpy().reshape(*layer.kernel_size, -1, layer._weight_shape(channels)[-1])
    operands = [graph.constant("kernel", np.moveaxis(weight, (-1, -2), (0, 1)))]
    if layer.use_bias:
        operands.append(graph.constant("bias", layer.bias.numpy()))
    z = graph.add(
        "Conv",
        x.name,
        *operands,
        kernel_shape=list(layer.kernel_size),
        strides=list(layer.strides),
        dilations=list(layer.dilation_rate),
        group=layer._groups(channels),
        pads=_pads(layer._padding(x.shape[1:-1])),
    )
    return activations.write(graph, replace(x, name=z), layer.activation, layer.name)


def _pads(padding: tuple[tuple[int, int], ...]) -> list[int]:
    """All cells before the axes, then all after them."""
    return [pair[0] for pair in padding] + [pair[1] for pair in padding]


def _dense(graph: Graph, x: Tensor, layer: layers.Dense) -> Tensor:
    x = graph.layout(x, channels_first=False)
    operands = [graph.constant("kernel", layer.kernel.numpy())]
    if layer.use_bias:
        operands.append(graph.constant("bias", layer.bias.numpy()))
    if x.rank == 2:
        z = graph.apply(x, "Gemm", *operands)
    else:
        z = graph.apply(x, "MatMul", operands[0])
        if layer.use_bias:
            z = graph.apply(z, "Add", operands[1])
    return activations.write(graph, z, layer.activation, layer.name)


def _batch_normalization(graph: Graph, x: Tensor, layer: layers.BatchNormalization) -> Tensor:
    x = graph.layout(x, channels_first=True)
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    gamma = np.ones_like(mean) if layer.gamma is None else layer.gamma.numpy()
    beta = np.zeros_like(mean) if layer.beta is None else layer.beta.numpy()
    arrays = {"gamma": gamma, "beta": beta, "moving_mean": mean, "moving_variance": variance}
    operands = [graph.constant(name, array) for name, array in arrays.items()]
    return graph.apply(x, "BatchNormalization", *operands, epsilon=layer.epsilon)


def _max_pooling(graph: Graph, x: Tensor, layer: Any) -> Tensor:
    return _pooling(graph, x, layer, "MaxPool")


def _average_pooling(graph: Graph, x: Tensor, layer: Any) -> Tensor:
    return _pooling(graph, x, layer, "AveragePool", count_include_pad=0)


def _pooling(graph: Graph, x: Tensor, layer: Any, op: str, **attributes: Any) -> Tensor:
    pads = _pads(layer._padding(x.shape[1:-1]))
    window = {"kernel_shape": list(layer.pool_size), "strides": list(layer.strides), "pads": pads}
    return graph.apply(graph.layout(x, channels_first=True), op, **window, **attributes)


def _global_max(graph: Graph, x: Tensor, layer: Any) -> Tensor:
    return _global(graph, x, layer, "GlobalMaxPool")


def _global_average(graph: Graph, x: Tensor, layer: Any) -> Tensor:
    return _global(graph, x, layer, "GlobalAveragePool")


def _global(graph: Graph, x: Tensor, layer: Any, op: str) -> Tensor:
    y = graph.apply(graph.layout(x, channels_first=True), op)
    return y if layer.keepdims else replace(graph.apply(y, "Flatten", axis=1), channels_first=False)


def _same(graph: Graph, x: Tensor, layer: Layer) -> Tensor:
    """Nothing: the layer returns its input in inference."""
    return x


def _activation(graph: Graph, x: Tensor, layer: layers.Activation) -> Tensor:
    return activations.write(graph, x, layer.activation, layer.name)


def _flatten(graph: Graph, x: Tensor, layer: layers.Flatten) -> Tensor:
    return graph.apply(graph.layout(x, channels_first=False), "Flatten", axis=1) if x.rank > 2 else x


def _reshape(graph: Graph, x: Tensor, layer: layers.Reshape) -> Tensor:
    x = graph.layout(x, channels_first=False)
    return graph.apply(x, "Reshape", graph.constant("shape", [0, *(layer.output_shape or ())[1:]], np.int64))


def _permute(graph: Graph, x: Tensor, layer: layers.Permute) -> Tensor:
    return graph.apply(graph.layout(x, channels_first=False), "Transpose", perm=[0, *layer.dims])


def _zero_padding(graph: Graph, x: Tensor, layer: Any) -> Tensor:
    around = ((0, 0), (0, 0), *layer.padding) if x.channels_first else ((0, 0), *layer.padding, (0, 0))
    return graph.apply(x, "Pad", graph.constant("padding", _pads(around), np.int64))


def _crop(graph: Graph, x: Tensor, layer: Any) -> Tensor:
    """The middle of each image, as RandomCrop too returns it in inference."""
    rows, columns = (2, 3) if x.channels_first else (1, 2)
    sizes = (layer.height, layer.width)
    starts = [(extent - side) // 2 for extent, side in zip(x.shape[1:3], sizes, strict=True)]
    ends = [start + side for start, side in zip(starts, sizes, strict=True)]
    names = [
        graph.constant(w, v, np.int64) for w, v in zip(("starts", "ends", "axes"), (starts, ends, (rows, columns)))
    ]
    return graph.apply(x, "Slice", *names)


def _resizing(graph: Graph, x: Tensor, layer: layers.Resizing) -> Tensor:
    """Products with the weights of gpucnn's interpolation, whose coordinates ONNX' Resize rounds in another way."""
    x = graph.layout(x, channels_first=True)
    left, right = (interpolation(layer, axis, extent) for axis, extent in enumerate(x.shape[1:3]))
    x = replace(x, name=graph.add("MatMul", graph.constant("rows", left), x.name))
    return graph.apply(x, "MatMul", graph.constant("columns", np.ascontiguousarray(right.T)))


def interpolation(layer: layers.Resizing, axis: int, extent: int) -> np.ndarray:
    """The weights by which rows (axis 0) or columns (axis 1) of that many pixels are resized: (new, old)."""
    unit = np.eye(extent, dtype=np.float32)
    unit = unit[None, :, None, :] if axis == 0 else unit[None, None, :, :]
    resized = storage.get(layer.forward(storage.put(unit), None, False)[0])[0]
    return resized[:, 0, :] if axis == 0 else resized[0]


def _rescaling(graph: Graph, x: Tensor, layer: layers.Rescaling) -> Tensor:
    return graph.apply(graph.apply(x, "Mul", layer.scale), "Add", layer.offset)


def _of_each_rank(name: str, writer: Callable[..., Tensor]) -> dict[type, Callable[..., Tensor]]:
    return {getattr(layers, f"{name}{rank}D"): writer for rank in (1, 2, 3)}


_WRITERS: dict[type, Callable[..., Tensor]] = {
    **_of_each_rank("Conv", _convolution),
    **_of_each_rank("MaxPooling", _max_pooling),
    **_of_each_rank("AveragePooling", _average_pooling),
    **_of_each_rank("GlobalMaxPooling", _global_max),
    **_of_each_rank("GlobalAveragePooling", _global_average),
    **_of_each_rank("SpatialDropout", _same),
    **_of_each_rank("ZeroPadding", _zero_padding),
    **dict.fromkeys((layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Softmax), _activation),
    **dict.fromkeys((layers.RandomFlip, layers.RandomRotation, layers.RandomTranslation, layers.RandomZoom), _same),
    **dict.fromkeys((layers.RandomAffine, layers.RandomContrast), _same),
    **dict.fromkeys((layers.CenterCrop, layers.RandomCrop), _crop),
    layers.Resizing: _resizing,
    layers.DepthwiseConv2D: _convolution,
    layers.Dense: _dense,
    layers.BatchNormalization: _batch_normalization,
    layers.Dropout: _same,
    layers.Flatten: _flatten,
    layers.Reshape: _reshape,
    layers.Permute: _permute,
    layers.Rescaling: _rescaling,
}
"""By the exact class: a subclass of the user's may compute something else."""
