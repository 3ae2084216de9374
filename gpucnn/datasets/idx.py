"""The IDX format of MNIST and similar data sets: a big-endian header, then unsigned bytes.

Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", section "File formats". A
header is two zero bytes, the type (0x08: unsigned byte), the number of axes, and the extent of each
axis as uint32.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import DataError
from ..files import explained
from . import npz
from .dataset import Dataset
from .source import Found, ProgressHook, declared

STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
"""The four files of a data set, each plain or as .gz."""

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
"""The arrays of an .npz file of the whole data set."""


def read(path: Path, axes: int) -> np.ndarray:
    """A uint8 array of `axes` axes from an IDX file, plain or as .gz.

    Raises `DataError` for a truncated or damaged file and for a header that does not match the
    file.
    """
    with explained("read", path):
        try:
            with open(path, "rb") as raw:
                packed = path.suffix == ".gz"
                return _read(gzip.GzipFile(fileobj=raw) if packed else raw, path, axes)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path} is truncated or damaged ({error}): delete it and download it again") from error


def find(folder: Path) -> tuple[str, tuple[Path, ...]] | str | None:
    """The four IDX files in a folder (see `Source.find`), under any name that programs unpack them to."""
    files = [_first(folder, names_of(stem)) for stem in STEMS]
    missing = [stem for stem, file in zip(STEMS, files) if file is None]
    if not missing:
        return "IDX files", tuple(file for file in files if file)
    return None if len(missing) == len(STEMS) else f"{folder} lacks {', '.join(f'{stem}.gz' for stem in missing)}"


def find_npz(folder: Path, name: str) -> tuple[str, tuple[Path, ...]] | None:
    """Keras' single file in a folder."""
    file = _first(folder, [name])
    return (".npz file", (file,)) if file else None


def names_of(stem: str) -> list[str]:
    """The names of one file: packed or not, with a dash or, as 7-Zip unpacks it, with a dot."""
    return [f"{name}{suffix}" for suffix in (".gz", "") for name in (stem, stem.replace("-idx", ".idx"))]


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of these files in a folder, or in a subfolder that has the name of the file."""
    places = [folder, *(folder / name for name in names)]
    return next((place / name for name in names for place in places if os.path.isfile(place / name)), None)


def read_set(found: Found, progress: ProgressHook | None = None) -> Dataset:
    """Read a data set of 28×28 images from its four IDX files or its .npz file."""
    if len(found.files) == 1:
        x_train, y_train, x_test, y_test = npz.read(found.files[0], ARRAYS).values()
    else:
        x_train, y_train, x_test, y_test = (read(path, axes) for path, axes in zip(found.files, (3, 1, 3, 1)))
    for name, x in (("training", x_train), ("test", x_test)):
        if x.shape[1:] != (28, 28) or x.dtype != np.uint8:
            raise DataError(f"{found.path}: the {name} images are {x.shape} of {x.dtype}, not (N, 28, 28) of uint8")
    classes = next(source.classes for source in declared() if source.name == found.name)
    return Dataset(found.name, x_train, y_train, x_test, y_test, list(classes), path=found.path)


def _read(file: gzip.GzipFile | IO[bytes], path: Path, axes: int) -> np.ndarray:
    header = file.read(4)
    if len(header) < 4 or header[:2] != b"\0\0":
        raise DataError(f"{path} is not an IDX file: it begins with {header.hex(' ') or 'nothing'}, not with 00 00")
    if header[2] != 8:
        raise DataError(f"{path} holds values of type 0x{header[2]:02x}: only unsigned bytes (0x08) are read")
    if header[3] != axes:
        raise DataError(f"{path} has {header[3]} axes where {axes} are expected: images have 3 and labels 1")
    extents = file.read(4 * axes)
    if len(extents) < 4 * axes:
        raise DataError(f"{path} ends within its header: delete it and download it again")
    shape = struct.unpack(f">{axes}I", extents)
    size = math.prod(shape)
    promise = f"{path}: the header promises {shape}"
    npz.check_unpacked(size, path, "unpack it with gunzip")
    array = np.empty(shape, np.uint8)
    whole = npz.fill(array, file)
    if not whole or file.read(1):
        raise DataError(f"{promise} and the file holds {'more' if whole else 'less'}: delete it and download it again")
    return array
