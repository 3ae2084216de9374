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
from pathlib import Path
from typing import IO

import numpy as np

from ..devices import free_memory
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
    """The four IDX files in a folder (see `Source.find`)."""
    files = [next(filter(os.path.isfile, (folder / f"{stem}.gz", folder / stem)), None) for stem in STEMS]
    missing = [stem for stem, file in zip(STEMS, files) if file is None]
    if not missing:
        return "IDX files", tuple(file for file in files if file)
    return None if len(missing) == len(STEMS) else f"{folder} lacks {', '.join(f'{stem}.gz' for stem in missing)}"


def find_npz(folder: Path, name: str) -> tuple[str, tuple[Path, ...]] | None:
    """Keras' single file in a folder."""
    return (".npz file", (folder / name,)) if os.path.isfile(folder / name) else None


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
    size, free = math.prod(shape), free_memory.available()
    promise = f"{path}: the header promises {shape}"
    if free is not None and size > free:
        raise DataError(f"{promise}, {free_memory.readable(size)}, but {free_memory.readable(free)} of memory is free")
    data = file.read(size)
    if len(data) < size or file.read(1):
        raise DataError(
            f"{promise} and the file holds {'less' if len(data) < size else 'more'}: delete it and download it again"
        )
    return np.frombuffer(data, np.uint8).reshape(shape).copy()
