"""Reading .npy and .npz files of unknown origin: no pickles, and bounded memory."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np

from ..devices import free_memory
from ..errors import DataError, GpucnnError
from ..files import explained

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read(path: Path, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """The named arrays of an .npz file; other arrays are not read.

    Raises `DataError` for a damaged file, a missing array, Python objects, and sizes that do not
    match the header or exceed the free memory; `FileError` if the file cannot be opened.
    """
    required = list(required)
    try:
        with explained("read", path), zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if len(members) < len(archive.infolist()):
                raise DataError(f"{path} holds two arrays of one name: write it again with np.savez")
            missing = [name for name in required if name not in members]
            if missing:
                raise DataError(
                    f"{path} has no array {missing[0]!r}: it needs {', '.join(required)}, "
                    f"and has {', '.join(members) or 'none'}"
                )
            chosen = [members[name] for name in (*required, *optional) if name in members]
            _fits(sum(info.file_size for info in chosen), str(path))
            arrays = {}
            for info in chosen:
                with archive.open(info) as stream:
                    name = info.filename.removesuffix(".npy")
                    arrays[name] = _array(stream, info.file_size, f"{name} in {path}")
            return arrays
    except GpucnnError:
        raise
    except Exception as error:
        raise DataError(f"{path} is not an intact .npz file ({error}): write it again with np.savez") from error


def read_array(path: Path) -> np.ndarray:
    """The array of an .npy file, under the same conditions as `read`."""
    try:
        with explained("read", path), open(path, "rb") as stream:
            size = path.stat().st_size
            _fits(size, str(path))
            return _array(stream, size, str(path))
    except GpucnnError:
        raise
    except Exception as error:
        raise DataError(f"{path} is not an intact .npy file ({error}): write it again with np.save") from error


def _fits(size: int, what: str) -> None:
    free = free_memory.available()
    if free is not None and size > free:
        need, left = free_memory.readable(size), free_memory.readable(free)
        raise DataError(f"{what} unpacks to {need} but {left} is free: use a smaller file")


def _array(stream: IO[bytes], size: int, what: str) -> np.ndarray:
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise DataError(f"{what} is of .npy version {version}: only plain arrays (versions 1.0 and 2.0) are read")
    shape, by_columns, dtype = _HEADERS[version](stream)
    if dtype.hasobject or dtype.names is not None:
        raise DataError(f"{what} holds Python objects or records (dtype {dtype}): save plain numbers instead")
    rest = size - stream.tell()
    count = math.prod(shape)
    if count * dtype.itemsize != rest:
        raise DataError(f"{what}: the header promises {shape} of {dtype} but {rest} bytes follow: the file is damaged")
    flat = np.frombuffer(stream.read(rest), dtype)
    return flat.reshape(shape, order="F" if by_columns else "C").astype(dtype.newbyteorder("="), order="C")
