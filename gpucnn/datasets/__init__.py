"""Data sets: `digits` embedded, `mnist`, `fashion_mnist` and `cifar10` found or downloaded, and a user's own images.

Each known set is a module with `load_data()` as in Keras; the functions here take a set's name, with - or _.
"""

from __future__ import annotations

import difflib
import os
import re
import warnings
from pathlib import Path

from ..errors import ArgumentError, DataError
from . import cifar10, digits, fashion_mnist, folder, mnist, npz_set
from .dataset import Dataset
from .download import fetch as _fetch
from .published import load as _load
from .source import Check, Folder, Found, Progress, Source, known, search, user_cache

__all__ = [
    "Check",
    "Dataset",
    "Found",
    "about",
    "cifar10",
    "digits",
    "fashion_mnist",
    "fetch",
    "load",
    "locate",
    "mnist",
    "names",
    "user_cache",
    "verify",
]


def names() -> list[str]:
    """The known data sets, the embedded one first."""
    return ["digits", "mnist", "fashion_mnist", "cifar10"]


def about(name: str) -> str:
    """One line on what a known data set holds."""
    return _source(name).about


def load(
    name: str | None = None,
    data_dir: Folder = None,
    data: Folder = None,
    *,
    shape: tuple[int, int, int] | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """A known data set by name, or a user's own from `data`: an .npz file or a folder of images; `digits` by default.

    data_dir  where known sets lie; wins over GPUCNN_DATA
    shape     (H, W, C) to which a user's image files are brought; by default they must be of one size
    progress  called with (what, done, total) while files are downloaded or decoded

    Raises `DataError`, `ArgumentError` for an unknown name; warns with `UserWarning`, also kept in `Dataset.warnings`.
    """
    if data is None:
        return _load(_source(name or "digits"), data_dir, progress)
    if name is not None:
        raise ArgumentError(f"both the data set {name!r} and data={os.fspath(data)!r} are given: give one of them")
    path = Path(os.path.expanduser(data))
    if path.is_dir():
        dataset = folder.load(path, shape, progress)
    elif path.suffix.lower() == ".npz":
        dataset = npz_set.load(path)
    else:
        raise DataError(
            f"data={os.fspath(data)!r} is neither a folder nor an .npz file: give a folder with a subfolder of images "
            "per class, or an .npz file with x_train, y_train, x_test and y_test"
        )
    for message in dataset.warnings:
        warnings.warn(message, UserWarning, stacklevel=2)
    return dataset


def locate(name: str, data_dir: Folder = None) -> Found | None:
    """Where a known data set would be read from, in which form, with the files' hashes; None if nowhere."""
    return search(_source(name), data_dir)[0]


def fetch(name: str, data_dir: Folder = None, progress: Progress | None = None) -> Found:
    """Download what is missing of the published files into `data_dir`/name, or into the user cache.

    Raises `DataError` if no mirror serves the files with the pinned hashes, or GPUCNN_OFFLINE is set; `FileError` if
    they cannot be written.
    """
    source = _source(name)
    return source.embedded() if source.embedded else _fetch(source, data_dir, progress)


def verify(name: str, data_dir: Folder = None) -> list[Check]:
    """Each file of a known data set where it would be read from, with its published and its actual SHA-256.

    A set that is nowhere gives its published files without `path` and `actual`.
    """
    source = _source(name)
    found, seen = search(source, data_dir)
    if found:
        return list(found.checks)
    problem = next((place.problem for place in seen if place.problem), "not found")
    return [Check(file, None, source.hashes[file], None, problem) for file in source.files]


def _source(name: str) -> Source:
    sources = {_bare(known_name): source for known_name, source in known().items()}
    if _bare(name) in sources:
        return sources[_bare(name)]
    close = difflib.get_close_matches(_bare(name), sources, 1)
    hint = f"did you mean {sources[close[0]].name}? " if close else ""
    raise ArgumentError(
        f"unknown data set {name!r}: {hint}known are {', '.join(names())}; your own images go to data (--data)"
    )


def _bare(name: str) -> str:
    return re.sub(r"[-_]", "", name).lower()
