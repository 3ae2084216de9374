"""Data sets: `digits` (embedded), `mnist`, `fashion_mnist`, `cifar10`, and a user's images.

Each is a module with `load_data()` as in Keras. The functions here take its name, with - or _.
`synthetic` computes small examples in one to three dimensions.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, TypeVar

from ..arguments import Bounds, Count, PathLike, checked
from ..errors import ArgumentError, DataError, did_you_mean, warn
from ..models.stored import StoredImages
from ..retired import absent
from . import cifar10, digits, fashion_mnist, folder, mnist, npz_set, synthetic
from .dataset import Dataset, ImageSet
from .download import fetch as _fetch
from .images import Centring
from .published import load as _load
from .source import Check, Folder, Found, ProgressHook, Source, declared, search, user_cache

__all__ = [
    "Check",
    "Dataset",
    "Found",
    "ImageSet",
    "StoredImages",
    "about",
    "centring",
    "cifar10",
    "digits",
    "fashion_mnist",
    "fetch",
    "image_folder",
    "load",
    "load_to_test",
    "locate",
    "mnist",
    "names",
    "synthetic",
    "user_cache",
    "verify",
]

_OTHER_IMAGES = "gpucnn.datasets has mnist, fashion_mnist, cifar10 and digits; image_folder reads others"
_NO_IMAGES = "gpucnn has data sets of images; give fit arrays of other data"

__getattr__ = absent(
    __name__,
    {"cifar100": _OTHER_IMAGES}
    | dict.fromkeys(("imdb", "reuters", "boston_housing", "california_housing"), _NO_IMAGES),
)

ImageShape = tuple[Count, Count, Count]
"""(H, W, C) of images; C is 1 for grey, 3 for RGB."""

_Images = TypeVar("_Images", Dataset, ImageSet)


def names() -> list[str]:
    """The names of the data sets, the embedded one first."""
    return ["digits", "mnist", "fashion_mnist", "cifar10"]


@checked
def about(name: str) -> str:
    """One line on what a data set holds."""
    return _source(name).about


@checked
def centring(name: str) -> Centring | None:
    """How the digits of a data set, which are light on dark, lie in its images; None if it is not of digits."""
    return _source(name).centring


@checked
def load(
    name: str | None = None,
    data_dir: Folder = None,
    data: Folder = None,
    *,
    shape: ImageShape | None = None,
    strict: bool = False,
    stream: bool | None = None,
    progress: ProgressHook | None = None,
) -> Dataset:
    """Load a data set by name, or a user's images from `data`; `digits` by default.

    data      a folder of images or an .npz file
    data_dir  the folder of data sets; overrides GPUCNN_DATA
    shape     (H, W, C) of a user's images after conversion; by default all must have the same size
    strict    raise the error of an image file that cannot be read, instead of leaving it out
    stream    whether a user's training images stay in a file, as `StoredImages`, and each batch is read when
              it is due; None if they do not fit into the memory. They must be 8-bit.
    progress  called with (what, done, total) while files are downloaded or decoded

    A folder has a subfolder of images for each class. With train/ and test/ above them, and perhaps
    val/, these are used as they are; otherwise a fixed random fifth of each class becomes the test
    images. An .npz file has x_train, y_train, x_test, y_test, perhaps x_val and y_val, and the
    names `classes`.

    Raises `DataError`, and `ArgumentError` for an unknown name. Each `UserWarning` is also in
    `Dataset.warnings`; one of them counts the files that were left out.
    """
    if data is not None and name is not None:
        raise ArgumentError(f"both the data set {name!r} and data={os.fspath(data)!r} are given: give one of them")
    path = None if data is None else _of_user(data)
    if path is not None and path.is_dir():
        return _warned(folder.load(path, shape, progress, strict, stream))
    for option, value in (("shape", shape), ("strict", strict)):
        if value:
            raise ArgumentError(f"{option}={value} goes with a folder of images (--data): leave it out")
    if path is not None:
        return _warned(npz_set.load(path, stream))
    if stream:
        raise ArgumentError(f"stream={stream} goes with a user's images (--data): published data sets are small")
    return _load(_source(name or "digits"), data_dir, progress)


@checked
def image_folder(
    path: PathLike,
    shape: ImageShape | None = None,
    *,
    strict: bool = False,
    progress: ProgressHook | None = None,
) -> Dataset:
    """Load a folder of images, with a subfolder for each class, as arrays: what `gpucnn train --data`
    reads.

    >>> pets = datasets.image_folder("my-images", shape=(32, 32, 3))
    >>> model.fit(pets.x_train / 255, pets.y_train)
    >>> print(metrics.classification_report(
    ...     pets.y_test, model.predict(pets.x_test / 255), target_names=pets.classes
    ... ))

    x_train and x_test are uint8 (n, H, W, C), y_train and y_test class numbers (n,), `classes` their
    names. x_val and y_val are None unless the folder holds val/. How the folder is divided, and the
    arguments, are as in `load`; `load_to_test` takes all images for a test.
    """
    images = Path(os.path.expanduser(path))
    if not images.is_dir():
        raise DataError(f"{os.fspath(path)} is not a folder: give one with a subfolder of images for each class")
    return load(data=images, shape=shape, strict=strict, progress=progress)


@checked
def load_to_test(
    data: PathLike,
    *,
    shape: ImageShape | None = None,
    strict: bool = False,
    share: Annotated[float, Bounds(0, 1, above=True)] | None = None,
    progress: ProgressHook | None = None,
) -> ImageSet:
    """Load a user's images to test a model on them: all of a folder, or those of its test/ if it
    has one; of an .npz file, x_test and y_test.

    share   only a fixed random share of each class of a folder; 0.2 gives the test images of `load`

    Everything else is as in `load`.
    """
    path = _of_user(data)
    if path.is_dir():
        return _warned(folder.load_to_test(path, shape, progress, strict, share))
    if share is not None:
        raise ArgumentError(f"a share of {share:g} goes with a folder of images: leave it out for {path}")
    return _warned(npz_set.load_to_test(path))


def _of_user(data: str | os.PathLike[str]) -> Path:
    path = Path(os.path.expanduser(data))
    if path.is_dir() or path.suffix.lower() == ".npz":
        return path
    raise DataError(
        f"data={os.fspath(data)!r} is neither a folder nor an .npz file: give a folder with a subfolder of images "
        "per class, or an .npz file with x_train, y_train, x_test and y_test"
    )


def _warned(images: _Images) -> _Images:
    """The same images, once their warnings are issued."""
    for message in images.warnings:
        warn(message)
    return images


@checked
def locate(name: str, data_dir: Folder = None) -> Found | None:
    """Where a data set would be read from, its form and its files' hashes; None if nowhere."""
    return search(_source(name), data_dir)[0]


