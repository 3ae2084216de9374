"""Reading .npy and .npz files of unknown origin: no pickles, and bounded memory."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..devices import free_memory
from ..errors import DataError, GpucnnError
from ..files import check_regular, explained

MOST_PACKED = 100
"""A file may unpack to so many times its size; images are packed four times, or ten."""

_ALWAYS_ALLOWED = 16 << 20
"""Files may unpack to so many bytes however small they are."""

_AT_ONCE = 1 << 20
"""Bytes that are unpacked at once."""

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read(path: Path, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """The named arrays of an .npz file; other arrays are not read.

    Raises `DataError` for a damaged file, a missing array, Python objects, and sizes that do not
    match the header, exceed the free memory or are far above that of the file; `FileError` if the
    file cannot be opened.
    """
    required = list(required)
    with _opened(path) as archive:
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
        check_unpacked(sum(info.file_size for info in chosen), path, "write it again with np.savez")
        arrays = {}
        for info in chosen:
            with archive.open(info) as stream:
                name = info.filename.removesuffix(".npy")
                arrays[name] = _array(stream, info.file_size, f"{name} in {path}")
        return arrays


def names(path: Path) -> list[str]:
    """The names of all arrays of an .npz file, under the same conditions as `read`."""
    with _opened(path) as archive:
        return [info.filename.removesuffix(".npy") for info in archive.infolist()]


def size_of(path: Path, name: str) -> int:
    """The bytes of an array of an .npz file; 0 if it has none of that name."""
    with _opened(path) as archive:
        return next((info.file_size for info in archive.infolist() if info.filename == f"{name}.npy"), 0)


@contextmanager
def opened_array(path: Path, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype, str]]:
    """(a stream of the values, shape, dtype, a checksum) of an array of an .npz file, which may be larger than
    the memory. Raises as `read` does."""
    with _opened(path) as archive:
        info = archive.getinfo(f"{name}.npy")
        _check_packed(info.file_size, path, "write it again with np.savez")
        with archive.open(info) as stream:
            shape, by_columns, dtype = _header(stream, info.file_size, f"{name} in {path}")
            if by_columns:
                raise DataError(f"{name} in {path} is stored by columns: write it again with np.ascontiguousarray")
            yield stream, shape, dtype, f"{info.CRC:08x}{info.file_size:x}"


def read_array(path: Path) -> np.ndarray:
    """The array of an .npy file, under the same conditions as `read`."""
    try:
        with explained("read", path):
            check_regular(path)
            with open(path, "rb") as stream:
                size = path.stat().st_size
                check_unpacked(size, path, "use a smaller one")
                return _array(stream, size, str(path))
    except GpucnnError:
        raise
    except Exception as error:
        raise DataError(f"{path} is not an intact .npy file ({error}): write it again with np.save") from error


def check_unpacked(size: int, path: Path, cure: str) -> None:
    """Raise `DataError` if a file would unpack to more bytes than are free, or than its own size
    makes likely."""
    free = free_memory.available()
    if free is not None and size > free:
        need, left = free_memory.readable(size), free_memory.readable(free)
        raise DataError(f"{path} unpacks to {need} but {left} is free: use a smaller file")
    _check_packed(size, path, cure)


def _check_packed(size: int, path: Path, cure: str) -> None:
    packed = os.path.getsize(path)
    if size > max(MOST_PACKED * packed, _ALWAYS_ALLOWED):
        raise DataError(
            f"{path} of {free_memory.readable(packed)} would unpack to {free_memory.readable(size)}, more than "
            f"{MOST_PACKED} times as much, as files do that are made to fill the memory: if you trust it, {cure}"
        )


def fill(array: np.ndarray, stream: Any) -> bool:
    """Read an array's bytes from a binary stream into it; False if the stream ends before."""
    rest = array.reshape(-1).view(np.uint8).data
    while len(rest):
        count = stream.readinto(rest[:_AT_ONCE])
        if not count:
            return False
        rest = rest[count:]
    return True


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive; every error in the body becomes one of gpucnn's."""
    try:
        with explained("read", path):
            check_regular(path)
            with zipfile.ZipFile(path) as archive:
                yield archive
    except GpucnnError:
        raise
    except Exception as error:
        raise DataError(f"{path} is not an intact .npz file ({error}): write it again with np.savez") from error


def _header(stream: IO[bytes], size: int, what: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether it is stored by columns, dtype) of the array that begins here."""
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise DataError(f"{what} is of .npy version {version}: only plain arrays (versions 1.0 and 2.0) are read")
    shape, by_columns, dtype = _HEADERS[version](stream)
    if dtype.hasobject or dtype.kind == "V":
        raise DataError(f"{what} holds Python objects or records (dtype {dtype}): save plain numbers instead")
    rest = size - stream.tell()
    count = math.prod(shape)
    if count * dtype.itemsize != rest:
        raise DataError(f"{what}: the header promises {shape} of {dtype} but {rest} bytes follow: the file is damaged")
    return shape, by_columns, dtype


def _array(stream: IO[bytes], size: int, what: str) -> np.ndarray:
    shape, by_columns, dtype = _header(stream, size, what)
    array = np.empty(shape, dtype, order="F" if by_columns else "C")
    if not fill(array.T if by_columns else array, stream):
        raise DataError(f"{what} ends before its last value: the file is damaged")
    return array.astype(dtype.newbyteorder("="), order="C", copy=False)
