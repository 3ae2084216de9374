"""The models that `models_vs.py` compares: the five of the courses and one or more of each other kind.

Each is stated once, as layers of gpucnn; the rivals get a translation with the same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gpucnn
from gpucnn.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv1D,
    Conv2D,
    Conv3D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Input,
    Layer,
    MaxPooling1D,
    MaxPooling2D,
    MaxPooling3D,
)
from gpucnn.runs import zoo
from gpucnn.runs.step import OPTIMIZERS


@dataclass(frozen=True)
class Kind:
    """One model: `layers` returns new ones, `shape` is that of a sample."""

    about: str
    shape: tuple[int, ...]
    batch_size: int
    optimizer: str
    layers: Callable[[], list[Layer]]

    def build(self, dropout: bool = True) -> gpucnn.Sequential:
        """The model with its initial weights, which are the same each time."""
        gpucnn.utils.set_random_seed(0)
        model = gpucnn.Sequential([Input(self.shape), *self.layers()])
        for layer in model.layers:
            if isinstance(layer, Dropout) and not dropout:
                layer.rate = 0.0
        return model


def _of_course(name: str) -> Kind:
    entry = zoo.find(name)
    layers = lambda: entry.layers(entry.classes)  # noqa: E731
    return Kind(entry.source, entry.input_shape, entry.training.batch_size, OPTIMIZERS[name], layers)


def _normalized(filters: int, activation: str = "relu", layer: type = Conv2D, **options) -> list[Layer]:
    """A convolution without bias, BatchNormalization and the activation."""
    sizes = () if layer is DepthwiseConv2D else (filters,)
    convolution = layer(*sizes, options.pop("kernel_size", 3), padding="same", use_bias=False, **options)
    return [convolution, BatchNormalization(), Activation(activation)]


def _scores() -> Dense:
    return Dense(10, activation="softmax")


def _lenet() -> list[Layer]:
    return [
        Conv2D(6, 5, padding="same", activation="tanh"),
        AveragePooling2D(2),
        Conv2D(16, 5, activation="tanh"),
        AveragePooling2D(2),
        Flatten(),
        Dense(120, activation="tanh"),
        Dense(84, activation="tanh"),
        _scores(),
    ]


def _vgg() -> list[Layer]:
    blocks = [[*_normalized(filters), *_normalized(filters), MaxPooling2D(2)] for filters in (32, 64, 128)]
    return [*(layer for block in blocks for layer in block), GlobalAveragePooling2D(), _scores()]


def _all_convolutional() -> list[Layer]:
    return [
        Conv2D(32, 3, padding="same", activation="relu"),
        Conv2D(32, 3, strides=2, padding="same", activation="relu"),
        Conv2D(64, 3, padding="same", activation="relu"),
        Conv2D(64, 3, strides=2, padding="same", activation="relu"),
        Conv2D(64, 1, activation="relu"),
        Conv2D(10, 1),
        GlobalAveragePooling2D(),
        Activation("softmax"),
    ]


def _separable() -> list[Layer]:
    parts: list[Layer] = _normalized(32)
    for filters, strides in ((64, 2), (64, 1), (128, 2), (128, 1)):
        parts += [*_normalized(0, layer=DepthwiseConv2D, strides=strides), *_normalized(filters, kernel_size=1)]
    return [*parts, GlobalAveragePooling2D(), _scores()]


def _separable_plain() -> list[Layer]:
    return [
        Conv2D(16, 3, padding="same", activation="relu"),
        DepthwiseConv2D(3, padding="same", activation="relu"),
        Conv2D(32, 1, activation="relu"),
        MaxPooling2D(2),
        DepthwiseConv2D(5, padding="same", activation="relu"),
        Conv2D(64, 1, activation="relu"),
        MaxPooling2D(2),
        Flatten(),
        _scores(),
    ]


def _grouped() -> list[Layer]:
    return [
        Conv2D(32, 3, padding="same", activation="relu"),
        Conv2D(64, 3, padding="same", groups=4, activation="relu"),
        MaxPooling2D(2),
        Conv2D(64, 3, padding="same", groups=8, activation="relu"),
        Conv2D(128, 3, padding="same", groups=2, activation="relu"),
        MaxPooling2D(2),
        GlobalAveragePooling2D(),
        _scores(),
    ]


def _dilated() -> list[Layer]:
    return [
        Conv2D(16, 3, padding="same", activation="elu"),
        Conv2D(32, 3, padding="same", dilation_rate=2, activation="elu"),
        Conv2D(32, 3, padding="same", dilation_rate=4, activation="elu"),
        MaxPooling2D(2),
        Flatten(),
        Dense(64, activation="elu"),
        _scores(),
    ]


def _overlapping() -> list[Layer]:
    return [
        Conv2D(32, 5, padding="same", activation="relu"),
        MaxPooling2D(3, strides=2),
        Conv2D(64, 5, padding="same", activation="relu"),
        MaxPooling2D(3, strides=2),
        Flatten(),
        Dense(128, activation="relu"),
        _scores(),
    ]


def _dense() -> list[Layer]:
    return [Flatten(), Dense(512, activation="relu"), Dense(256, activation="relu"), _scores()]


def _conv1d() -> list[Layer]:
    return [
        Conv1D(32, 7, padding="same", activation="relu"),
        MaxPooling1D(2),
        Conv1D(64, 5, padding="same", activation="relu"),
        MaxPooling1D(2),
        Conv1D(64, 3, padding="same", activation="relu"),
        GlobalAveragePooling1D(),
        _scores(),
    ]


def _conv3d() -> list[Layer]:
    return [
        Conv3D(16, 3, padding="same", activation="relu"),
        MaxPooling3D(2),
        Conv3D(32, 3, padding="same", activation="relu"),
        MaxPooling3D(2),
        Flatten(),
        Dense(64, activation="relu"),
        _scores(),
    ]


def _bottleneck() -> list[Layer]:
    parts: list[Layer] = [Conv2D(128, 3, strides=2, padding="same", activation="relu")]
    for _ in range(2):
        parts += [Conv2D(32, 1, activation="relu"), Conv2D(32, 3, padding="same", activation="relu")]
        parts += [Conv2D(256, 1, activation="relu")]
    return [*parts, GlobalAveragePooling2D(), _scores()]


def _dropout() -> list[Layer]:
    return [
        Conv2D(32, 3, activation="relu"),
        MaxPooling2D(2),
        Dropout(0.25),
        Conv2D(64, 3, activation="relu"),
        MaxPooling2D(2),
        Dropout(0.25),
        Flatten(),
        Dense(128, activation="relu"),
        Dropout(0.5),
        _scores(),
    ]


def _large_kernels() -> list[Layer]:
    return [
        Conv2D(16, 11, padding="same", activation="relu"),
        MaxPooling2D(2),
        Conv2D(32, 9, padding="same", activation="relu"),
        MaxPooling2D(2),
        Conv2D(32, 7, activation="relu"),
        Flatten(),
        _scores(),
    ]


def _sigmoid() -> list[Layer]:
    return [
        Conv2D(16, 3, activation="sigmoid"),
        AveragePooling2D(2),
        Conv2D(32, 3, activation="sigmoid"),
        AveragePooling2D(2),
        Flatten(),
        Dense(64, activation="sigmoid"),
        _scores(),
    ]


def _normalized_gelu() -> list[Layer]:
    parts = [*_normalized(24, "gelu"), *_normalized(48, "gelu", strides=2), *_normalized(48, "silu", strides=2)]
    return [*parts, GlobalMaxPooling2D(), _scores()]


def _small_images() -> list[Layer]:
    return [Conv2D(8, 3, activation="relu"), MaxPooling2D(2), Flatten(), Dense(32, activation="relu"), _scores()]


KINDS = {
    **{name: _of_course(name) for name in OPTIMIZERS},
    "lenet": Kind("tanh and average pooling", (28, 28, 1), 128, "sgd", _lenet),
    "vgg": Kind("3 × 3, BatchNormalization, global average", (32, 32, 3), 64, "sgd", _vgg),
    "all-conv": Kind("strides 2 instead of pooling", (32, 32, 3), 64, "sgd", _all_convolutional),
    "separable": Kind("depthwise and 1 × 1, BatchNormalization", (32, 32, 3), 64, "sgd", _separable),
    "separable-plain": Kind("depthwise and 1 × 1, max pooling", (28, 28, 1), 64, "adam", _separable_plain),
    "grouped": Kind("convolutions in 2, 4 and 8 groups", (32, 32, 3), 64, "sgd", _grouped),
    "dilated": Kind("dilation 2 and 4, ELU", (28, 28, 1), 64, "sgd", _dilated),
    "overlapping": Kind("max pooling 3 × 3, strides 2", (32, 32, 3), 64, "sgd", _overlapping),
    "dense": Kind("dense layers only", (28, 28, 1), 128, "adam", _dense),
    "conv1d": Kind("sequences", (128, 6), 64, "adam", _conv1d),
    "conv3d": Kind("volumes", (16, 16, 16, 1), 32, "adam", _conv3d),
    "bottleneck": Kind("wide 1 × 1", (32, 32, 3), 64, "sgd", _bottleneck),
    "dropout": Kind("three dropouts", (28, 28, 1), 128, "adam", _dropout),
    "large-kernels": Kind("11 × 11, 9 × 9, 7 × 7", (32, 32, 3), 32, "sgd", _large_kernels),
    "sigmoid": Kind("sigmoid and average pooling", (28, 28, 1), 128, "sgd", _sigmoid),
    "gelu": Kind("GELU and SiLU, BatchNormalization, global maximum", (32, 32, 3), 64, "adam", _normalized_gelu),
    "small": Kind("8 × 8 images", (8, 8, 1), 64, "sgd", _small_images),
}
"""By name; the first five are those of the courses."""
