"""Layers as modules of PyTorch: their source text, and where their weights lie in a `state_dict`.

PyTorch has channels first: (N, C, H, W) where gpucnn has (N, H, W, C). A row of values that is
flattened from (C, H, W) has another order than gpucnn's, so the rows of the next dense kernel are
reordered; where that is not possible, the axes are permuted before.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import layers
from ...activations import Activation, ClippedReLU, Elementwise, Linear, LogSoftmax, Softmax, SoftmaxOver
from ...errors import ArgumentError
from ...layers.layer import Layer, Weight
from ...models.model import Model
from . import convolutions
from .helpers import ACTIVATIONS, HELPERS, last_first, same, unless_default

Turn = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Slot:
    """A tensor of the `state_dict`.

    weight         the weight of gpucnn; None if the layer has none, and `constant` stands for it
    to_torch       turns the weight's array into the tensor's
    from_torch     the reverse
    written        whether the exported module has the tensor; a `state_dict` that is loaded may have it anyway
    """

    weight: Weight | None
    shape: tuple[int, ...]
    to_torch: Turn
    from_torch: Turn
    constant: float = 0.0
    written: bool = True

    def array(self) -> np.ndarray:
        """The tensor's values as a new float32 array."""
        if self.weight is None:
            return np.full(self.shape, self.constant, np.float32)
        return np.ascontiguousarray(self.to_torch(self.weight.numpy()))


