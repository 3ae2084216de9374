"""What goes into a model and what comes out: how an image is prepared, and the names of classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..config import check_fields, check_name
from ..errors import ArgumentError, DataError
from .stored import StoredImages


@dataclass(frozen=True)
class Signature:
    """The classes that a model of images tells apart, and how an image becomes its input.

    classes      the names of the outputs, in their order
    image_shape  (H, W, C) to which an image is converted; C is 1 for grey, 3 for RGB
    divisor      8-bit values are divided by it; None if the model takes only floats as they are
    invert       whether dark on light is turned into light on dark
    centre       whether a photographed digit is cut out and centred

    A file holds it as JSON. Raises `ArgumentError` for values of other types or out of range.
    """

    classes: list[str]
    image_shape: tuple[int, int, int]
    divisor: float | None = 255.0
    invert: bool = False
    centre: bool = False

    def __post_init__(self) -> None:
        extents = list(self.image_shape)
        if len(extents) != 3 or not all(type(extent) is int and extent > 0 for extent in extents):
            raise ArgumentError(f"image_shape is {extents} and must be three integers above 0: H, W, C")
        object.__setattr__(self, "image_shape", tuple(extents))
        check_fields(Signature, {k: v for k, v in vars(self).items() if k != "image_shape"})
        check_classes(self.classes)
        if len(self.classes) < 2:
            raise ArgumentError(f"there is {len(self.classes)} class: two or more can be told apart")
        if self.divisor is not None and not 0 < self.divisor < math.inf:
            raise ArgumentError(f"divisor is {self.divisor} and must be above 0")

    def check_fits(self, input_shape: Sequence[int | None], output_shape: Sequence[int | None]) -> None:
        """Raise `ArgumentError` unless a model of these shapes (None for the batch axis) has this
        signature."""
        if self.image_shape != tuple(input_shape[1:]):
            raise ArgumentError(
                f"the signature is for images of {self.image_shape}, and the model takes {tuple(input_shape[1:])}"
            )
        if tuple(output_shape[1:]) != (len(self.classes),):
            outputs = math.prod(extent or 0 for extent in output_shape[1:])
            raise ArgumentError(f"the signature names {len(self.classes)} classes, and the model has {outputs} outputs")

    def scaled(self, x: Any) -> Any:
        """8-bit values divided by `divisor`, as float32; floats are returned as they are. Images in a file
        stay there, and are divided when they are read."""
        if x.dtype != np.uint8:
            return x
        if self.divisor is None:
            raise DataError(
                "the model was trained on floats outside 0 … 1, and how they were made from images is not known: "
                "give .npy files of floats, prepared in the same way"
            )
        if isinstance(x, StoredImages):
            return x.scaled(self.divisor)
        return np.divide(x, np.float32(self.divisor), dtype=np.float32)

    def to_json(self) -> dict[str, Any]:
        """The signature as JSON values."""
        return {**asdict(self), "image_shape": list(self.image_shape)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Signature:
        """The signature that `to_json` described. Raises `ArgumentError` for anything else."""
        if not isinstance(values, dict) or not {"classes", "image_shape"} <= values.keys():
            raise ArgumentError("the signature has no classes or no image_shape")
        unknown = sorted(values.keys() - cls.__dataclass_fields__.keys())
        if unknown:
            raise ArgumentError(f"{unknown[0]} is unknown")
        if not isinstance(values["image_shape"], list):
            raise ArgumentError(f"image_shape is {values['image_shape']!r} and must be three integers above 0: H, W, C")
        return cls(**values)


def check_classes(names: Sequence[str]) -> None:
    """Raise `ArgumentError` unless these are the distinct, printable names of classes."""
    taken: set[str] = set()
    for name in names:
        check_name(name)
        if name in taken:
            raise ArgumentError(f"two classes are called {name!r}")
        taken.add(name)
