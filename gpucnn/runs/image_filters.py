"""The classic filters on an image of the user, as a picture."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ..datasets import images, npz
from ..errors import ArgumentError, DataError

_LARGEST = 256
"""Pixels of the longer side, beyond which a filter of 3 × 3 pixels would do nothing that can be seen."""


def draw(image: str | Path, out: str | Path | None = None) -> Path:
    """Write a sheet of what the classic filters do to an image file (or .npy); returns its path.

    out  a .png file; None for `<name>-filters.png` in the current folder

    Images of more than 256 pixels are shrunk to that size first. Raises `ArgumentError`, `DataError`
    or `FileError` for an image or a name that cannot be used, before anything is written.
    """
    from .. import plots

    path = Path(image).expanduser()
    target = Path(f"{path.stem}-filters.png") if out is None else Path(out).expanduser()
    if target.suffix.lower() != ".png":
        raise ArgumentError(f"{target}: pictures are PNG files; give a name that ends in .png")
    if target.exists() and path.exists() and target.samefile(path):
        raise ArgumentError(f"{target} is the image itself: give the sheet another name")
    pixels = _pixels(path)
    height, width = pixels.shape[:2]
    return plots.filtered(pixels, f"{path.name}, {height} × {width} pixels").save(target)


def _pixels(path: Path) -> np.ndarray:
    """The image, grey or RGB, with at most `_LARGEST` pixels along the longer side unless it holds floats."""
    most = float(_LARGEST)
    if path.suffix.lower() == ".npy":
        array = npz.read_array(path)
        if array.ndim not in (2, 3) or not array.size:
            raise DataError(f"{path} has shape {array.shape}: one image (H, W) or (H, W, C) is required")
        height, width, channels = (*array.shape, 1)[:3]
        if channels not in (1, 3):
            raise DataError(f"{path} has {channels} channels: give a grey or an RGB image")
        if array.dtype.kind == "f":
            most = math.inf
            if not (array.min() >= 0 and array.max() <= 1):
                raise DataError(f"{path} has values outside 0 … 1: give floats of 0 … 1, or uint8 of 0 … 255")
    else:
        height, width, channels = images.size(path)
    scale = min(1.0, most / max(height, width))
    return images.read(path, (max(1, round(height * scale)), max(1, round(width * scale)), channels))
