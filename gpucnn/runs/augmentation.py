"""Data augmentation by name: the layers that `--augment` puts in front of a model.

On the CPU they make a training step of the course models at most 11 % longer (bench/README.md).
"""

from __future__ import annotations

from ..datasets import Dataset
from ..layers import Input, Layer, RandomAffine, RandomContrast
from ..layers.augmentation import Augmentation, Flip
from ..models.sequential import Sequential
from ..ops.affine import Fill

LEVELS = ("light", "strong")
"""Shifts of up to a tenth; also rotations of up to 14 degrees, zooms of up to 15 % and contrast of ± 20 %."""

FILL: Fill = "nearest"
"""Outside an image lie the pixels of its edge: the paper of a digit, the background of a photograph."""

FEW = 500
"""Training images of a class below which changing them at random is suggested."""


def layers(level: str | None, mirrored: bool, largest: float) -> list[Layer]:
    """The layers of a level of augmentation, which may be None, and of mirroring.

    largest  the largest value of a pixel
    """
    if level is None and not mirrored:
        return []
    shift = 0.0 if level is None else 0.1
    rotation, zoom = (0.04, 0.15) if level == "strong" else (0.0, 0.0)
    flip: Flip | None = "horizontal" if mirrored else None
    moved = RandomAffine(rotation, shift, shift, zoom, flip, FILL, name="augment_affine")
    return [moved, RandomContrast(0.2, (0, largest), name="augment_contrast")] if level == "strong" else [moved]


def in_front(model: Sequential, chosen: list[Layer]) -> Sequential:
    """The model with these layers in front of its own, which keep their weights."""
    if not chosen:
        return model
    shape = Input(shape=tuple(model.input_shape[1:]))
    return Sequential([shape, *chosen, *model.layers], name=model.name)


def suggestion(model: Sequential, data: Dataset) -> str | None:
    """A line that suggests augmentation; None if there are many images, or the model changes them already."""
    per_class = len(data.x_train) // len(data.classes)
    if per_class >= FEW or any(isinstance(layer, Augmentation) for layer in model.layers):
        return None
    return (
        f"about {per_class} training images per class are few: --augment light shifts them at random in each epoch, "
        "so that the model overfits less"
    )
