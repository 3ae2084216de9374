"""How the images of a run are divided into those for training, validation and test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .. import random
from ..datasets import Dataset
from ..devices import free_memory
from ..errors import ArgumentError
from ..models.stored import StoredImages
from .settings import RunSettings

_HELD_OUT = 1
"""The stream of the division into training and validation images; shuffles of epochs have stream 0."""


def with_validation(data: Dataset, count: int, seed: int) -> Dataset:
    """The data with its training images divided at random: `count` remain, the others are for validation."""
    total = len(data.x_train)
    if count == total:
        return data
    order = random.permutation(total, seed=seed, stream=_HELD_OUT)
    kept, held_out = np.sort(order[:count]), np.sort(order[count:])
    x, y = data.x_train, data.y_train
    split = "; ".join(filter(None, (data.split, "validation images drawn at random by the seed")))
    remaining: Any = x.chosen(kept) if isinstance(x, StoredImages) else x[kept]
    return replace(data, x_train=remaining, y_train=y[kept], x_val=x[held_out], y_val=y[held_out], split=split)


def check(settings: RunSettings, data: Dataset) -> None:
    """Raise `ArgumentError` unless the validation images come from one place, and are there if they are
    needed."""
    if settings.validation_split and data.x_val is not None:
        raise ArgumentError(
            f"{data.path} has its own validation images: leave out --validation-split {settings.validation_split:g}"
        )
    if (settings.early_stopping or settings.best) and not settings.validation_split and data.x_val is None:
        option = "--best" if settings.best else "--early-stopping"
        raise ArgumentError(
            f"{option} needs validation images: hold out some with --validation-split 0.1, or give data that has them"
        )


def is_stored(data: Dataset) -> bool:
    """Whether the training images stay in a file."""
    return isinstance(data.x_train, StoredImages)


def described(data: Dataset) -> str:
    """How many images there are and how they were divided, in one line."""
    counts = [("training", data.x_train), ("validation", data.x_val), ("test", data.x_test)]
    *parts, last = [f"{len(x):,} {part}" for part, x in counts if x is not None]
    stored = f"training images stay in a file of {free_memory.readable(data.x_train.nbytes)}, shuffled by blocks"
    note = "; ".join(remark for remark in (data.split, stored if is_stored(data) else None, data.note) if remark)
    return f"{data.name}: {', '.join(parts)} and {last} images{noted(note)}"


def noted(note: str | None) -> str:
    """The note of a data set in parentheses, to be printed after a figure."""
    return f" ({note})" if note else ""
