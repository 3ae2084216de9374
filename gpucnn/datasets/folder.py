"""A user's images in folders, one subfolder per class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..devices import free_memory
from ..errors import DataError, FileError
from ..random import permutation
from . import images, stored
from .dataset import Dataset, ImageSet, Pair
from .image_files import Labelled, LeftOut, class_names, labelled, parts_of
from .source import ProgressHook

TEST_SHARE = 0.2
"""In a folder without train/ and test/, this share of each class becomes the test images."""

Shape = tuple[int, int, int]


def load(
    folder: Path,
    shape: Shape | None = None,
    progress: ProgressHook | None = None,
    strict: bool = False,
    stream: bool | None = None,
) -> Dataset:
    """Load a user's images to train on, from a subfolder for each class.

    If the folder holds train/ and test/ with these subfolders, and perhaps val/, they are used as
    they are. Otherwise a fixed random fifth of each class becomes the test images.

    shape   (H, W, C) to which all images are converted; without it they must have one size, and are
            RGB if any of them is
    strict  whether a broken image raises its error; otherwise it is left out
    stream  whether the training images stay in a file; None if they do not fit into the memory

    A warning counts the files that were left out, with the reasons. Raises `DataError`.
    """
    parts = parts_of(folder)
    if parts and not {"train", "test"} <= parts.keys():
        raise DataError(_what_is_missing(folder, parts, ("train", "test"), "to have it split"))
    classes = class_names(parts.get("train", folder))
    for path in parts.values():
        _check_same_classes(folder, classes, parts["train"], path)
    left_out = LeftOut(folder)
    files = {part: list(labelled(path, classes)) for part, path in (parts or {"all": folder}).items()}
    shape, whole = _sized([file for members in files.values() for file in members], shape, left_out, strict)
    if parts:
        intact = set(whole)
        files = {part: [file for file in members if file in intact] for part, members in files.items()}
        split = f"{parts['train'].name}/ and {parts['test'].name}/ of the folder"
        split += f", {parts['val'].name}/ for validation" if "val" in parts else ""
    else:
        train, test = _split(whole, classes, folder, TEST_SHARE)
        files = {"train": train, "test": test}
        split = "a fixed random fifth of each class is held out for the test"
    pairs: dict[str, Pair] = {}
    for part, members in files.items():
        large = stored.is_needed(len(members) * int(np.prod(shape))) if stream is None else stream
        read = _store if part == "train" and large else _read
        pairs[part] = read(members, shape, folder, progress, left_out, strict)
    lacking = sorted(set(range(len(classes))) - set(pairs["train"][1]))
    if lacking:
        raise DataError(f"{folder}: no training image of {classes[lacking[0]]} can be read")
    left_out.add_unused({file.path for members in files.values() for file in members}, list(parts.values()))
    x_val, y_val = pairs.get("val", (None, None))
    name, warnings = folder.resolve().name, left_out.warnings()
    return Dataset(
        name, *pairs["train"], *pairs["test"], classes, None, warnings, folder, x_val=x_val, y_val=y_val, split=split
    )


def load_to_test(
    folder: Path,
    shape: Shape | None = None,
    progress: ProgressHook | None = None,
    strict: bool = False,
    share: float | None = None,
) -> ImageSet:
    """Load a user's images to test a model: those of test/ if the folder has one, otherwise all.

    share   only this fixed random share of each class; 0.2 gives the test images of `load`

    Everything else is as in `load`.
    """
    parts = parts_of(folder)
    if parts and "test" not in parts:
        raise DataError(_what_is_missing(folder, parts, ("test",), "to test on its images"))
    place = parts.get("test", folder)
    classes = class_names(place, least=1)
    left_out = LeftOut(place)
    shape, files = _sized(list(labelled(place, classes)), shape, left_out, strict)
    used, origin = {file.path for file in files}, f"all images of {place}"
    if share is not None:
        files = _split(files, classes, place, share)[1]
        origin = f"a fixed random {share:g} of each class of {place}"
    x, y = _read(files, shape, folder, progress, left_out, strict)
    left_out.add_unused(used)
    return ImageSet(folder.resolve().name, x, y, classes, origin, None, left_out.warnings(), folder)


def _what_is_missing(folder: Path, parts: dict[str, Path], needed: Sequence[str], purpose: str) -> str:
    present = " and ".join(f"{path.name}/" for path in parts.values())
    absent = [part for part in needed if part not in parts]
    cure = f"rename {parts['val'].name}/ to test/" if absent == ["test"] and "val" in parts else "add it"
    whole = parts.get("train") or next(iter(parts.values()))
    return f"{folder} has {present} but no {'/ and '.join(absent)}/: {cure}, or give {whole} {purpose}"


def _check_same_classes(folder: Path, classes: Sequence[str], train: Path, part: Path) -> None:
    unmatched = sorted(set(classes) ^ set(class_names(part)))
    if unmatched:
        raise DataError(
            f"{folder}: {', '.join(unmatched)} is in only one of {train.name}/ and {part.name}/: both need the same "
            "classes"
        )


def _sized(files: list[Labelled], shape: Shape | None, left_out: LeftOut, strict: bool) -> tuple[Shape, list[Labelled]]:
    """The shape of all images, and the files that have one, by their headers; `shape` if it is
    given, and then no file is opened."""
    if shape is not None:
        return shape, files
    sizes: dict[Labelled, Shape] = {}
    for file in files:
        try:
            sizes[file] = images.size(file.path)
        except (DataError, FileError) as error:
            if strict:
                raise
            left_out.add_broken(file.path, error)
    if not sizes:
        raise _nothing_to_read(left_out)
    first, (height, width, _) = next(iter(sizes.items()))
    for file, size in sizes.items():
        if size[:2] != (height, width):
            raise DataError(
                f"the images differ in size: {first.path} is {height}×{width} and {file.path} is {size[0]}×{size[1]} "
                "(H×W): convert them all with --image-shape HxWxC (shape= in Python), such as --image-shape 64x64x3"
            )
    return (height, width, max(size[2] for size in sizes.values())), list(sizes)


def _split(
    files: Sequence[Labelled], classes: Sequence[str], folder: Path, share: float
) -> tuple[list[Labelled], list[Labelled]]:
    train, test = [], []
    for label, name in enumerate(classes):
        members = [file for file in files if file.label == label]
        if len(members) < 2:
            raise DataError(f"{folder / name} holds one image: a class needs at least two to be split")
        order = permutation(len(members), seed=0, stream=label)
        count = max(1, int(len(members) * share + 1e-9))
        test += [members[i] for i in order[:count]]
        train += [members[i] for i in order[count:]]
    return train, test


def _read(
    files: Sequence[Labelled],
    shape: Shape,
    folder: Path,
    progress: ProgressHook | None,
    left_out: LeftOut,
    strict: bool,
) -> Pair:
    """x uint8 (N, H, W, C) and y int64 (N,), in a fixed random order that mixes the classes."""
    free, size = free_memory.available(), len(files) * int(np.prod(shape))
    if free is not None and size > free:
        need = f"{len(files)} images of {shape} need {free_memory.readable(size)}"
        raise DataError(f"{need}, but {free_memory.readable(free)} is free: use smaller images")
    x = np.empty((len(files), *shape), np.uint8)
    y = np.empty(len(files), np.int64)
    count = 0
    for done, place in enumerate(permutation(len(files), seed=0), 1):
        file = files[place]
        try:
            x[count], y[count] = images.read(file.path, shape), file.label
            count += 1
        except (DataError, FileError) as error:
            if strict:
                raise
            left_out.add_broken(file.path, error)
        if progress and done % 256 == 0:
            progress(f"reading {folder}", done, len(files))
    if not count:
        raise _nothing_to_read(left_out)
    return x[:count], y[:count]


def _store(
    files: Sequence[Labelled],
    shape: Shape,
    folder: Path,
    progress: ProgressHook | None,
    left_out: LeftOut,
    strict: bool,
) -> Pair:
    """What `_read` returns, with the images decoded once into a file of the cache."""
    order = permutation(len(files), seed=0)

    def key() -> Iterator[str]:
        yield str((shape, strict))
        for place in order:
            status = files[place].path.stat()
            yield f"{files[place].path.resolve()} {status.st_size} {status.st_mtime_ns} {files[place].label}"

    def decoded() -> Iterator[np.ndarray | None]:
        for done, place in enumerate(order, 1):
            try:
                image = images.read(files[place].path, shape)
            except (DataError, FileError) as error:
                if strict:
                    raise
                left_out.add_broken(files[place].path, error)
                image = None
            yield image
            if progress and done % 256 == 0:
                progress(f"reading {folder}", done, len(files))

    x, intact = stored.of_files(key(), decoded(), len(files), shape, folder.name)
    for place in order[~intact].tolist():
        if files[place].path not in left_out.broken:
            left_out.add_broken(files[place].path, DataError(f"{files[place].path} could not be decoded before"))
    if not len(x):
        raise _nothing_to_read(left_out)
    return x, np.array([files[place].label for place in order[intact].tolist()])  # type: ignore[return-value]


def _nothing_to_read(left_out: LeftOut) -> DataError:
    first = next(iter(left_out.broken.values()))
    return DataError(f"{left_out.folder}: none of {len(left_out.broken)} images can be read: {first}")
