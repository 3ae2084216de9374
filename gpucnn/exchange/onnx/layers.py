"""Layers as nodes of ONNX, opset 17, in inference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ... import layers
from ...activations import SoftmaxOver
from ...devices import storage
from ...errors import ArgumentError
from ...layers.layer import Layer
from ...ops.window import span
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


def _transposed(graph: Graph, x: Tensor, layer: Any) -> Tensor:
    """The cells that are cut off the largest result, or added to it, are those of gpucnn's layer."""
    x = graph.layout(x, channels_first=True)
    sizes = x.shape[1:-1]
    larger, before = layer._larger(sizes), [pair[0] for pair in layer._padding(sizes)]
    behind = []
    for axis, size in enumerate(sizes):
        reach = span(layer.kernel_size[axis], layer.dilation_rate[axis])
        behind.append((size - 1) * layer.strides[axis] + reach - larger[axis] - before[axis])
    operands = [graph.constant("kernel", np.moveaxis(layer.kernel.numpy(), (-1, -2), (0, 1)))]
    if layer.use_bias:
        operands.append(graph.constant("bias", layer.bias.numpy()))
    z = graph.add(
        "ConvTranspose",
        x.name,
        *operands,
        kernel_shape=list(layer.kernel_size),
        strides=list(layer.strides),
        dilations=list(layer.dilation_rate),
        pads=before + [max(cells, 0) for cells in behind],
        output_padding=[max(-cells, 0) for cells in behind],
    )
    return activations.write(graph, replace(x, name=z), layer.activation, layer.name)


def _separable(graph: Graph, x: Tensor, layer: Any) -> Tensor:
    x = graph.layout(x, channels_first=True)
    wide = layer.channels * layer.depth_multiplier
    depthwise = layer.depthwise_kernel.numpy().reshape(*layer.kernel_size, 1, wide)
    kernels = [np.moveaxis(kernel, (-1, -2), (0, 1)) for kernel in (depthwise, layer.pointwise_kernel.numpy())]
    window = {"kernel_shape": list(layer.kernel_size), "strides": list(layer.strides)}
    pads, dilations = _pads(layer._padding(x.shape[1:-1])), list(layer.dilation_rate)
    first = graph.constant("depthwise_kernel", kernels[0])
    middle = graph.add("Conv", x.name, first, group=layer.channels, pads=pads, dilations=dilations, **window)
    operands = [graph.constant("pointwise_kernel", kernels[1])]
    if layer.use_bias:
        operands.append(graph.constant("bias", layer.bias.numpy()))
    z = graph.add("Conv", middle, *operands, kernel_shape=[1] * layer.rank)
    return activations.write(graph, replace(x, name=z), layer.activation, layer.name)


def _layer_normalization(graph: Graph, x: Tensor, layer: layers.LayerNormalization) -> Tensor:
    x = graph.layout(x, channels_first=False)
    shape = layer._weight_shape(x.shape)
    gamma = np.ones(shape) if layer.gamma is None else layer.gamma.numpy()
    operands = [graph.constant("gamma", gamma)]
    if layer.beta is not None:
        operands.append(graph.constant("beta", layer.beta.numpy()))
    return graph.apply(x, "LayerNormalization", *operands, axis=-len(shape), epsilon=layer.epsilon)


def _group_normalization(graph: Graph, x: Tensor, layer: layers.GroupNormalization) -> Tensor:
    """Opset 17 normalises channels alone: those of a group are read as one."""
    x = graph.layout(x, channels_first=True)
    _, channels, groups = layer._parts(x.shape)
    scale, shift = (graph.constant(word, fill((groups,))) for word, fill in (("scale", np.ones), ("shift", np.zeros)))
    y = graph.apply(x, "Reshape", graph.constant("groups", [0, groups, -1], np.int64))
    y = graph.apply(y, "InstanceNormalization", scale, shift, epsilon=layer.epsilon)
    y = graph.apply(y, "Reshape", graph.constant("extents", [0, channels, *x.shape[1:-1]], np.int64))
    each = (channels, *(1,) * (x.rank - 2))
    if layer.gamma is not None:
        y = graph.apply(y, "Mul", graph.constant("gamma", layer.gamma.numpy().reshape(each)))
    return y if layer.beta is None else graph.apply(y, "Add", graph.constant("beta", layer.beta.numpy().reshape(each)))


