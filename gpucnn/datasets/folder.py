"""Images in folders, one subfolder per class: a user's, or a copy of a published data set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..devices import free_memory
from ..errors import DataError
from ..files import explained
from ..random import permutation
from . import images
from .dataset import Dataset, Pair
from .source import ProgressHook

TEST_SHARE = 5
"""In a folder without train/ and test/, one image in TEST_SHARE becomes a test image."""


class Labelled(NamedTuple):
    """An image file and its class number."""

    path: Path
    label: int


def load(folder: Path, shape: tuple[int, int, int] | None = None, progress: ProgressHook | None = None) -> Dataset:
    """Load a user's images from subfolders per class, with or without train/ and test/ above them.

    Without train/ and test/, a fixed random fifth of each class becomes the test set. Without
    `shape` (H, W, C), all images must have the same size, and are RGB if any of them is. Raises
    `DataError`.
    """
    halves = [folder / "train", folder / "test"]
    present = [half for half in halves if half.is_dir()]
    if len(present) == 1:
        absent = "test" if present[0].name == "train" else "train"
        raise DataError(
            f"{folder} has {present[0].name}/ but no {absent}/: add it, or give {present[0]} to have it split"
        )
    classes = class_names(present[0] if present else folder)
    if present:
        if class_names(halves[1]) != classes:
            unmatched = sorted(set(classes) ^ set(class_names(halves[1])))
            raise DataError(
                f"{folder}: {', '.join(unmatched)} is in only one of train/ and test/: both need the same classes"
            )
        train, test = (list(labelled(half, classes)) for half in halves)
    else:
        train, test = _split(list(labelled(folder, classes)), classes, folder)
    shape = shape or _common_shape(train + test)
    (x_train, y_train), (x_test, y_test) = (read(half, shape, f"reading {folder}", progress) for half in (train, test))
    name = folder.resolve().name
    return Dataset(name, x_train, y_train, x_test, y_test, classes, warnings=_left_out(folder), path=folder)


def class_names(folder: Path) -> list[str]:
    """The names of the subfolders in order: numbers by value, before other names by alphabet."""
    with explained("read", folder):
        names = [entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")]
    if not names:
        raise DataError(f"{folder} has no subfolders: put the PNG or JPEG images of each class into a separate one")
    return sorted(names, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name))


def labelled(folder: Path, classes: Sequence[str]) -> Iterator[Labelled]:
    """The image files of each class, sorted by name. Raises `DataError` for a class without any."""
    for label, name in enumerate(classes):
        files = sorted(file for file in (folder / name).iterdir() if _is_image(file))
        if not files:
            raise DataError(f"{folder / name} holds no PNG or JPEG images: each class needs at least one")
        yield from (Labelled(file, label) for file in files)


def read(
    files: Sequence[Labelled], shape: tuple[int, int, int], doing: str = "reading", progress: ProgressHook | None = None
) -> Pair:
    """x uint8 (N, H, W, C) and y int64 (N,), in a fixed random order that mixes the classes."""
    free, size = free_memory.available(), len(files) * int(np.prod(shape))
    if free is not None and size > free:
        need = f"{len(files)} images of {shape} need {free_memory.readable(size)}"
        raise DataError(f"{need}, but {free_memory.readable(free)} is free: use smaller images")
    x = np.empty((len(files), *shape), np.uint8)
    y = np.empty(len(files), np.int64)
    for i, source in enumerate(permutation(len(files), seed=0)):
        x[i], y[i] = images.read(files[source].path, shape), files[source].label
        if progress and (i + 1) % 256 == 0:
            progress(doing, i + 1, len(files))
    return x, y


def _split(files: Sequence[Labelled], classes: Sequence[str], folder: Path) -> tuple[list[Labelled], list[Labelled]]:
    train, test = [], []
    for label, name in enumerate(classes):
        members = [file for file in files if file.label == label]
        if len(members) < 2:
            raise DataError(f"{folder / name} holds one image: a class needs at least two to be split")
        order = permutation(len(members), seed=0, stream=label)
        count = max(1, len(members) // TEST_SHARE)
        test += [members[i] for i in order[:count]]
        train += [members[i] for i in order[count:]]
    return train, test


def _common_shape(files: Sequence[Labelled]) -> tuple[int, int, int]:
    first = images.size(files[0].path)
    channels = first[2]
    for file in files:
        height, width, image_channels = images.size(file.path)
        if (height, width) != first[:2]:
            raise DataError(
                f"the images differ in size: {files[0].path} is {first[0]}×{first[1]} and {file.path} is "
                f"{height}×{width} (H×W): convert them to one size"
            )
        channels = max(channels, image_channels)
    return (*first[:2], channels)


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in images.SUFFIXES and not file.name.startswith(".") and file.is_file()


def _left_out(folder: Path) -> list[str]:
    files = (file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    others = sorted(file for file in files if not _is_image(file))
    if not others:
        return []
    return [f"{folder}: {len(others)} files are not PNG or JPEG images and were left out, such as {others[0]}"]
