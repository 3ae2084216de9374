"""Data augmentation by name: the layers that `--augment` puts in front of a model."""

from __future__ import annotations

from ..layers import Input, Layer, RandomContrast, RandomFlip, RandomRotation, RandomTranslation, RandomZoom
from ..models.sequential import Sequential

LEVELS = ("light", "strong")
"""Shifts alone; shifts, rotations, zooms and contrast."""

FILL = "nearest"
"""Outside an image lie the pixels of its edge: the paper of a digit, the background of a photograph."""


def layers(level: str | None, mirrored: bool, largest: float) -> list[Layer]:
    """The layers of a level of augmentation, which may be None, and of mirroring.

    largest  the largest value of a pixel
    """
    chosen: list[Layer] = [RandomFlip("horizontal", name="augment_flip")] if mirrored else []
    if level is not None:
        chosen.append(RandomTranslation(0.1, 0.1, FILL, name="augment_translation"))
    if level == "strong":
        chosen += [
            RandomRotation(0.04, FILL, name="augment_rotation"),
            RandomZoom(0.15, fill_mode=FILL, name="augment_zoom"),
            RandomContrast(0.2, (0, largest), name="augment_contrast"),
        ]
    return chosen


def in_front(model: Sequential, chosen: list[Layer]) -> Sequential:
    """The model with these layers in front of its own, which keep their weights."""
    if not chosen:
        return model
    shape = Input(shape=tuple(model.input_shape[1:]))
    return Sequential([shape, *chosen, *model.layers], name=model.name)