def _prelu(graph: Graph, x: Tensor, layer: layers.PReLU) -> Tensor:
    alpha = layer.alpha.numpy()
    return graph.apply(x, "PRelu", graph.constant("alpha", np.moveaxis(alpha, -1, 0) if x.channels_first else alpha))


def _softmax(graph: Graph, x: Tensor, layer: layers.Softmax) -> Tensor:
    if not isinstance(layer.activation, SoftmaxOver):
        return _activation(graph, x, layer)
    x, axes = graph.layout(x, channels_first=False), layer.activation.axes
    if len(axes) == 1:
        return graph.apply(x, "Softmax", axis=axes[0])
    order = [*(axis for axis in range(x.rank) if axis not in axes), *axes]
    turned = [x.shape[axis] for axis in order[1:]]
    y = graph.apply(x, "Transpose", perm=order)
    rows = [0, *turned[: -len(axes)], -1]
    y = graph.apply(graph.apply(y, "Reshape", graph.constant("rows", rows, np.int64)), "Softmax", axis=-1)
    y = graph.apply(y, "Reshape", graph.constant("extents", [0, *turned], np.int64))
    return graph.apply(y, "Transpose", perm=[order.index(axis) for axis in range(x.rank)])


def _cropping(graph: Graph, x: Tensor, layer: Any) -> Tensor:
    first = 2 if x.channels_first else 1
    axes = list(range(first, first + layer.rank))
    ends = [extent - after for extent, (_, after) in zip(x.shape[1:-1], layer.cropping, strict=True)]
    cut = {"starts": [before for before, _ in layer.cropping], "ends": ends, "axes": axes}
    return graph.apply(x, "Slice", *(graph.constant(word, values, np.int64) for word, values in cut.items()))


def _upsampling(graph: Graph, x: Tensor, layer: Any) -> Tensor:
    x = graph.layout(x, channels_first=True)
    scales = graph.constant("scales", [1, 1, *layer.size])
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if getattr(layer, "interpolation", "nearest") == "bilinear":
        how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return replace(x, name=graph.add("Resize", x.name, "", scales, **how))


def _repeat_vector(graph: Graph, x: Tensor, layer: layers.RepeatVector) -> Tensor:
    y = graph.apply(x, "Unsqueeze", graph.constant("axis", [1], np.int64))
    return replace(graph.apply(y, "Tile", graph.constant("times", [1, layer.n, 1], np.int64)), channels_first=False)


def _parallel(graph: Graph, x: Tensor, layer: layers.Parallel) -> Tensor:
    results = []
    for path in layer.paths:
        y = x
        for part in path:
            y = write(graph, y, part)
        results.append(y)
    graph.enter(layer.name)
    first = results[0].channels_first
    names = [graph.layout(y, channels_first=first).name for y in results]
    if layer.merge == "concatenate":
        return replace(results[0], name=graph.add("Concat", *names, axis=results[0].channel_axis))
    total = names[0]
    for name in names[1:]:
        total = graph.add("Add", total, name)
    return replace(results[0], name=total)


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
    **_of_each_rank("UpSampling", _upsampling),
    **_of_each_rank("Cropping", _cropping),
    **{getattr(layers, f"Conv{rank}DTranspose"): _transposed for rank in (1, 2, 3)},
    **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), _separable),
    **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), _convolution),
    **dict.fromkeys((layers.Parallel, layers.Residual), _parallel),
    **dict.fromkeys((layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU), _activation),
    layers.GroupNormalization: _group_normalization,
    layers.LayerNormalization: _layer_normalization,
    layers.PReLU: _prelu,
    layers.RepeatVector: _repeat_vector,
    layers.Softmax: _softmax,
    **dict.fromkeys((layers.RandomFlip, layers.RandomRotation, layers.RandomTranslation, layers.RandomZoom), _same),
    **dict.fromkeys((layers.RandomAffine, layers.RandomContrast), _same),
    **dict.fromkeys((layers.CenterCrop, layers.RandomCrop), _crop),
    layers.Resizing: _resizing,
    layers.Dense: _dense,
    layers.BatchNormalization: _batch_normalization,
    layers.Dropout: _same,
    layers.Flatten: _flatten,
    layers.Reshape: _reshape,
    layers.Permute: _permute,
    layers.Rescaling: _rescaling,
}
"""By the exact class: a subclass of the user's may compute something else."""