class Modules:
    """The modules of a model in a row.

    lines    (name, constructor) of each module
    slots    the tensors of the `state_dict` by name
    helpers  the classes in `HELPERS` that the constructors use
    """

    def __init__(self, model: Model) -> None:
        if not model.built:
            raise ArgumentError("the model has no weights yet: give it an Input, or fit it first")
        self.lines: list[tuple[str, str]] = []
        self.slots: dict[str, Slot] = {}
        self.helpers: set[str] = set()
        self.channels_first = len(model.input_shape) > 2
        self._order: np.ndarray | None = None
        self._name = ""
        for place, layer in enumerate(model.layers):
            self._name = re.sub(r"\W", "_", layer.name)
            self._add(layer, model.layers[place + 1 :])
        self._name = "output"
        self.layout(len(model.output_shape), channels_first=True)

    def line(self, constructor: str, suffix: str = "") -> None:
        """Add a module, named after its layer."""
        helper = constructor.split("(")[0]
        if helper in HELPERS:
            self.helpers.add(helper)
        name, number = f"{self._name}{suffix}", 1
        while any(name == taken for taken, _ in self.lines):
            number += 1
            name = f"{self._name}{suffix}_{number}"
        self.lines.append((name, constructor))

    def slot(self, word: str, weight: Weight | None, to_torch: Turn, from_torch: Turn, constant: float = 0.0) -> None:
        """Add a tensor of the last module."""
        shape = np.shape(to_torch(np.broadcast_to(np.float32(0), weight.shape))) if weight is not None else (0,)
        self.slots[f"{self.lines[-1][0]}.{word}"] = Slot(weight, shape, to_torch, from_torch, constant)

    def layout(self, rank: int, channels_first: bool) -> None:
        """Permute a tensor of so many axes unless its channels are where they are needed."""
        if rank < 3 or channels_first == self.channels_first:
            return
        axes = [0, rank - 1, *range(1, rank - 1)] if channels_first else [0, *range(2, rank), 1]
        self.line(f"Permute({', '.join(map(str, axes))})", "_order")
        self.channels_first = channels_first

    def _add(self, layer: Layer, following: list[Layer]) -> None:
        kind = type(layer)
        writer = _WRITERS.get(kind)
        if writer is None:
            raise ArgumentError(
                f"the layer {layer.name} ({kind.__name__}) cannot be written for PyTorch, which has no counterpart: "
                "leave it out, or export as .onnx"
            )
        shape = layer.input_shape or ()
        if kind is layers.Flatten:
            self._flatten(shape, following)
        else:
            writer(self, layer, shape)

    # -- layers --------------------------------------------------------------------------------------------------------

    def _convolution(self, layer: Any, shape: tuple[Any, ...]) -> None:
        self.layout(len(shape), channels_first=True)
        channels, filters = shape[-1], layer.output_shape[-1]
        groups, rank = layer._groups(channels), len(shape) - 2
        padding = self.padding(rank, layer._padding(shape[1:-1]), "0.0")
        ones, zeros = (1,) * rank, (0,) * rank
        how = unless_default("stride", layer.strides, ones) + unless_default("padding", padding, zeros)
        how += unless_default("dilation", layer.dilation_rate, ones) + unless_default("groups", groups, 1)
        how += unless_default("bias", layer.use_bias, True)
        self.line(f"nn.Conv{rank}d({channels}, {filters}, {layer.kernel_size}{how})")
        full, kept = (*layer.kernel_size, channels // groups, filters), layer.kernel.shape
        self.slot(
            "weight",
            layer.kernel,
            lambda array: np.moveaxis(array.reshape(full), (-1, -2), (0, 1)),
            lambda array: np.moveaxis(array, (0, 1), (-1, -2)).reshape(kept),
        )
        if layer.use_bias:
            self.slot("bias", layer.bias, same, same)
        self.activation(layer.activation, layer, len(shape))

    def padding(self, rank: int, pairs: Any, value: str) -> tuple[int, ...]:
        """The padding argument; what is not the same on both sides becomes a module before."""
        if all(before == after for before, after in pairs):
            return tuple(before for before, _ in pairs)
        self.line(f"nn.ConstantPad{rank}d({last_first(pairs)}, {value})", "_padding")
        return (0,) * rank

    def _dense(self, layer: layers.Dense, shape: tuple[Any, ...]) -> None:
        self.layout(len(shape), channels_first=False)
        order, self._order = self._order, None
        self.line(f"nn.Linear({shape[-1]}, {layer.units}{unless_default('bias', layer.use_bias, True)})")
        back = None if order is None else np.argsort(order)
        self.slot(
            "weight",
            layer.kernel,
            lambda array: (array if order is None else array[order]).T,
            lambda array: array.T if back is None else array.T[back],
        )
        if layer.use_bias:
            self.slot("bias", layer.bias, same, same)
        self.activation(layer.activation, layer, len(shape))

    def _batch_normalization(self, layer: layers.BatchNormalization, shape: tuple[Any, ...]) -> None:
        self.layout(len(shape), channels_first=True)
        rank = max(1, len(shape) - 2)
        momentum = round(1 - layer.momentum, 12)
        how = "" if layer.center or layer.scale else ", affine=False"
        self.line(f"nn.BatchNorm{rank}d({shape[-1]}, eps={layer.epsilon!r}, momentum={momentum!r}{how})")
        order = self._order
        turns: tuple[Turn, Turn] = (same, same)
        if order is not None:
            back = np.argsort(order)
            turns = (lambda array: array[order], lambda array: array[back])
        self._scale_and_shift(layer, shape[-1:], turns, not how)
        self.slot("running_mean", layer.moving_mean, *turns)
        self.slot("running_var", layer.moving_variance, *turns)

    def _max_pooling(self, layer: Any, shape: tuple[Any, ...]) -> None:
        self.layout(len(shape), channels_first=True)
        rank, padding = len(shape) - 2, layer._padding(shape[1:-1])
        inside = self.padding(rank, padding, 'float("-inf")')
        how = unless_default("stride", layer.strides, layer.pool_size)
        how += unless_default("padding", inside, (0,) * rank)
        self.line(f"nn.MaxPool{rank}d({layer.pool_size}{how})")

    def _average_pooling(self, layer: Any, shape: tuple[Any, ...]) -> None:
        self.layout(len(shape), channels_first=True)
        rank, pairs = len(shape) - 2, layer._padding(shape[1:-1])
        if all(before == after for before, after in pairs):
            padding = tuple(before for before, _ in pairs)
            how = unless_default("stride", layer.strides, layer.pool_size)
            if any(padding):
                how += f", padding={padding}, count_include_pad=False"
            self.line(f"nn.AvgPool{rank}d({layer.pool_size}{how})")
        else:
            self.line(f"AveragePooling({layer.pool_size}, {layer.strides}, {last_first(pairs)})")

    def _global(self, layer: Any, shape: tuple[Any, ...]) -> None:
        self.layout(len(shape), channels_first=True)
        word = "Max" if "Max" in type(layer).__name__ else "Avg"
        self.line(f"nn.Adaptive{word}Pool{len(shape) - 2}d(1)")
        if not layer.keepdims:
            self.line("nn.Flatten()", "_flatten")

    def _dropout(self, layer: Any, shape: tuple[Any, ...]) -> None:
        spatial = "Spatial" in type(layer).__name__
        if spatial:
            self.layout(len(shape), channels_first=True)
        self.line(f"nn.Dropout{f'{len(shape) - 2}d' if spatial else ''}({layer.rate!r})")

    def _flatten(self, shape: tuple[Any, ...], following: list[Layer]) -> None:
        if len(shape) < 3:
            return
        if self.channels_first and shape[-1] > 1 and math.prod(shape[1:-1]) > 1:
            if _dense_comes_next(following):
                places = np.arange(math.prod(shape[1:])).reshape(shape[1:])
                self._order = np.moveaxis(places, -1, 0).reshape(-1)
            else:
                self.layout(len(shape), channels_first=False)
        self.line("nn.Flatten()")

    def _reshape(self, layer: Any, shape: tuple[Any, ...]) -> None:
        self.layout(len(shape), channels_first=False)
        self.line("nn.Flatten()" if len(layer.output_shape) == 2 else f"Reshape{layer.output_shape[1:]}")
        self.channels_first = False

    def _permute(self, layer: layers.Permute, shape: tuple[Any, ...]) -> None:
        self.layout(len(shape), channels_first=False)
        self.line(f"Permute(0, {', '.join(map(str, layer.dims))})")
        self.channels_first = False

    def _zero_padding(self, layer: Any, shape: tuple[Any, ...]) -> None:
        self.layout(len(shape), channels_first=True)
        self.line(f"nn.ConstantPad{len(shape) - 2}d({last_first(layer.padding)}, 0.0)")

    def _crop(self, layer: Any, shape: tuple[Any, ...]) -> None:
        """The middle of each image, by a padding with negative numbers of cells."""
        self.layout(len(shape), channels_first=True)
        cut = [extent - side for extent, side in zip(shape[1:3], (layer.height, layer.width), strict=True)]
        pairs = [(-(cells // 2), -(cells - cells // 2)) for cells in cut]
        self.line(f"nn.ConstantPad2d({last_first(pairs)}, 0.0)")

    def _resizing(self, layer: layers.Resizing, shape: tuple[Any, ...]) -> None:
        self.layout(len(shape), channels_first=True)
        self.line(f"Resizing({layer.height}, {layer.width})")

    def _layer_normalization(self, layer: layers.LayerNormalization, shape: tuple[Any, ...]) -> None:
        self.layout(len(shape), channels_first=False)
        extents = layer._weight_shape(shape)
        how = "" if layer.center else ", bias=False" if layer.scale else ", elementwise_affine=False"
        self.line(f"nn.LayerNorm({extents}, eps={layer.epsilon!r}{how})")
        self._scale_and_shift(layer, extents, (same, same), not how)

    def _group_normalization(self, layer: layers.GroupNormalization, shape: tuple[Any, ...]) -> None:
        self.layout(len(shape), channels_first=True)
        _, channels, groups = layer._parts(shape)
        how = "" if layer.center or layer.scale else ", affine=False"
        self.line(f"nn.GroupNorm({groups}, {channels}, eps={layer.epsilon!r}{how})")
        self._scale_and_shift(layer, (channels,), (same, same), not how)

    def _scale_and_shift(self, layer: Any, extents: tuple[int, ...], turns: tuple[Turn, Turn], written: bool) -> None:
        """Tensors of a normalisation. Where PyTorch has no module without one, a constant stands for it (`written`)."""
        for word, weight, constant in (("weight", layer.gamma, 1.0), ("bias", layer.beta, 0.0)):
            if weight is None:
                self.slots[f"{self.lines[-1][0]}.{word}"] = Slot(None, extents, same, same, constant, written)
            else:
                self.slot(word, weight, *turns)

    def _prelu(self, layer: layers.PReLU, shape: tuple[Any, ...]) -> None:
        self.layout(len(shape), channels_first=True)
        extents = layer.alpha.shape
        turned = (extents[-1], *extents[:-1]) if len(shape) > 2 else extents
        self.line(f"Slopes{turned}" if len(turned) > 1 else f"Slopes({turned[0]})")
        self.slot(
            "weight",
            layer.alpha,
            lambda array: np.moveaxis(array, -1, 0),
            lambda array: np.moveaxis(array, 0, -1),
        )

    def _softmax(self, layer: layers.Softmax, shape: tuple[Any, ...]) -> None:
        if not isinstance(layer.activation, SoftmaxOver):
            return self._activation_layer(layer, shape)
        self.layout(len(shape), channels_first=False)
        axes = layer.activation.axes
        return self.line(f"nn.Softmax(dim={axes[0]})" if len(axes) == 1 else f"SoftmaxOver{axes}")

    def _cropping(self, layer: Any, shape: tuple[Any, ...]) -> None:
        self.layout(len(shape), channels_first=True)
        cut = [(-before, -after) for before, after in layer.cropping]
        self.line(f"nn.ConstantPad{len(shape) - 2}d({last_first(cut)}, 0.0)")

    def _upsampling(self, layer: Any, shape: tuple[Any, ...]) -> None:
        self.layout(len(shape), channels_first=True)
        mode = getattr(layer, "interpolation", "nearest")
        factors = layer.size if len(layer.size) > 1 else layer.size[0]
        self.line(f"nn.Upsample(scale_factor={factors}, mode={mode!r})")

    def _repeat_vector(self, layer: layers.RepeatVector, shape: tuple[Any, ...]) -> None:
        self.line(f"RepeatVector({layer.n})")
        self.channels_first = False

    def _parallel(self, layer: layers.Parallel, shape: tuple[Any, ...]) -> None:
        """All paths take and return channels first."""
        self.layout(len(shape), channels_first=True)
        before, name, paths, inside = (self.lines, self.slots), self._name, [], {}
        for number, path in enumerate(layer.paths):
            self.lines, self.slots, self.channels_first = [], {}, len(shape) > 2
            for place, part in enumerate(path):
                self._name = re.sub(r"\W", "_", part.name)
                self._add(part, path[place + 1 :])
            self._name = name
            self.layout(len(layer.output_shape or ()), channels_first=True)
            paths.append(f"nn.Sequential({', '.join(constructor for _, constructor in self.lines)})")
            places = {line: str(place) for place, (line, _) in enumerate(self.lines)}
            for key, slot in self.slots.items():
                line, _, rest = key.partition(".")
                inside[f"paths.{number}.{places[line]}.{rest}"] = slot
        (self.lines, self.slots), self._name = before, name
        self.channels_first = len(layer.output_shape or ()) > 2
        self.line(f"Parallel({layer.merge!r}, {', '.join(paths)})")
        self.slots |= {f"{self.lines[-1][0]}.{key}": slot for key, slot in inside.items()}

    def _nothing(self, layer: Layer, shape: tuple[Any, ...]) -> None:
        """Augmentation, which returns its input in inference."""

    def _rescaling(self, layer: layers.Rescaling, shape: tuple[Any, ...]) -> None:
        self.line(f"Rescaling({layer.scale!r}, {layer.offset!r})")

    def _activation_layer(self, layer: layers.Activation, shape: tuple[Any, ...]) -> None:
        self.activation(layer.activation, layer, len(shape), "")

    def activation(self, function: Activation, layer: Layer, rank: int, suffix: str = "_activation") -> None:
        """Add the module of an activation; none for a linear one."""
        kind = type(function)
        if kind is Linear:
            return
        if isinstance(function, Elementwise) and kind is Elementwise:
            self.line(ACTIVATIONS[function.name].format(repr(function.alpha)), suffix)
        elif isinstance(function, ClippedReLU) and kind is ClippedReLU:
            numbers = (function.params[name] for name in ("max_value", "negative_slope", "threshold"))
            shown = ", ".join('float("inf")' if math.isinf(number) else repr(number) for number in numbers)
            self.line(f"ClippedReLU({shown})", suffix)
        elif kind in (Softmax, LogSoftmax):
            axis = 1 if self.channels_first or rank == 2 else -1
            self.line(f"nn.{kind.__name__}(dim={axis})", suffix)
        else:
            raise ArgumentError(
                f"{layer.name}: the activation {function.name} cannot be written for PyTorch; use one of "
                "gpucnn.activations"
            )


def _dense_comes_next(following: list[Layer]) -> bool:
    """Whether a dense layer reads the row of values, with only layers before it that keep its order."""
    passing = (layers.Activation, layers.Dropout, layers.BatchNormalization, layers.Rescaling)
    for layer in following:
        if isinstance(layer, layers.Dense):
            return True
        if not isinstance(layer, passing):
            return False
    return False


def _of_each_rank(name: str, writer: Callable[..., None]) -> dict[type, Callable[..., None]]:
    return {getattr(layers, f"{name}{rank}D"): writer for rank in (1, 2, 3)}


_WRITERS: dict[type, Callable[..., None]] = {
    **_of_each_rank("Conv", Modules._convolution),
    **_of_each_rank("MaxPooling", Modules._max_pooling),
    **_of_each_rank("AveragePooling", Modules._average_pooling),
    **_of_each_rank("GlobalMaxPooling", Modules._global),
    **_of_each_rank("GlobalAveragePooling", Modules._global),
    **_of_each_rank("SpatialDropout", Modules._dropout),
    **_of_each_rank("ZeroPadding", Modules._zero_padding),
    **_of_each_rank("UpSampling", Modules._upsampling),
    **_of_each_rank("Cropping", Modules._cropping),
    **{getattr(layers, f"Conv{rank}DTranspose"): convolutions.transposed for rank in (1, 2, 3)},
    **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), convolutions.separable),
    **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), Modules._convolution),
    **dict.fromkeys((layers.Parallel, layers.Residual), Modules._parallel),
    **dict.fromkeys((layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU), Modules._activation_layer),
    layers.GroupNormalization: Modules._group_normalization,
    layers.LayerNormalization: Modules._layer_normalization,
    layers.PReLU: Modules._prelu,
    layers.RepeatVector: Modules._repeat_vector,
    layers.Softmax: Modules._softmax,
    **dict.fromkeys(
        (layers.RandomFlip, layers.RandomRotation, layers.RandomTranslation, layers.RandomZoom), Modules._nothing
    ),
    **dict.fromkeys((layers.RandomAffine, layers.RandomContrast), Modules._nothing),
    **dict.fromkeys((layers.CenterCrop, layers.RandomCrop), Modules._crop),
    layers.Dense: Modules._dense,
    layers.BatchNormalization: Modules._batch_normalization,
    layers.Dropout: Modules._dropout,
    layers.Flatten: Modules._flatten,
    layers.Reshape: Modules._reshape,
    layers.Permute: Modules._permute,
    layers.Rescaling: Modules._rescaling,
    layers.Resizing: Modules._resizing,
}
"""By the exact class: a subclass of the user's may compute something else."""
