"""Recipes: whole training runs by name, from the data set to the last epoch.

>>> from gpucnn.runs import recipes
>>> recipes.find("torres").training
Training(optimizer='sgd', batch_size=100, epochs=5, ...)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from . import zoo
from .settings import RunSettings
from .training import Training

_DECIDING = (
    *("recipe", "dataset", "model", "filters", "validation_split", "early_stopping", "best", "augment", "flip"),
    *("optimizer", "learning_rate", "batch_size", "epochs", "weight_decay", "schedule"),
)
"""The settings that decide what a recipe reaches."""


@dataclass(frozen=True)
class Recipe:
    """One training run, and the accuracy that it should reach.

    model             a name of the zoo
    accuracy          the test accuracy to be reached, 0 … 1: that of one run in the text; None if
                      the text states none
    source            the text; for gpucnn's own recipes, what they are for
    training          how the model is trained, from the defaults of the zoo
    validation_split  the fraction of the training images that is held out
    early_stopping, best, augment, flip
                      as in `RunSettings`
    """

    name: str
    dataset: str
    model: str
    accuracy: float | None
    source: str
    training: Training
    validation_split: float = 0.0
    early_stopping: int | None = None
    best: bool = False
    augment: str | None = None
    flip: bool = False

    def fill(self, settings: RunSettings) -> RunSettings:
        """The settings with the recipe's value wherever they have none.

        With images of the user, its data set is left out.
        """
        values: dict[str, Any] = {
            "model": self.model,
            "validation_split": self.validation_split,
            "early_stopping": self.early_stopping,
            "best": self.best,
            "augment": self.augment,
            "flip": self.flip,
        }
        if settings.data is None:
            values["dataset"] = self.dataset
        return replace(settings, **{key: value for key, value in values.items() if getattr(settings, key) is None})

    def followed_by(self, settings: dict[str, Any]) -> bool:
        """Whether a run with these settings, of its `run.json`, departed from the recipe in nothing but its seed."""
        expected = asdict(self.fill(RunSettings(recipe=self.name))) | {
            key: getattr(self.training, key) for key in ("optimizer", "learning_rate", "batch_size", "epochs")
        }
        return all((settings.get(key) or None) == (expected[key] or None) for key in _DECIDING)

    def describe(self) -> dict[str, Any]:
        """Describe the recipe as JSON values."""
        described = zoo.find(self.model).describe(_SHAPES[self.dataset])
        return asdict(self) | {key: described[key] for key in ("parameters", "flops_per_image")}

    def __str__(self) -> str:
        parts = [str(self.training)]
        if self.validation_split:
            parts.append(f"{self.validation_split:.3g} held out")
        if self.augment:
            parts.append(f"{self.augment} augmentation")
        if self.flip:
            parts.append("mirrored at random")
        if self.early_stopping:
            parts.append(f"stops after {self.early_stopping} epochs without progress")
        if self.best:
            parts.append("best epoch kept")
        return ", ".join(parts)


def find(name: str) -> Recipe:
    """The recipe of this name, with - or _. Raises `ArgumentError` with the nearest name."""
    return zoo.named(name, RECIPES, "recipe")


def _text(
    name: str, dataset: str, model: str, accuracy: float | None = None, training: Training | None = None, **other: Any
) -> Recipe:
    """A recipe of the text from which the model comes."""
    entry = zoo.find(model)
    return Recipe(name, dataset, model, accuracy, entry.source, training or entry.training, **other)


def _own(name: str, dataset: str, accuracy: float, epochs: int, **other: Any) -> Recipe:
    """A recipe of gpucnn's own that reaches more than the texts."""
    entry = zoo.find("vgg-small")
    return Recipe(name, dataset, entry.name, accuracy, entry.source, entry.training.altered(epochs=epochs), **other)


_SHAPES = {"mnist": (28, 28, 1), "fashion_mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
"""The shapes of the images of the data sets."""

_FIVE_EPOCHS = Training("sgd", batch_size=32, epochs=5)
_ADAM = replace(_FIVE_EPOCHS, optimizer="adam")

RECIPES = (
    _text("slides", "mnist", "slides", 0.9883, validation_split=1 / 6),
    _text("mlearning", "mnist", "mlearning", 0.9888),
    _text("keras-intro", "mnist", "keras-intro"),
    _text("torres", "mnist", "torres", 0.9704),
    _text("torres-fashion-1", "fashion_mnist", "torres", 0.8593, _FIVE_EPOCHS),
    _text("torres-fashion-2", "fashion_mnist", "torres-wide", 0.8628, _FIVE_EPOCHS),
    _text("torres-fashion-3", "fashion_mnist", "torres-wide", 0.9099, _ADAM),
    _text("torres-fashion-4", "fashion_mnist", "torres-batchnorm", 0.9256, _ADAM),
    _text(
        *("torres-fashion-5", "fashion_mnist", "torres-batchnorm", 0.9454),
        replace(_ADAM, epochs=30, learning_rate=0.001, epoch_decay=0.9),
    ),
    _text("cifar", "cifar10", "cifar"),
    _text("cifar-early-stopping", "cifar10", "cifar", validation_split=0.1, early_stopping=3, best=True),
    _own("best-mnist", "mnist", 0.995, 20, augment="light"),
    _own("best-fashion", "fashion_mnist", 0.94, 40, augment="light", flip=True),
    _own("best-cifar", "cifar10", 0.85, 30, augment="light", flip=True),
    _text("speedrun", "mnist", "speedrun", 0.99),
)
"""All recipes, in the order in which they are listed."""
