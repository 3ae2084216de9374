"""Models that can be trained by name, each with the recipe of the text it comes from.

>>> from gpucnn.runs import zoo
>>> model = zoo.find("slides").build()
>>> model.count_params()
38390
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .. import optimizers
from ..errors import ArgumentError, did_you_mean
from ..layers import Conv2D, Dense, Dropout, Flatten, Input, Layer, MaxPooling2D
from ..models.sequential import Sequential
from ..models.summary import flops_per_image
from ..optimizers import Optimizer, schedules

DEFAULT = "mnist_convnet"

_DEFAULTS = {"cifar10": "cifar"}
"""Data sets that another model fits better."""

SCHEDULES: dict[str, Callable[[float, int], Any]] = {
    "constant": lambda rate, steps: rate,
    "linear": lambda rate, steps: schedules.PolynomialDecay(rate, steps, end_learning_rate=0.0),
    "cosine": schedules.CosineDecay,
    "exponential": lambda rate, steps: schedules.ExponentialDecay(rate, steps, decay_rate=0.01),
}
"""How the rate falls over all steps of a training: not, to 0, to 0 in half a cosine wave, to 1 %."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained by default.

    learning_rate   None is the default of the optimizer
    decay           the rate falls as learning_rate / (1 + decay · step), unless there is a schedule
    schedule        a name of `SCHEDULES`
    options         further arguments of the optimizer
    """

    optimizer: str
    batch_size: int
    epochs: int
    learning_rate: float | None = None
    decay: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)
    loss: str = "sparse_categorical_crossentropy"
    schedule: str | None = None

    def altered(
        self,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        weight_decay: float | None = None,
        schedule: str | None = None,
    ) -> Recipe:
        """A copy of the recipe in which the arguments that are not None replace its values.

        Another optimizer starts from its defaults, because rate, decay and options of the recipe
        belong to the old one. A learning rate alone replaces the initial rate and keeps the decay,
        which a schedule replaces.
        """
        base = self
        if optimizer is not None and optimizer.lower() != self.optimizer:
            base = dataclasses.replace(self, optimizer=optimizer.lower(), learning_rate=None, decay=0.0, options={})
        return dataclasses.replace(
            base,
            learning_rate=base.learning_rate if learning_rate is None else learning_rate,
            batch_size=batch_size or base.batch_size,
            epochs=epochs or base.epochs,
            options=base.options | ({} if weight_decay is None else {"weight_decay": weight_decay}),
            decay=base.decay if schedule is None else 0.0,
            schedule=schedule or base.schedule,
        )

    def make_optimizer(self, steps: int = 0) -> Optimizer:
        """A new optimizer for a training of so many steps, on which a schedule depends.

        Raises `ArgumentError` for an unknown name or an invalid rate.
        """
        default = optimizers.get(self.optimizer)
        arguments = dict(self.options)
        if self.learning_rate is not None:
            arguments["learning_rate"] = self.learning_rate
        rate = arguments.get("learning_rate", default.learning_rate)
        if self.decay:
            arguments["learning_rate"] = schedules.InverseTimeDecay(rate, 1, self.decay)
        elif self.schedule is not None:
            arguments["learning_rate"] = SCHEDULES[self.schedule](rate, steps)
        return type(default)(**arguments)

    def __str__(self) -> str:
        parts = [self.optimizer]
        if self.learning_rate is not None:
            parts.append(f"{self.learning_rate:g}")
        parts += [f"{name} {value:g}" for name, value in self.options.items()]
        if self.decay:
            parts.append(f"decay {self.decay:g}")
        if self.schedule:
            parts.append(self.schedule)
        return f"{' '.join(parts)}, batch {self.batch_size}, {self.epochs} epochs"


@dataclass(frozen=True)
class Entry:
    """One model of the zoo.

    layers   takes the number of classes and returns new layers
    source   the text that the model comes from
    """

    name: str
    layers: Callable[[int], list[Layer]]
    recipe: Recipe
    source: str
    input_shape: tuple[int, int, int] = (28, 28, 1)
    classes: int = 10

    def build(self, input_shape: tuple[int, ...] | None = None, classes: int | None = None) -> Sequential:
        """The model with initial weights. Raises `ShapeError` if the images are too small."""
        shape = Input(shape=tuple(input_shape or self.input_shape))
        return Sequential([shape, *self.layers(classes or self.classes)], name=self.name.replace("-", "_"))

    def describe(self) -> dict[str, Any]:
        """Describe the entry as JSON values."""
        model = self.build()
        return {
            "name": self.name,
            "source": self.source,
            "input_shape": list(self.input_shape),
            "classes": self.classes,
            "parameters": model.count_params(),
            "flops_per_image": flops_per_image(model),
            "recipe": dataclasses.asdict(self.recipe),
        }

    def recipe_for(self, dataset: str) -> Recipe:
        """The recipe for this data set: a special one if there is one, else that of the text."""
        return _SPECIAL_RECIPES.get((self.name, dataset), self.recipe)


def find(name: str) -> Entry:
    """The entry of this name, with - or _. Raises `ArgumentError` with the nearest name."""
    entries = {_plain(entry.name): entry for entry in _ENTRIES}
    if _plain(name) in entries:
        return entries[_plain(name)]
    hint = did_you_mean(name, names())
    raise ArgumentError(f"there is no model {name!r}: {hint}{hint and ' '}the models are {', '.join(names())}")


def default_for(dataset: str) -> Entry:
    """The entry that is trained on a data set unless the user names one."""
    return find(_DEFAULTS.get(dataset, DEFAULT))


def names() -> list[str]:
    """The names of all models, the default first."""
    return [entry.name for entry in _ENTRIES]


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


_ENTRIES = (
    Entry(
        DEFAULT,
        lambda classes: [_conv(32, 3), _pool(), _conv(64, 3), _pool(), Flatten(), Dropout(0.5), _softmax(classes)],
        Recipe("adam", batch_size=128, epochs=15),
        'Keras, code example "Simple MNIST convnet"',
    ),
    Entry(
        "slides",
        lambda classes: [_conv(10, 5), _pool(), _conv(20, 5), _pool(), Flatten(), _dense(100), _softmax(classes)],
        Recipe("rmsprop", batch_size=128, epochs=50, learning_rate=1e-4),
        "S. Wang, lecture slides on convolutional neural networks",
    ),
    Entry(
        "mlearning",
        lambda classes: [
            *(_conv(32, 5, "same"), _conv(32, 5, "same"), _pool()),
            *(_conv(64, 3, "same"), _conv(64, 3, "same"), _pool()),
            *(Flatten(), _dense(128), _softmax(classes)),
        ],
        Recipe("sgd", batch_size=128, epochs=50),
        '"Convolutional Neural Networks", MLearning.ai; it names no optimizer: plain SGD is gpucnn\'s choice',
    ),
    Entry(
        "keras-intro",
        lambda classes: [_conv(32, 3), _pool(), _conv(64, 3), _pool(), Flatten(), _dense(64), _softmax(classes)],
        Recipe("adam", batch_size=32, epochs=10),
        '"Convolutional neural networks in Keras", an introduction',
    ),
    Entry(
        "torres",
        lambda classes: [_conv(32, 5), _pool(), _conv(64, 5), _pool(), Flatten(), _softmax(classes)],
        Recipe("sgd", batch_size=100, epochs=5),
        'J. Torres, "Convolutional Neural Networks for Beginners using Keras & TensorFlow 2"',
    ),
    Entry(
        "cifar",
        lambda classes: [
            *(_conv(32, 3, "same"), Dropout(0.2), _conv(32, 3), _pool()),
            *(Flatten(), _dense(512), Dropout(0.3), _softmax(classes)),
        ],
        Recipe("sgd", batch_size=512, epochs=25, decay=4e-4, options={"momentum": 0.5}),
        'Towards AI, "Convolutional Neural Networks (CNNs) Tutorial with Python"',
        input_shape=(32, 32, 3),
    ),
)

_SPECIAL_RECIPES: dict[tuple[str, str], Recipe] = {
    ("mnist_convnet", "digits"): Recipe("adam", 64, 30, 0.003, options={"use_ema": True, "ema_momentum": 0.99}),
}
"""Recipes for (model, data set) where that of the text does not fit.

The recipe for the digits was chosen by cross-validation on the training images:
bench/digits_recipe.py.
"""
