"""Nodes of ONNX as layers: what is not elementwise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ... import layers
from . import expressions, sizes
from .building import Stack, Unreadable, spatial_rank
from .call import BATCH, Call, Window
from .layers import interpolation

_LARGEST_SIDE = 4096
"""Of images that are resized: the weights are compared as matrices of this size."""


def add_layers(stack: Stack, call: Call) -> None:
    """Append the layers of a node. Raises `Unreadable` if there are none."""
    handler = _HANDLERS.get(call.node.op)
    if handler is None:
        raise Unreadable("is not a layer of gpucnn")
    handler(stack, call)


def _convolution(stack: Stack, call: Call) -> None:
    rank = spatial_rank(stack)
    weight, bias, group = call.weight(1, rank + 2), call.operand(2), call.attribute("group", 1)
    stack.put_channels_last()
    size = weight.shape[2:]
    window = Window(call, size, stack.shape[:-1])
    channels, filters = stack.shape[-1], weight.shape[0]
    if group < 1 or weight.shape[1] * group != channels or filters % group or (bias is not None and bias.ndim != 1):
        raise Unreadable(
            f"has a weight of shape {weight.shape} in {group} groups, which does not fit {channels} channels"
        )
    kernel = np.ascontiguousarray(np.moveaxis(weight, (0, 1), (-1, -2)))
    common: dict[str, Any] = {
        "strides": window.strides,
        "dilation_rate": window.dilation,
        "padding": window.pad_with_zeros(stack),
        "use_bias": bias is not None,
    }
    arrays = [] if bias is None else [bias]
    if rank == 2 and group == channels > 1:
        kernel = kernel.reshape(*size, channels, filters // channels)
        stack.add(layers.DepthwiseConv2D(size, depth_multiplier=filters // channels, **common), kernel, *arrays)
    else:
        cls = getattr(layers, f"Conv{rank}D")
        stack.add(cls(filters, kernel_size=size, groups=group, **common), kernel, *arrays)


def _layer_normalization(stack: Stack, call: Call) -> None:
    call.only_first_output()
    call.only(stash_type=1)
    axis = call.attribute("axis", -1) % stack.rank
    if axis == 0:
        raise Unreadable("normalises over samples: layers normalise each alone")
    stack.keep_order()
    shape = stack.extents[axis - 1 :]
    weights = [array for array in (call.weight(1, *range(len(shape) + 1)), call.operand(2)) if array is not None]
    arrays = [np.ascontiguousarray(np.broadcast_to(array, shape)) for array in weights]
    how = {"axis": list(range(axis, stack.rank)), "epsilon": call.attribute("epsilon", 1e-5)}
    stack.add(layers.LayerNormalization(center=len(arrays) > 1, **how), *arrays)


def _instance_normalization(stack: Stack, call: Call) -> None:
    spatial_rank(stack)
    stack.put_channels_last()
    vectors = [call.weight(place, 1) for place in (1, 2)]
    if any(vector.shape != stack.shape[-1:] for vector in vectors):
        raise Unreadable(f"has weights of {[v.shape for v in vectors]} for {stack.shape[-1]} channels")
    stack.add(layers.GroupNormalization(-1, epsilon=call.attribute("epsilon", 1e-5)), *vectors)


def _prelu(stack: Stack, call: Call) -> None:
    slope = call.weight(1, *range(stack.rank + 1))
    extents = stack.extents
    if stack.rank < 2 or slope.ndim > len(extents):
        raise Unreadable(f"has slopes of shape {slope.shape} for {stack.described}")
    slope = slope.reshape((1,) * (len(extents) - slope.ndim) + slope.shape)
    if any(n not in (1, extent) for n, extent in zip(slope.shape, extents, strict=True)):
        raise Unreadable(f"has slopes of shape {slope.shape} for {stack.described}")
    if stack.channels_first:
        slope, extents = np.moveaxis(slope, 0, -1), (*extents[1:], extents[0])
    shared = [axis for axis, n in enumerate(slope.shape, 1) if n == 1]
    stack.add(layers.PReLU(shared_axes=shared or None), np.ascontiguousarray(slope))


def _pooling(stack: Stack, call: Call) -> None:
    rank = spatial_rank(stack)
    call.only_first_output()
    call.only(storage_order=0)
    stack.put_channels_last()
    size = call.attribute("kernel_shape")
    if not isinstance(size, list):
        raise Unreadable("has no kernel_shape")
    window = Window(call, size, stack.shape[:-1])
    if max(window.dilation) > 1:
        raise Unreadable(f"has dilations={list(window.dilation)}: pooling layers have none")
    mean, counted = call.node.op == "AveragePool", call.attribute("count_include_pad", 0)
    name = window.name
    if mean and counted and name != "valid" and call.attribute("ceil_mode", 0):
        raise Unreadable("has count_include_pad with ceil_mode, which no layer has")
    if name is None or (mean and counted and name == "same"):
        never_wins = not mean and stack.layers and expressions.is_never_negative(stack.layers[-1])
        if not (never_wins or (mean and counted)):
            raise Unreadable(f"has pads {window.pads}: pooling layers pad as 'valid' or 'same' do")
        stack.add(getattr(layers, f"ZeroPadding{rank}D")(window.pads if rank > 1 else window.pads[0]))
        name = "valid"
    cls = getattr(layers, f"{'Average' if mean else 'Max'}Pooling{rank}D")
    stack.add(cls(window.size, strides=window.strides, padding=name))


def _global_pooling(stack: Stack, call: Call) -> None:
    rank = spatial_rank(stack)
    stack.put_channels_last()
    stack.add(_global_layer(call, rank, keepdims=True))


def _global_layer(call: Call, rank: int, keepdims: bool) -> Any:
    word = "Max" if "Max" in call.node.op else "Average"
    return getattr(layers, f"Global{word}Pooling{rank}D")(keepdims=keepdims)


def _reduction(stack: Stack, call: Call) -> None:
    """A mean or maximum over all pixels."""
    rank = spatial_rank(stack)
    axes = sorted(axis % stack.rank for axis in call.integers("axes", 1) or range(stack.rank))
    if axes == list(range(2, stack.rank)):
        stack.put_channels_last()
    elif axes == list(range(1, stack.rank - 1)):
        stack.keep_order()
    else:
        raise Unreadable(f"works over the axes {axes}: layers take all rows and columns, and keep the channels")
    keepdims = bool(call.attribute("keepdims", 1))
    stack.add(_global_layer(call, rank, keepdims))
    stack.channels_first = stack.channels_first and keepdims


def _dense(stack: Stack, call: Call) -> None:
    """Gemm."""
    call.only(transA=0)
    if stack.rank != 2:
        raise Unreadable(f"takes {stack.rank} axes: rows of values are needed")
    kernel = call.weight(1, 2) * np.float32(call.attribute("alpha", 1.0))
    kernel = kernel.T if call.attribute("transB", 0) else kernel
    bias = call.operand(2)
    arrays = [] if bias is None else [_vector(bias, kernel.shape[1]) * np.float32(call.attribute("beta", 1.0))]
    _add_dense(stack, kernel, arrays)


def _vector(array: np.ndarray, units: int) -> np.ndarray:
    """A bias of one value for each output."""
    if array.dtype != np.float32 or array.size not in (1, units) or array.shape[-1:] not in ((), (1,), (units,)):
        raise Unreadable(f"has a bias of shape {array.shape}: one number for each of {units} outputs is needed")
    return np.broadcast_to(array.reshape(-1), (units,))


def _product(stack: Stack, call: Call) -> None:
    """MatMul."""
    if call.node.inputs[0] in call.constants:
        return _resize_rows(stack, call.weight(0, 2))
    if _resize_columns(stack, call.weight(1, 2)):
        return None
    if stack.rank > 2:
        stack.keep_order()
    return _add_dense(stack, call.weight(1, 2), [])


def _resize_rows(stack: Stack, left: np.ndarray) -> None:
    """The first of the two products that gpucnn writes for Resizing."""
    if stack.rank == 4 and stack.channels_first and left.shape[1] == stack.shape[0]:
        layer = layers.Resizing(left.shape[0], stack.shape[1])
        if _interpolates(left, layer, 0, stack.shape[0]):
            return stack.add(layer)
    raise Unreadable("multiplies with a weight from the left, which is not the interpolation of the layer Resizing")


def _resize_columns(stack: Stack, right: np.ndarray) -> bool:
    """Whether this is the second one; if so, the layer is completed."""
    last = stack.layers[-1] if stack.layers else None
    if type(last) is not layers.Resizing or not stack.channels_first or right.shape[0] != stack.shape[1]:
        return False
    layer = layers.Resizing(last.height, right.shape[1])
    if not _interpolates(right.T, layer, 1, stack.shape[1]):
        return False
    stack.layers[-1], stack.shape = layer, (last.height, right.shape[1], stack.shape[2])
    return True


def _interpolates(weights: np.ndarray, layer: layers.Resizing, axis: int, extent: int) -> bool:
    """Whether these are the weights of an axis, but for the rounding of coordinates on another device."""
    if extent > _LARGEST_SIDE:
        raise Unreadable(f"resizes images of {extent} pixels: at most {_LARGEST_SIDE} are read")
    off = np.abs(weights - interpolation(layer, axis, extent)).max(initial=0)
    return bool(off <= 4 * max(weights.shape) * np.finfo(np.float32).eps)


def _add_dense(stack: Stack, kernel: np.ndarray, arrays: list[np.ndarray]) -> None:
    if kernel.shape[0] != stack.shape[-1] or not kernel.shape[1]:
        raise Unreadable(f"has a weight of shape {kernel.shape}, which does not fit {stack.shape[-1]} values")
    kernel = stack.ordered(kernel)
    stack.flat = None
    stack.add(layers.Dense(kernel.shape[1], use_bias=bool(arrays)), kernel, *arrays)


def _batch_normalization(stack: Stack, call: Call) -> None:
    call.only(training_mode=0, spatial=1)
    call.only_first_output()
    if stack.rank < 2:
        raise Unreadable("takes one axis")
    stack.put_channels_last()
    vectors = [stack.ordered(call.weight(place, 1)) for place in range(1, 5)]
    if any(vector.shape != stack.shape[-1:] for vector in vectors):
        raise Unreadable(f"has weights of {[v.shape for v in vectors]} for {stack.shape[-1]} channels")
    how = {"epsilon": call.attribute("epsilon", 1e-5), "momentum": call.attribute("momentum", 0.9)}
    stack.add(layers.BatchNormalization(**how), *vectors)


def _softmax(stack: Stack, call: Call) -> None:
    default = -1 if call.opset >= 13 else 1
    axis = call.attribute("axis", default) % stack.rank
    if call.opset < 13 and math.prod(stack.extents[axis:]) > 1:
        raise Unreadable(f"of opset {call.opset} works over several axes from {axis} on: export it with opset 17")
    if call.node.op == "Softmax" and axis not in (0, 1, stack.rank - 1):
        stack.keep_order()
        return stack.add(layers.Softmax(axis))
    stack.put_last(axis)
    return stack.add(layers.Activation("softmax" if call.node.op == "Softmax" else "log_softmax"))


def _flatten(stack: Stack, call: Call) -> None:
    axis = call.attribute("axis", 1)
    if (axis if axis >= 0 else axis + stack.rank) != 1:
        raise Unreadable(f"has axis={axis}: the layer Flatten keeps the first axis, and that alone")
    stack.flatten()


def _reshape(stack: Stack, call: Call) -> None:
    target = call.integers("shape", 1)
    if not target:
        raise Unreadable("has no shape")
    extents, size, zero_copies = stack.extents, _product_of(stack.extents), not call.attribute("allowzero", 0)
    first, rest = target[0], target[1:]
    for place, extent in enumerate(rest):
        if extent == 0 and zero_copies and place < len(extents):
            rest[place] = extents[place]
    kept = first in (-1, BATCH) or (first == 0 and zero_copies) or (first == call.batch and call.batch is not None)
    others = -_product_of(rest)
    if first != -1 and rest.count(-1) == 1 and others > 0 and size % others == 0:
        rest[rest.index(-1)] = size // others
    if not kept or not rest or min(rest) < 1 or _product_of(rest) != size:
        raise Unreadable(f"reads {stack.described} as {tuple(target)}: layers do not change the number of samples")
    stack.reshape(tuple(rest))


def _product_of(extents: Sequence[int]) -> int:
    return math.prod(extents)


def _squeeze(stack: Stack, call: Call) -> None:
    axes = call.integers("axes", 1)
    axes = [axis % stack.rank for axis in axes] if axes else [a for a, e in enumerate(stack.extents, 1) if e == 1]
    if 0 in axes or any(stack.extents[axis - 1] != 1 for axis in axes):
        raise Unreadable(f"removes the axes {axes} of {stack.described}: they must be 1, and not the first")
    target = tuple(extent for axis, extent in enumerate(stack.extents, 1) if axis not in axes)
    if not target:
        raise Unreadable("leaves no axis but the first")
    stack.reshape(target)


def _unsqueeze(stack: Stack, call: Call) -> None:
    axes = call.integers("axes", 1) or []
    rank = stack.rank + len(axes)
    places = {axis % rank for axis in axes}
    if 0 in places or len(places) != len(axes) or rank > 8:
        raise Unreadable(f"adds the axes {axes}: the first is the batch axis")
    extents = iter(stack.extents)
    stack.reshape(tuple(1 if axis in places else next(extents) for axis in range(1, rank)))


def _transpose(stack: Stack, call: Call) -> None:
    rank = stack.rank
    perm = [axis % rank for axis in call.attribute("perm", list(reversed(range(rank))))]
    if perm[:1] != [0] or sorted(perm) != list(range(rank)):
        raise Unreadable(f"has perm={perm}: layers keep the batch axis first")
    if rank > 2 and stack.channels_first and perm == [0, *range(2, rank), 1]:
        stack.channels_first = False
    elif rank > 2 and not stack.channels_first and perm == [0, rank - 1, *range(1, rank - 1)]:
        stack.channels_first = True
    elif rank > 2:
        stack.keep_order()
        stack.add(layers.Permute(tuple(perm[1:])))


def _pad(stack: Stack, call: Call) -> None:
    rank = spatial_rank(stack)
    call.only(mode="constant")
    pads = call.integers("pads", 1)
    axes = call.integers("axes", 3) if len(call.node.inputs) > 3 else None
    axes = list(range(stack.rank)) if axes is None else [axis % stack.rank for axis in axes]
    if call.number("value", 2, 0.0) != 0 or pads is None or len(pads) != 2 * len(axes) or min(pads) < 0:
        raise Unreadable("does not add zeros: the layers ZeroPadding do that alone")
    around = dict.fromkeys(range(stack.rank), (0, 0)) | dict(zip(axes, zip(pads[: len(axes)], pads[len(axes) :])))
    if max(around[1]):
        stack.keep_order()
    elif max(around[stack.rank - 1]):
        stack.put_channels_last()
    kept = stack.channel_axis
    if max(around[0]) or max(around[kept]):
        raise Unreadable(f"pads {around}: the layers ZeroPadding keep samples and channels")
    spatial = [around[axis] for axis in range(1, stack.rank) if axis != kept]
    if any(map(any, spatial)):
        stack.add(getattr(layers, f"ZeroPadding{rank}D")(spatial if rank > 1 else spatial[0]))


def _dropout(stack: Stack, call: Call) -> None:
    call.only_first_output()
    training = call.operand(2)
    if training is not None and training.any():
        raise Unreadable("is in training mode: export the model for inference")
    rate = call.number("ratio", 1, 0.5)
    if 0 < rate <= 1:
        stack.add(layers.Dropout(rate))


def add_affine(stack: Stack, call: Call, array: np.ndarray, reverse: bool) -> None:
    """Add or multiply a constant of several values: a bias, or a scale and a shift of each channel.

    reverse  the constant is the first operand
    """
    op = call.node.op
    if op not in ("Add", "Sub", "Mul", "Div") or array.dtype != np.float32:
        raise Unreadable(f"takes a constant of shape {array.shape}, which no layer does")
    if array.ndim > stack.rank or (reverse and op in ("Sub", "Div")):
        raise Unreadable(f"takes {array.shape} and {stack.described}: layers do not broadcast like this")
    extents = (1,) * (stack.rank - array.ndim) + array.shape
    axes = [axis for axis, extent in enumerate(extents) if extent > 1]
    if len(axes) != 1 or axes == [0] or extents[axes[0]] != stack.extents[axes[0] - 1]:
        raise Unreadable(f"takes a constant of shape {array.shape}: one value for each channel can be a layer")
    stack.put_last(axes[0])
    vector = stack.ordered(array.reshape(-1))
    if op == "Sub":
        vector = -vector
    if op == "Div":
        vector = 1 / vector
    if op in ("Add", "Sub") and stack.set_bias(vector):
        return
    scales = op in ("Mul", "Div")
    zeros, ones = np.zeros_like(vector), np.ones_like(vector)
    layer = layers.BatchNormalization(epsilon=0.0, scale=scales, center=not scales)
    stack.add(layer, vector, zeros, ones)


_HANDLERS: dict[str, Callable[[Stack, Call], None]] = {
    "AveragePool": _pooling,
    "BatchNormalization": _batch_normalization,
    "Conv": _convolution,
    "ConvTranspose": sizes.transposed_convolution,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gemm": _dense,
    "GlobalAveragePool": _global_pooling,
    "GlobalMaxPool": _global_pooling,
    "InstanceNormalization": _instance_normalization,
    "LayerNormalization": _layer_normalization,
    "LogSoftmax": _softmax,
    "MatMul": _product,
    "MaxPool": _pooling,
    "PRelu": _prelu,
    "Pad": _pad,
    "ReduceMax": _reduction,
    "ReduceMean": _reduction,
    "Reshape": _reshape,
    "Resize": sizes.resize,
    "Slice": sizes.part,
    "Softmax": _softmax,
    "Squeeze": _squeeze,
    "Tile": sizes.tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
