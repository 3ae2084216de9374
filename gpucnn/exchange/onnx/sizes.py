"""Nodes of ONNX that change the sizes of images, as layers: they enlarge, repeat or cut."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import layers
from .building import Stack, Unreadable, spatial_rank
from .call import Call


def transposed_convolution(stack: Stack, call: Call) -> None:
    """The largest result, without the cells that the node cuts off."""
    rank = spatial_rank(stack)
    weight, bias = call.weight(1, rank + 2), call.operand(2)
    call.only(group=1, auto_pad="NOTSET")
    if call.attribute("output_shape") is not None:
        raise Unreadable("has an output_shape: export it with pads")
    stack.put_channels_last()
    size, channels = weight.shape[2:], stack.shape[-1]
    strides, dilation = (tuple(call.attribute(word, [1] * rank)) for word in ("strides", "dilations"))
    pads, extra = call.attribute("pads", [0] * (2 * rank)), call.attribute("output_padding", [0] * rank)
    lengths = {len(strides), len(dilation), len(extra), len(pads) // 2, len(call.attribute("kernel_shape", size))}
    if lengths != {rank} or min((*pads, *extra)) < 0 or weight.shape[0] != channels:
        raise Unreadable(f"has a window or a weight of shape {weight.shape} that does not fit {channels} channels")
    if bias is not None and bias.ndim != 1:
        raise Unreadable("has a bias that is not one number for each filter")
    cut = list(zip(pads[:rank], pads[rank:], strict=True))
    cls = getattr(layers, f"Conv{rank}DTranspose")
    common: dict[str, Any] = {"strides": strides, "dilation_rate": dilation, "use_bias": bias is not None}
    layer = cls(weight.shape[1], size, output_padding=tuple(extra), **common)
    same = cls(weight.shape[1], size, padding="same", **common)
    largest = [s for s in layer.compute_output_shape((None, *stack.shape))[1:-1]]
    ends = [s - before - after for s, (before, after) in zip(largest, cut, strict=True)]
    starts = [before for before, _ in same._padding(stack.shape[:-1])]
    if any(map(any, cut)) and ends == list(same._larger(stack.shape[:-1])) and starts == [c[0] for c in cut]:
        layer, cut = same, [(0, 0)] * rank
    arrays = [] if bias is None else [bias]
    stack.add(layer, np.ascontiguousarray(np.moveaxis(weight, (0, 1), (-1, -2))), *arrays)
    if any(map(any, cut)):
        stack.add(getattr(layers, f"Cropping{rank}D")(cut if rank > 1 else cut[0]))


def resize(stack: Stack, call: Call) -> None:
    """Whole factors."""
    rank = spatial_rank(stack)
    scales = call.operand(2)
    mode, places = call.attribute("mode", "nearest"), call.attribute("coordinate_transformation_mode", "half_pixel")
    if scales is None or scales.size != stack.rank or (scales != np.round(scales)).any() or scales.min() < 1:
        raise Unreadable("does not enlarge by whole factors: the layers UpSampling do that alone")
    whole = [int(scale) for scale in scales.reshape(-1)]
    nearest = mode == "nearest" and places == "asymmetric" and call.attribute("nearest_mode") == "floor"
    if not nearest and not (mode == "linear" and places == "half_pixel" and rank == 2):
        raise Unreadable(f"has mode={mode!r} with {places!r}, which no layer has")
    stack.put_channels_last()
    if whole[0] != 1 or whole[1] != 1:
        raise Unreadable("enlarges samples or channels: the layers UpSampling keep these")
    how = {} if nearest else {"interpolation": "bilinear"}
    stack.add(getattr(layers, f"UpSampling{rank}D")(tuple(whole[2:]), **how))


def tile(stack: Stack, call: Call) -> None:
    """Rows repeated, as RepeatVector is written."""
    times = call.integers("repeats", 1)
    last = stack.layers[-1] if stack.layers else None
    if stack.rank != 3 or times is None or len(times) != 3 or stack.channels_first or stack.shape[0] != 1:
        raise Unreadable("repeats other axes than that of a row: the layer RepeatVector does that alone")
    if times[0] != 1 or times[2] != 1 or times[1] < 1:
        raise Unreadable(f"repeats {times}: the layer RepeatVector repeats a row alone")
    if isinstance(last, layers.Reshape):
        stack.layers.pop()
        stack.weights.pop()
        stack.shape = stack.shape[-1:]
        return stack.add(layers.RepeatVector(times[1]))
    return stack.add(layers.UpSampling1D(times[1]))


def part(stack: Stack, call: Call) -> None:
    """Cells cut off the ends of axes."""
    rank = spatial_rank(stack)
    starts, ends, axes = (call.integers(word, place) for place, word in enumerate(("starts", "ends", "axes"), 1))
    steps = call.integers("steps", 4) or [1]
    axes = axes if axes is not None else list(range(len(starts or [])))
    if not starts or not ends or len(starts) != len(ends) or len(axes) != len(starts) or set(steps) != {1}:
        raise Unreadable("takes no part of an input that a layer takes")
    cut = {axis % stack.rank: (start, end) for axis, start, end in zip(axes, starts, ends, strict=True)}
    if 1 in cut and not stack.channels_first:
        stack.keep_order()
    elif stack.rank - 1 in cut and 1 not in cut:
        stack.put_channels_last()
    pairs = []
    for axis in (axis for axis in range(1, stack.rank) if axis != stack.channel_axis):
        extent = stack.extents[axis - 1]
        start, end = (max(0, min(n + extent if n < 0 else n, extent)) for n in cut.pop(axis, (0, extent)))
        if end <= start:
            raise Unreadable("leaves nothing of its input")
        pairs.append((start, extent - end))
    if cut:
        raise Unreadable("cuts samples or channels: layers cut rows and columns")
    if rank == 2 and all(after - before in (0, 1) for before, after in pairs):
        height, width = (extent - sum(pair) for extent, pair in zip(stack.shape[:-1], pairs, strict=True))
        return stack.add(layers.CenterCrop(height, width))
    return stack.add(getattr(layers, f"Cropping{rank}D")(pairs if rank > 1 else pairs[0]))
