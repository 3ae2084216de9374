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
from ...ops.window import span

Turn = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Slot:
    """A tensor of the `state_dict`.

    weight         the weight of gpucnn; None if the layer has none, and `constant` stands for it
    to_torch       turns the weight's array into the tensor's
    from_torch     the reverse
    """

    weight: Weight | None
    shape: tuple[int, ...]
    to_torch: Turn
    from_torch: Turn
    constant: float = 0.0

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
        self._layout(len(model.output_shape), channels_first=True)

    def _line(self, constructor: str, suffix: str = "") -> None:
        helper = constructor.split("(")[0]
        if helper in HELPERS:
            self.helpers.add(helper)
        name, number = f"{self._name}{suffix}", 1
        while any(name == taken for taken, _ in self.lines):
            number += 1
            name = f"{self._name}{suffix}_{number}"
        self.lines.append((name, constructor))

    def _slot(self, word: str, weight: Weight | None, to_torch: Turn, from_torch: Turn, constant: float = 0.0) -> None:
        shape = np.shape(to_torch(np.broadcast_to(np.float32(0), weight.shape))) if weight is not None else (0,)
        self.slots[f"{self.lines[-1][0]}.{word}"] = Slot(weight, shape, to_torch, from_torch, constant)

    def _layout(self, rank: int, channels_first: bool) -> None:
        """Permute a tensor of so many axes unless its channels are where they are needed."""
        if rank < 3 or channels_first == self.channels_first:
            return
        axes = [0, rank - 1, *range(1, rank - 1)] if channels_first else [0, *range(2, rank), 1]
        self._line(f"Permute({', '.join(map(str, axes))})", "_order")
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
        self._layout(len(shape), channels_first=True)
        channels, filters = shape[-1], layer.output_shape[-1]
        groups, rank = layer._groups(channels), len(shape) - 2
        padding = self._padding(rank, layer._padding(shape[1:-1]), "0.0")
        ones, zeros = (1,) * rank, (0,) * rank
        how = _unless_default("stride", layer.strides, ones) + _unless_default("padding", padding, zeros)
        how += _unless_default("dilation", layer.dilation_rate, ones) + _unless_default("groups", groups, 1)
        how += _unless_default("bias", layer.use_bias, True)
        self._line(f"nn.Conv{rank}d({channels}, {filters}, {layer.kernel_size}{how})")
        full, kept = (*layer.kernel_size, channels // groups, filters), layer.kernel.shape
        self._slot(
            "weight",
            layer.kernel,
            lambda array: np.moveaxis(array.reshape(full), (-1, -2), (0, 1)),
            lambda array: np.moveaxis(array, (0, 1), (-1, -2)).reshape(kept),
        )
        if layer.use_bias:
            self._slot("bias", layer.bias, _same, _same)
        self._activation(layer.activation, layer, len(shape))

    def _padding(self, rank: int, pairs: Any, value: str) -> tuple[int, ...]:
        """The padding argument; what is not the same on both sides becomes a module before."""
        if all(before == after for before, after in pairs):
            return tuple(before for before, _ in pairs)
        self._line(f"nn.ConstantPad{rank}d({_last_first(pairs)}, {value})", "_padding")
        return (0,) * rank

    def _dense(self, layer: layers.Dense, shape: tuple[Any, ...]) -> None:
        self._layout(len(shape), channels_first=False)
        order, self._order = self._order, None
        self._line(f"nn.Linear({shape[-1]}, {layer.units}{_unless_default('bias', layer.use_bias, True)})")
        back = None if order is None else np.argsort(order)
        self._slot(
            "weight",
            layer.kernel,
            lambda array: (array if order is None else array[order]).T,
            lambda array: array.T if back is None else array.T[back],
        )
        if layer.use_bias:
            self._slot("bias", layer.bias, _same, _same)
        self._activation(layer.activation, layer, len(shape))

    def _batch_normalization(self, layer: layers.BatchNormalization, shape: tuple[Any, ...]) -> None:
        self._layout(len(shape), channels_first=True)
        rank = max(1, len(shape) - 2)
        momentum = round(1 - layer.momentum, 12)
        self._line(f"nn.BatchNorm{rank}d({shape[-1]}, eps={layer.epsilon!r}, momentum={momentum!r})")
        order = self._order
        turns: tuple[Turn, Turn] = (_same, _same)
        if order is not None:
            back = np.argsort(order)
            turns = (lambda array: array[order], lambda array: array[back])
        for word, weight, constant in (
            ("weight", layer.gamma, 1.0),
            ("bias", layer.beta, 0.0),
            ("running_mean", layer.moving_mean, 0.0),
            ("running_var", layer.moving_variance, 0.0),
        ):
            if weight is None:
                key = f"{self.lines[-1][0]}.{word}"
                self.slots[key] = Slot(None, shape[-1:], _same, _same, constant)
            else:
                self._slot(word, weight, *turns)

    def _max_pooling(self, layer: Any, shape: tuple[Any, ...]) -> None:
        self._layout(len(shape), channels_first=True)
        rank, padding = len(shape) - 2, layer._padding(shape[1:-1])
        inside = self._padding(rank, padding, 'float("-inf")')
        how = _unless_default("stride", layer.strides, layer.pool_size)
        how += _unless_default("padding", inside, (0,) * rank)
        self._line(f"nn.MaxPool{rank}d({layer.pool_size}{how})")

    def _average_pooling(self, layer: Any, shape: tuple[Any, ...]) -> None:
        self._layout(len(shape), channels_first=True)
        rank, pairs = len(shape) - 2, layer._padding(shape[1:-1])
        if all(before == after for before, after in pairs):
            padding = tuple(before for before, _ in pairs)
            how = _unless_default("stride", layer.strides, layer.pool_size)
            if any(padding):
                how += f", padding={padding}, count_include_pad=False"
            self._line(f"nn.AvgPool{rank}d({layer.pool_size}{how})")
        else:
            self._line(f"AveragePooling({layer.pool_size}, {layer.strides}, {_last_first(pairs)})")

    def _global(self, layer: Any, shape: tuple[Any, ...]) -> None:
        self._layout(len(shape), channels_first=True)
        word = "Max" if "Max" in type(layer).__name__ else "Avg"
        self._line(f"nn.Adaptive{word}Pool{len(shape) - 2}d(1)")
        if not layer.keepdims:
            self._line("nn.Flatten()", "_flatten")

    def _dropout(self, layer: Any, shape: tuple[Any, ...]) -> None:
        spatial = "Spatial" in type(layer).__name__
        if spatial:
            self._layout(len(shape), channels_first=True)
        self._line(f"nn.Dropout{f'{len(shape) - 2}d' if spatial else ''}({layer.rate!r})")

    def _flatten(self, shape: tuple[Any, ...], following: list[Layer]) -> None:
        if len(shape) < 3:
            return
        if self.channels_first and shape[-1] > 1 and math.prod(shape[1:-1]) > 1:
            if _dense_comes_next(following):
                places = np.arange(math.prod(shape[1:])).reshape(shape[1:])
                self._order = np.moveaxis(places, -1, 0).reshape(-1)
            else:
                self._layout(len(shape), channels_first=False)
        self._line("nn.Flatten()")

    def _reshape(self, layer: Any, shape: tuple[Any, ...]) -> None:
        self._layout(len(shape), channels_first=False)
        self._line("nn.Flatten()" if len(layer.output_shape) == 2 else f"Reshape{layer.output_shape[1:]}")
        self.channels_first = False

    def _permute(self, layer: layers.Permute, shape: tuple[Any, ...]) -> None:
        self._layout(len(shape), channels_first=False)
        self._line(f"Permute(0, {', '.join(map(str, layer.dims))})")
        self.channels_first = False

    def _zero_padding(self, layer: Any, shape: tuple[Any, ...]) -> None:
        self._layout(len(shape), channels_first=True)
        self._line(f"nn.ConstantPad{len(shape) - 2}d({_last_first(layer.padding)}, 0.0)")

    def _crop(self, layer: Any, shape: tuple[Any, ...]) -> None:
        """The middle of each image, by a padding with negative numbers of cells."""
        self._layout(len(shape), channels_first=True)
        cut = [extent - side for extent, side in zip(shape[1:3], (layer.height, layer.width), strict=True)]
        pairs = [(-(cells // 2), -(cells - cells // 2)) for cells in cut]
        self._line(f"nn.ConstantPad2d({_last_first(pairs)}, 0.0)")

    def _resizing(self, layer: layers.Resizing, shape: tuple[Any, ...]) -> None:
        self._layout(len(shape), channels_first=True)
        self._line(f"Resizing({layer.height}, {layer.width})")

    def _transposed(self, layer: Any, shape: tuple[Any, ...]) -> None:
        """Cells are cut off the largest result by a padding with negative numbers where the sides differ."""
        self._layout(len(shape), channels_first=True)
        rank, sizes = len(shape) - 2, shape[1:-1]
        larger, pairs, extra = layer._larger(sizes), [], []
        for axis, (before, _) in enumerate(layer._padding(sizes)):
            reach = span(layer.kernel_size[axis], layer.dilation_rate[axis])
            behind = (sizes[axis] - 1) * layer.strides[axis] + reach - larger[axis] - before
            pairs.append((before, max(behind, 0)))
            extra.append(max(-behind, 0))
        even = all(before == after for before, after in pairs)
        padding = tuple(before if even else 0 for before, _ in pairs)
        how = _unless_default("stride", layer.strides, (1,) * rank)
        how += _unless_default("padding", padding, (0,) * rank)
        how += _unless_default("output_padding", tuple(extra), (0,) * rank)
        how += _unless_default("dilation", layer.dilation_rate, (1,) * rank)
        how += _unless_default("bias", layer.use_bias, True)
        self._line(f"nn.ConvTranspose{rank}d({shape[-1]}, {layer.filters}, {layer.kernel_size}{how})")
        self._slot(
            "weight",
            layer.kernel,
            lambda array: np.moveaxis(array, (-1, -2), (0, 1)),
            lambda array: np.moveaxis(array, (0, 1), (-1, -2)),
        )
        if layer.use_bias:
            self._slot("bias", layer.bias, _same, _same)
        if not even:
            cut = [(-before, -after) for before, after in pairs]
            self._line(f"nn.ConstantPad{rank}d({_last_first(cut)}, 0.0)", "_cut")
        self._activation(layer.activation, layer, len(shape))

    def _separable(self, layer: Any, shape: tuple[Any, ...]) -> None:
        self._layout(len(shape), channels_first=True)
        rank, channels = len(shape) - 2, shape[-1]
        wide, kept = channels * layer.depth_multiplier, layer.depthwise_kernel.shape
        padding = self._padding(rank, layer._padding(shape[1:-1]), "0.0")
        how = _unless_default("stride", layer.strides, (1,) * rank)
        how += _unless_default("padding", padding, (0,) * rank)
        how += _unless_default("dilation", layer.dilation_rate, (1,) * rank)
        conv = f"nn.Conv{rank}d({channels}, {wide}, {layer.kernel_size}{how}, groups={channels}, bias=False)"
        self._line(conv, "_depthwise")
        self._slot(
            "weight",
            layer.depthwise_kernel,
            lambda array: np.moveaxis(array.reshape(*layer.kernel_size, 1, wide), (-1, -2), (0, 1)),
            lambda array: np.moveaxis(array, (0, 1), (-1, -2)).reshape(kept),
        )
        bias = _unless_default("bias", layer.use_bias, True)
        self._line(f"nn.Conv{rank}d({wide}, {layer.filters}, 1{bias})")
        self._slot(
            "weight",
            layer.pointwise_kernel,
            lambda array: np.moveaxis(array, (-1, -2), (0, 1)),
            lambda array: np.moveaxis(array, (0, 1), (-1, -2)),
        )
        if layer.use_bias:
            self._slot("bias", layer.bias, _same, _same)
        self._activation(layer.activation, layer, len(shape))

    def _layer_normalization(self, layer: layers.LayerNormalization, shape: tuple[Any, ...]) -> None:
        self._layout(len(shape), channels_first=False)
        extents = layer._weight_shape(shape)
        self._line(f"nn.LayerNorm({extents}, eps={layer.epsilon!r})")
        self._scale_and_shift(layer, extents)

    def _group_normalization(self, layer: layers.GroupNormalization, shape: tuple[Any, ...]) -> None:
        self._layout(len(shape), channels_first=True)
        _, channels, groups = layer._parts(shape)
        self._line(f"nn.GroupNorm({groups}, {channels}, eps={layer.epsilon!r})")
        self._scale_and_shift(layer, (channels,))

    def _scale_and_shift(self, layer: Any, extents: tuple[int, ...]) -> None:
        for word, weight, constant in (("weight", layer.gamma, 1.0), ("bias", layer.beta, 0.0)):
            if weight is None:
                self.slots[f"{self.lines[-1][0]}.{word}"] = Slot(None, extents, _same, _same, constant)
            else:
                self._slot(word, weight, _same, _same)

    def _prelu(self, layer: layers.PReLU, shape: tuple[Any, ...]) -> None:
        self._layout(len(shape), channels_first=True)
        extents = layer.alpha.shape
        turned = (extents[-1], *extents[:-1]) if len(shape) > 2 else extents
        self._line(f"Slopes{turned}" if len(turned) > 1 else f"Slopes({turned[0]})")
        self._slot(
            "weight",
            layer.alpha,
            lambda array: np.moveaxis(array, -1, 0),
            lambda array: np.moveaxis(array, 0, -1),
        )

    def _softmax(self, layer: layers.Softmax, shape: tuple[Any, ...]) -> None:
        if not isinstance(layer.activation, SoftmaxOver):
            return self._activation_layer(layer, shape)
        self._layout(len(shape), channels_first=False)
        axes = layer.activation.axes
        return self._line(f"nn.Softmax(dim={axes[0]})" if len(axes) == 1 else f"SoftmaxOver{axes}")

    def _cropping(self, layer: Any, shape: tuple[Any, ...]) -> None:
        self._layout(len(shape), channels_first=True)
        cut = [(-before, -after) for before, after in layer.cropping]
        self._line(f"nn.ConstantPad{len(shape) - 2}d({_last_first(cut)}, 0.0)")

    def _upsampling(self, layer: Any, shape: tuple[Any, ...]) -> None:
        self._layout(len(shape), channels_first=True)
        mode = getattr(layer, "interpolation", "nearest")
        factors = layer.size if len(layer.size) > 1 else layer.size[0]
        self._line(f"nn.Upsample(scale_factor={factors}, mode={mode!r})")

    def _repeat_vector(self, layer: layers.RepeatVector, shape: tuple[Any, ...]) -> None:
        self._line(f"RepeatVector({layer.n})")
        self.channels_first = False

    def _parallel(self, layer: layers.Parallel, shape: tuple[Any, ...]) -> None:
        """All paths take and return channels first."""
        self._layout(len(shape), channels_first=True)
        before, name, paths, inside = (self.lines, self.slots), self._name, [], {}
        for number, path in enumerate(layer.paths):
            self.lines, self.slots, self.channels_first = [], {}, len(shape) > 2
            for place, part in enumerate(path):
                self._name = re.sub(r"\W", "_", part.name)
                self._add(part, path[place + 1 :])
            self._name = name
            self._layout(len(layer.output_shape or ()), channels_first=True)
            paths.append(f"nn.Sequential({', '.join(constructor for _, constructor in self.lines)})")
            places = {line: str(place) for place, (line, _) in enumerate(self.lines)}
            for key, slot in self.slots.items():
                line, _, rest = key.partition(".")
                inside[f"paths.{number}.{places[line]}.{rest}"] = slot
        (self.lines, self.slots), self._name = before, name
        self.channels_first = len(layer.output_shape or ()) > 2
        self._line(f"Parallel({layer.merge!r}, {', '.join(paths)})")
        self.slots |= {f"{self.lines[-1][0]}.{key}": slot for key, slot in inside.items()}

    def _nothing(self, layer: Layer, shape: tuple[Any, ...]) -> None:
        """Augmentation, which returns its input in inference."""

    def _rescaling(self, layer: layers.Rescaling, shape: tuple[Any, ...]) -> None:
        self._line(f"Rescaling({layer.scale!r}, {layer.offset!r})")

    def _activation_layer(self, layer: layers.Activation, shape: tuple[Any, ...]) -> None:
        self._activation(layer.activation, layer, len(shape), "")

    def _activation(self, function: Activation, layer: Layer, rank: int, suffix: str = "_activation") -> None:
        kind = type(function)
        if kind is Linear:
            return
        if isinstance(function, Elementwise) and kind is Elementwise:
            self._line(_ACTIVATIONS[function.name].format(repr(function.alpha)), suffix)
        elif isinstance(function, ClippedReLU) and kind is ClippedReLU:
            numbers = (function.params[name] for name in ("max_value", "negative_slope", "threshold"))
            shown = ", ".join('float("inf")' if math.isinf(number) else repr(number) for number in numbers)
            self._line(f"ClippedReLU({shown})", suffix)
        elif kind in (Softmax, LogSoftmax):
            axis = 1 if self.channels_first or rank == 2 else -1
            self._line(f"nn.{kind.__name__}(dim={axis})", suffix)
        else:
            raise ArgumentError(
                f"{layer.name}: the activation {function.name} cannot be written for PyTorch; use one of "
                "gpucnn.activations"
            )


def _same(array: np.ndarray) -> np.ndarray:
    return array


def _unless_default(name: str, value: Any, default: Any) -> str:
    """`, name=value`, or nothing for PyTorch's default."""
    return "" if value == default else f", {name}={value}"


def _last_first(pairs: Any) -> tuple[int, ...]:
    """The padding of each axis in PyTorch's order, which begins with the last axis."""
    return tuple(cells for pair in reversed(pairs) for cells in pair)


def _dense_comes_next(following: list[Layer]) -> bool:
    """Whether a dense layer reads the row of values, with only layers before it that keep its order."""
    passing = (layers.Activation, layers.Dropout, layers.BatchNormalization, layers.Rescaling)
    for layer in following:
        if isinstance(layer, layers.Dense):
            return True
        if not isinstance(layer, passing):
            return False
    return False


_ACTIVATIONS = {
    "relu": "nn.ReLU()",
    "relu6": "nn.ReLU6()",
    "leaky_relu": "nn.LeakyReLU({})",
    "elu": "nn.ELU({})",
    "selu": "nn.SELU()",
    "celu": "nn.CELU({})",
    "sigmoid": "nn.Sigmoid()",
    "log_sigmoid": "nn.LogSigmoid()",
    "hard_sigmoid": "nn.Hardsigmoid()",
    "tanh": "nn.Tanh()",
    "tanh_shrink": "nn.Tanhshrink()",
    "hard_tanh": "nn.Hardtanh()",
    "hard_shrink": "nn.Hardshrink({})",
    "soft_shrink": "nn.Softshrink({})",
    "softplus": "nn.Softplus()",
    "softsign": "nn.Softsign()",
    "silu": "nn.SiLU()",
    "hard_silu": "nn.Hardswish()",
    "gelu": "nn.GELU()",
    "gelu_tanh": 'nn.GELU("tanh")',
    "mish": "nn.Mish()",
    "exponential": "Exponential()",
}

HELPERS = {
    "Parallel": """
class Parallel(nn.Module):
    \"\"\"Several paths from one input, whose results are added or joined along the channels.\"\"\"

    def __init__(self, merge, *paths):
        super().__init__()
        self.merge, self.paths = merge, nn.ModuleList(paths)

    def forward(self, x):
        results = [path(x) for path in self.paths]
        return sum(results[1:], results[0]) if self.merge == "add" else torch.cat(results, 1)
""",
    "RepeatVector": """
class RepeatVector(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.n = n

    def forward(self, x):
        return x[:, None].expand(-1, self.n, -1)
""",
    "Slopes": """
class Slopes(nn.Module):
    \"\"\"A rectifier with learned slopes, one for each value or shared along axes of extent 1.\"\"\"

    def __init__(self, *shape):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))

    def forward(self, x):
        return torch.where(x > 0, x, self.weight * x)
""",
    "SoftmaxOver": """
class SoftmaxOver(nn.Module):
    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        powers = (x - x.amax(self.axes, keepdim=True)).exp()
        return powers / powers.sum(self.axes, keepdim=True)
""",
    "AveragePooling": """
class AveragePooling(nn.Module):
    \"\"\"The mean of each window; the padding, which differs from side to side, is not counted.\"\"\"

    def __init__(self, size, stride, padding):
        super().__init__()
        self.size, self.stride, self.padding = size, stride, padding

    def forward(self, x):
        pool = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(self.size)]
        total, share = (pool(F.pad(t, self.padding), self.size, self.stride) for t in (x, torch.ones_like(x[:1, :1])))
        return total / share
""",
    "ClippedReLU": """
class ClippedReLU(nn.Module):
    \"\"\"min(x, max_value) above the threshold, negative_slope * (x - threshold) up to it.\"\"\"

    def __init__(self, max_value, negative_slope, threshold):
        super().__init__()
        self.max_value, self.negative_slope, self.threshold = max_value, negative_slope, threshold

    def forward(self, x):
        return torch.where(x > self.threshold, x.clamp(max=self.max_value), self.negative_slope * (x - self.threshold))
""",
    "Exponential": """
class Exponential(nn.Module):
    def forward(self, x):
        return x.exp()
""",
    "Permute": """
class Permute(nn.Module):
    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.permute(self.axes)
""",
    "Rescaling": """
class Rescaling(nn.Module):
    def __init__(self, scale, offset):
        super().__init__()
        self.scale, self.offset = scale, offset

    def forward(self, x):
        return x * self.scale + self.offset
""",
    "Reshape": """
class Reshape(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.reshape(len(x), *self.shape)
""",
    "Resizing": """
class Resizing(nn.Module):
    \"\"\"Bilinear interpolation at coordinates that are rounded to 1 / 65536 of a pixel, as gpucnn rounds them.\"\"\"

    def __init__(self, height, width):
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x):
        for axis, new in ((2, self.height), (3, self.width)):
            old = torch.arange(x.shape[axis], device=x.device)
            step = round(len(old) * 65536 / new)
            place = torch.arange(new, device=x.device) * step + (step - 65536) // 2
            place = (place.double() / 65536).clamp(0, len(old) - 1)
            weights = (1 - (place[:, None] - old).abs()).clamp(min=0).to(x.dtype)
            x = torch.tensordot(x, weights, ([axis], [1])).movedim(-1, axis)
        return x
""",
}
"""Modules that PyTorch does not have; a file holds those that its model uses."""


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
    **{getattr(layers, f"Conv{rank}DTranspose"): Modules._transposed for rank in (1, 2, 3)},
    **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), Modules._separable),
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
