"""Models that can be trained by name, each with the recipe of the text it comes from.

>>> from gpucnn import zoo
>>> model = zoo.find("slides").build()
>>> model.count_params()
38390
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError

if TYPE_CHECKING:
    from ..models.sequential import Sequential
    from ..optimizers import Optimizer

DEFAULT = "mnist_convnet"


@dataclass(frozen=True)
class Recipe:
    """How a model is trained unless the user says otherwise.

    learning_rate   None means the optimizer's own default
    decay           the rate falls as learning_rate / (1 + decay · step)
    options         further arguments of the optimizer
    """

    optimizer: str
    batch_size: int
    epochs: int
    learning_rate: float | None = None
    decay: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)
    loss: str = "sparse_categorical_crossentropy"

    def altered(
        self,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        epochs: int | None = None,
    ) -> Recipe:
        """The same recipe with what is not None replaced.

        Another optimizer starts from its own defaults; the recipe's rate, decay and options belong to the old one. A
        learning rate alone replaces the first rate and leaves the decay.
        """
        base = self
        if optimizer is not None and optimizer.lower() != self.optimizer:
            base = dataclasses.replace(self, optimizer=optimizer.lower(), learning_rate=None, decay=0.0, options={})
        return dataclasses.replace(
            base,
            learning_rate=base.learning_rate if learning_rate is None else learning_rate,
            batch_size=batch_size or base.batch_size,
            epochs=epochs or base.epochs,
        )

    def make_optimizer(self) -> Optimizer:
        """A new optimizer. Raises `ArgumentError` for a name or a rate that there is not."""
        from .. import optimizers
        from ..optimizers import schedules

        made = optimizers.get(self.optimizer)
        arguments = dict(self.options)
        if self.learning_rate is not None:
            arguments["learning_rate"] = self.learning_rate
        if self.decay:
            rate = arguments.get("learning_rate", made.learning_rate)
            arguments["learning_rate"] = schedules.InverseTimeDecay(rate, 1, self.decay)
        return type(made)(**arguments)

    def __str__(self) -> str:
        parts = [self.optimizer]
        if self.learning_rate is not None:
            parts.append(f"{self.learning_rate:g}")
        parts += [f"{name} {value:g}" for name, value in self.options.items()]
        if self.decay:
            parts.append(f"decay {self.decay:g}")
        return f"{' '.join(parts)}, batch {self.batch_size}, {self.epochs} epochs"


@dataclass(frozen=True)
class Entry:
    """One model of the zoo: the layers, where they come from and how they are trained."""

    name: str
    layers: Callable[[int], list[Any]]
    recipe: Recipe
    source: str
    input_shape: tuple[int, int, int] = (28, 28, 1)
    classes: int = 10

    def build(self, input_shape: tuple[int, ...] | None = None, classes: int | None = None) -> Sequential:
        """The model with fresh weights. Raises `ShapeError` when the images are too small for its layers."""
        from ..layers import Input
        from ..models.sequential import Sequential

        shape = Input(shape=tuple(input_shape or self.input_shape))
        return Sequential([shape, *self.layers(classes or self.classes)], name=self.name.replace("-", "_"))

    def describe(self) -> dict[str, Any]:
        """The entry as JSON values."""
        from ..models.summary import flops_per_image

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
        """The recipe on this data set: that of the text, unless one was chosen for the data set."""
        return _CHOSEN.get((self.name, dataset), self.recipe)


def find(name: str) -> Entry:
    """The entry of this name; `-` and `_` are one. Raises `ArgumentError` with the nearest name."""
    wanted = _plain(name)
    for entry in _ENTRIES:
        if _plain(entry.name) == wanted:
            return entry
    known = {_plain(entry.name): entry.name for entry in _ENTRIES}
    close = difflib.get_close_matches(wanted, known, 1, 0.5)
    hint = f"did you mean {known[close[0]]!r}? " if close else ""
    raise ArgumentError(f"there is no model {name!r}: {hint}known are {', '.join(known.values())}")


def names() -> list[str]:
    """The names of all models, the default first."""
    return [entry.name for entry in _ENTRIES]


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def _mnist_convnet(classes: int) -> list[Any]:
    from ..layers import Conv2D, Dense, Dropout, Flatten, MaxPooling2D

    return [
        Conv2D(32, (3, 3), activation="relu"),
        MaxPooling2D((2, 2)),
        Conv2D(64, (3, 3), activation="relu"),
        MaxPooling2D((2, 2)),
        Flatten(),
        Dropout(0.5),
        Dense(classes, activation="softmax"),
    ]


def _slides(classes: int) -> list[Any]:
    from ..layers import Conv2D, Dense, Flatten, MaxPooling2D

    return [
        Conv2D(10, (5, 5), activation="relu"),
        MaxPooling2D((2, 2)),
        Conv2D(20, (5, 5), activation="relu"),
        MaxPooling2D((2, 2)),
        Flatten(),
        Dense(100, activation="relu"),
        Dense(classes, activation="softmax"),
    ]


def _mlearning(classes: int) -> list[Any]:
    from ..layers import Conv2D, Dense, Flatten, MaxPooling2D

    return [
        Conv2D(32, (5, 5), padding="same", activation="relu"),
        Conv2D(32, (5, 5), padding="same", activation="relu"),
        MaxPooling2D((2, 2)),
        Conv2D(64, (3, 3), padding="same", activation="relu"),
        Conv2D(64, (3, 3), padding="same", activation="relu"),
        MaxPooling2D((2, 2)),
        Flatten(),
        Dense(128, activation="relu"),
        Dense(classes, activation="softmax"),
    ]


def _keras_intro(classes: int) -> list[Any]:
    from ..layers import Conv2D, Dense, Flatten, MaxPooling2D

    return [
        Conv2D(32, (3, 3), activation="relu"),
        MaxPooling2D((2, 2)),
        Conv2D(64, (3, 3), activation="relu"),
        MaxPooling2D((2, 2)),
        Flatten(),
        Dense(64, activation="relu"),
        Dense(classes, activation="softmax"),
    ]


def _torres(classes: int) -> list[Any]:
    from ..layers import Conv2D, Dense, Flatten, MaxPooling2D

    return [
        Conv2D(32, (5, 5), activation="relu"),
        MaxPooling2D((2, 2)),
        Conv2D(64, (5, 5), activation="relu"),
        MaxPooling2D((2, 2)),
        Flatten(),
        Dense(classes, activation="softmax"),
    ]


def _cifar(classes: int) -> list[Any]:
    from ..layers import Conv2D, Dense, Dropout, Flatten, MaxPooling2D

    return [
        Conv2D(32, (3, 3), padding="same", activation="relu"),
        Dropout(0.2),
        Conv2D(32, (3, 3), activation="relu"),
        MaxPooling2D((2, 2)),
        Flatten(),
        Dense(512, activation="relu"),
        Dropout(0.3),
        Dense(classes, activation="softmax"),
    ]


_ENTRIES = (
    Entry(
        DEFAULT,
        _mnist_convnet,
        Recipe("adam", batch_size=128, epochs=15),
        'Keras, code example "Simple MNIST convnet"',
    ),
    Entry(
        "slides",
        _slides,
        Recipe("rmsprop", batch_size=128, epochs=50, learning_rate=1e-4),
        "S. Wang, lecture slides on convolutional neural networks",
    ),
    Entry(
        "mlearning",
        _mlearning,
        Recipe("sgd", batch_size=128, epochs=50),
        '"Convolutional Neural Networks", MLearning.ai; it names no optimizer: plain SGD is gpucnn\'s choice',
    ),
    Entry(
        "keras-intro",
        _keras_intro,
        Recipe("adam", batch_size=32, epochs=10),
        '"Convolutional neural networks in Keras", an introduction',
    ),
    Entry(
        "torres",
        _torres,
        Recipe("sgd", batch_size=100, epochs=5),
        'J. Torres, "Convolutional Neural Networks for Beginners using Keras & TensorFlow 2"',
    ),
    Entry(
        "cifar",
        _cifar,
        Recipe("sgd", batch_size=512, epochs=25, decay=4e-4, options={"momentum": 0.5}),
        'Towards AI, "Convolutional Neural Networks (CNNs) Tutorial with Python"',
        input_shape=(32, 32, 3),
    ),
)

_CHOSEN: dict[tuple[str, str], Recipe] = {
    ("mnist_convnet", "digits"): Recipe("adam", 64, 30, 0.003, options={"use_ema": True, "ema_momentum": 0.99}),
}
"""Recipes for (model, data set) where the text's own does not fit, such as the few images of the embedded digits.

That of the digits was chosen by cross-validation on the training images: bench/digits_recipe.py.
"""