@checked
def fetch(name: str, data_dir: Folder = None, progress: ProgressHook | None = None) -> Found:
    """Download the missing published files into `data_dir`/name, or into the user cache.

    Raises `DataError` if no mirror serves the files with the pinned hashes, or GPUCNN_OFFLINE is
    set; `FileError` if they cannot be written.
    """
    source = _source(name)
    return source.embedded() if source.embedded else _fetch(source, data_dir, progress)


@checked
def verify(name: str, data_dir: Folder = None) -> list[Check]:
    """Each file of a data set, with its published and its actual SHA-256.

    If the data set is nowhere, the published files are returned without `path` and `actual`.
    """
    source = _source(name)
    found, seen = search(source, data_dir)
    if found:
        return list(found.checks)
    problem = next((place.problem for place in seen if place.problem), "not found")
    return [Check(file, None, source.hashes[file], None, problem) for file in source.files]


def _source(name: str) -> Source:
    sources = {_bare(source.name): source for source in declared()}
    if _bare(name) in sources:
        return sources[_bare(name)]
    hint = did_you_mean(name, names())
    known = f"the data sets are {', '.join(names())}; for your images use data= (--data)"
    raise ArgumentError(f"unknown data set {name!r}: {hint}{hint and ' '}{known}")


def _bare(name: str) -> str:
    return re.sub(r"[-_]", "", name).lower()
