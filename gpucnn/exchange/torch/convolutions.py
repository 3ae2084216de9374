"""Convolutions in several steps, and those that enlarge, as modules of PyTorch.

Each function adds a layer, for inputs of a shape, to the `Modules` of its model.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops.window import span
from .helpers import last_first, same, unless_default


def transposed(modules: Any, layer: Any, shape: tuple[Any, ...]) -> None:
    """A transposed convolution: where the sides differ, cells are cut off the largest result."""
    modules.layout(len(shape), channels_first=True)
    rank, sizes = len(shape) - 2, shape[1:-1]
    larger, pairs, extra = layer._larger(sizes), [], []
    for axis, (before, _) in enumerate(layer._padding(sizes)):
        reach = span(layer.kernel_size[axis], layer.dilation_rate[axis])
        behind = (sizes[axis] - 1) * layer.strides[axis] + reach - larger[axis] - before
        pairs.append((before, max(behind, 0)))
        extra.append(max(-behind, 0))
    even = all(before == after for before, after in pairs)
    padding = tuple(before if even else 0 for before, _ in pairs)
    how = unless_default("stride", layer.strides, (1,) * rank)
    how += unless_default("padding", padding, (0,) * rank)
    how += unless_default("output_padding", tuple(extra), (0,) * rank)
    how += unless_default("dilation", layer.dilation_rate, (1,) * rank)
    how += unless_default("bias", layer.use_bias, True)
    modules.line(f"nn.ConvTranspose{rank}d({shape[-1]}, {layer.filters}, {layer.kernel_size}{how})")
    modules.slot(
        "weight",
        layer.kernel,
        lambda array: np.moveaxis(array, (-1, -2), (0, 1)),
        lambda array: np.moveaxis(array, (0, 1), (-1, -2)),
    )
    if layer.use_bias:
        modules.slot("bias", layer.bias, same, same)
    if not even:
        cut = [(-before, -after) for before, after in pairs]
        modules.line(f"nn.ConstantPad{rank}d({last_first(cut)}, 0.0)", "_cut")
    modules.activation(layer.activation, layer, len(shape))


def separable(modules: Any, layer: Any, shape: tuple[Any, ...]) -> None:
    """A convolution of each channel, then one of all channels of a position."""
    modules.layout(len(shape), channels_first=True)
    rank, channels = len(shape) - 2, shape[-1]
    wide, kept = channels * layer.depth_multiplier, layer.depthwise_kernel.shape
    padding = modules.padding(rank, layer._padding(shape[1:-1]), "0.0")
    how = unless_default("stride", layer.strides, (1,) * rank)
    how += unless_default("padding", padding, (0,) * rank)
    how += unless_default("dilation", layer.dilation_rate, (1,) * rank)
    conv = f"nn.Conv{rank}d({channels}, {wide}, {layer.kernel_size}{how}, groups={channels}, bias=False)"
    modules.line(conv, "_depthwise")
    modules.slot(
        "weight",
        layer.depthwise_kernel,
        lambda array: np.moveaxis(array.reshape(*layer.kernel_size, 1, wide), (-1, -2), (0, 1)),
        lambda array: np.moveaxis(array, (0, 1), (-1, -2)).reshape(kept),
    )
    bias = unless_default("bias", layer.use_bias, True)
    modules.line(f"nn.Conv{rank}d({wide}, {layer.filters}, 1{bias})")
    modules.slot(
        "weight",
        layer.pointwise_kernel,
        lambda array: np.moveaxis(array, (-1, -2), (0, 1)),
        lambda array: np.moveaxis(array, (0, 1), (-1, -2)),
    )
    if layer.use_bias:
        modules.slot("bias", layer.bias, same, same)
    modules.activation(layer.activation, layer, len(shape))
