"""Models that can be trained by name, each with the training of the text that it comes from.

>>> from gpucnn.runs import zoo
>>> model = zoo.find("slides").build()
>>> model.count_params()
38390
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ..errors import ArgumentError, did_you_mean
from ..layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    Layer,
    MaxPooling2D,
)
from ..models.sequential import Sequential
from ..models.summary import flops_per_image
from .training import Training

DEFAULT = "mnist_convnet"

_DEFAULTS = {"cifar10": "cifar"}
"""Data sets that another model fits better."""


class HasName(Protocol):
    """Anything that is found by its name."""

    @property
    def name(self) -> str:
        """The name."""


_Named = TypeVar("_Named", bound=HasName)


@dataclass(frozen=True)
class Entry:
    """One model of the zoo.

    layers   takes the number of classes and returns new layers
    source   the text that the model comes from
    """

    name: str
    layers: Callable[[int], list[Layer]]
    training: Training
    source: str
    input_shape: tuple[int, int, int] = (28, 28, 1)
    classes: int = 10

    def build(self, input_shape: tuple[int, ...] | None = None, classes: int | None = None) -> Sequential:
        """The model with initial weights. Raises `ShapeError` if the images are too small."""
        shape = Input(shape=tuple(input_shape or self.input_shape))
        return Sequential([shape, *self.layers(classes or self.classes)], name=self.name.replace("-", "_"))

    def describe(self, input_shape: tuple[int, int, int] | None = None) -> dict[str, Any]:
        """Describe the entry, for images of its input shape or another one, as JSON values."""
        model = self.build(input_shape)
        return {
            "name": self.name,
            "source": self.source,
            "input_shape": list(input_shape or self.input_shape),
            "classes": self.classes,
            "parameters": model.count_params(),
            "flops_per_image": flops_per_image(model),
            "training": dataclasses.asdict(self.training),
        }

    def training_for(self, dataset: str) -> Training:
        """The training for this data set: a special one if there is one, else that of the text."""
        return _SPECIAL.get((self.name, dataset), self.training)


def find(name: str) -> Entry:
    """The entry of this name, with - or _. Raises `ArgumentError` with the nearest name."""
    return named(name, _ENTRIES, "model")


def default_for(dataset: str) -> Entry:
    """The entry that is trained on a data set unless the user names one."""
    return find(_DEFAULTS.get(dataset, DEFAULT))


def names() -> list[str]:
    """The names of all models, the default first."""
    return [entry.name for entry in _ENTRIES]


def named(name: str, entries: Iterable[_Named], kind: str) -> _Named:
    """The entry of this name, with - or _. Raises `ArgumentError` with the nearest name.

    kind  what the entries are, in the singular
    """
    by_name = {_plain(entry.name): entry for entry in entries}
    if _plain(name) in by_name:
        return by_name[_plain(name)]
    every = [entry.name for entry in by_name.values()]
    hint = did_you_mean(name, every)
    raise ArgumentError(f"there is no {kind} {name!r}: {hint}{hint and ' '}the {kind}s are {', '.join(every)}")


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def _conv(filters: int, size: int, padding: str = "valid") -> Conv2D:
    return Conv2D(filters, (size, size), padding=padding, activation="relu")


def _pool() -> MaxPooling2D:
    return MaxPooling2D((2, 2))


def _dense(units: int) -> Dense:
    return Dense(units, activation="relu")


def _softmax(classes: int) -> Dense:
    return Dense(classes, activation="softmax")


def _normalised(filters: int) -> list[Layer]:
    return [Conv2D(filters, 3, padding="same", use_bias=False), BatchNormalization(), Activation("relu")]


_TORRES = 'J. Torres, "Convolutional Neural Networks for Beginners using Keras & TensorFlow 2"'

_ENTRIES = (
    Entry(
        DEFAULT,
        lambda classes: [_conv(32, 3), _pool(), _conv(64, 3), _pool(), Flatten(), Dropout(0.5), _softmax(classes)],
        Training("adam", batch_size=128, epochs=15),
        'Keras, code example "Simple MNIST convnet"',
    ),
    Entry(
        "slides",
        lambda classes: [_conv(10, 5), _pool(), _conv(20, 5), _pool(), Flatten(), _dense(100), _softmax(classes)],
        Training("rmsprop", batch_size=128, epochs=50, learning_rate=1e-4),
        "S. Wang, lecture slides on convolutional neural networks",
    ),
    Entry(
        "mlearning",
        lambda classes: [
            *(_conv(32, 5, "same"), _conv(32, 5, "same"), _pool()),
            *(_conv(64, 3, "same"), _conv(64, 3, "same"), _pool()),
            *(Flatten(), _dense(128), _softmax(classes)),
        ],
        Training("sgd", batch_size=128, epochs=50),
        '"Convolutional Neural Networks", MLearning.ai; it names no optimizer: plain SGD is gpucnn\'s choice',
    ),
    Entry(
        "keras-intro",
        lambda classes: [_conv(32, 3), _pool(), _conv(64, 3), _pool(), Flatten(), _dense(64), _softmax(classes)],
        Training("adam", batch_size=32, epochs=10),
        '"Convolutional neural networks in Keras", an introduction',
    ),
    Entry(
        "torres",
        lambda classes: [_conv(32, 5), _pool(), _conv(64, 5), _pool(), Flatten(), _softmax(classes)],
        Training("sgd", batch_size=100, epochs=5),
        _TORRES,
    ),
    Entry(
        "torres-wide",
        lambda classes: [
            *(_conv(64, 7, "same"), _pool(), _conv(128, 3, "same"), _pool()),
            *(Flatten(), _dense(64), _softmax(classes)),
        ],
        Training("sgd", batch_size=32, epochs=5),
        _TORRES,
    ),
    Entry(
        "torres-batchnorm",
        lambda classes: [
            *(_conv(32, 3, "same"), BatchNormalization(), _conv(32, 3, "same"), BatchNormalization(), Dropout(0.25)),
            *(_conv(64, 3, "same"), _pool(), Dropout(0.25)),
            *(_conv(128, 3, "same"), BatchNormalization(), Dropout(0.25), Flatten()),
            *(_dense(512), BatchNormalization(), Dropout(0.5), _dense(128), BatchNormalization(), Dropout(0.5)),
            _softmax(classes),
        ],
        Training("adam", batch_size=32, epochs=5),
        f"{_TORRES}; the layers are those of the notebook that it refers to",
    ),
    Entry(
        "cifar",
        lambda classes: [
            *(_conv(32, 3, "same"), Dropout(0.2), _conv(32, 3), _pool()),
            *(Flatten(), _dense(512), Dropout(0.3), _softmax(classes)),
        ],
        Training("sgd", batch_size=512, epochs=25, decay=4e-4, options={"momentum": 0.5}),
        'Towards AI, "Convolutional Neural Networks (CNNs) Tutorial with Python"',
        input_shape=(32, 32, 3),
    ),
    Entry(
        "vgg-small",
        lambda classes: [
            *(*_normalised(32), _pool()),
            *(*_normalised(64), *_normalised(64), _pool()),
            *(*_normalised(128), *_normalised(128), _pool()),
            *(*_normalised(256), GlobalAveragePooling2D(), _softmax(classes)),
        ],
        Training(*("adamw", 128, 30, 0.004), options={"weight_decay": 0.05}, schedule="one-cycle"),
        "gpucnn's own, after arXiv 1409.1556 (3×3 convolutions in blocks) and 1502.03167 (BatchNormalization)",
        input_shape=(32, 32, 3),
    ),
    Entry(
        "speedrun",
        lambda classes: [_conv(24, 5), _pool(), _conv(32, 3), _pool(), Flatten(), _dense(256), _softmax(classes)],
        Training("adam", 256, 1, 0.01, options={"beta_1": 0.7, "beta_2": 0.9}, schedule="one-cycle"),
        "github.com/tuomaso/train_mnist_fast, the last of its steps",
    ),
)

_SPECIAL: dict[tuple[str, str], Training] = {
    ("mnist_convnet", "digits"): Training("adam", 64, 30, 0.003, options={"use_ema": True, "ema_momentum": 0.99}),
}
"""The training for (model, data set) where that of the text does not fit.

That for the digits was chosen by cross-validation on the training images:
bench/digits_recipe.py.
"""
