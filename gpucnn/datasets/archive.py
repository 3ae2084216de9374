"""The members of a tar or zip archive, read into memory one by one; nothing is unpacked to disk."""

from __future__ import annotations

import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from ..files import explained

_DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError,
)  # fmt: skip


class Member(NamedTuple):
    """A file of an archive."""

    name: str
    data: bytes


def members(path: Path, takes: Callable[[str], bool], largest: int) -> Iterator[Member]:
    """The regular files whose names `takes` accepts, in the order of the archive.

    Raises `DataError` for a truncated or damaged archive, for names that point out of it, and for
    members that unpack to more than `largest` bytes.
    """
    with explained("read", path):
        try:
            yield from (_zipped if path.suffix.lower() == ".zip" else _tarred)(path, takes, largest)
        except _DAMAGE as error:
            raise DataError(f"{path} is truncated or damaged ({error}): delete it and download it again") from error


def _tarred(path: Path, takes: Callable[[str], bool], largest: int) -> Iterator[Member]:
    with tarfile.open(path) as archive:
        for info in archive:
            if _inside(info.name, path) and info.isreg() and takes(info.name):
                _fits(info.name, info.size, largest, path)
                file = archive.extractfile(info)
                assert file is not None  # it is a regular file
                yield Member(info.name, file.read())


def _zipped(path: Path, takes: Callable[[str], bool], largest: int) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if _inside(info.filename, path) and not info.is_dir() and takes(info.filename):
                _fits(info.filename, info.file_size, largest, path)
                yield Member(info.filename, archive.read(info))


def _inside(name: str, path: Path) -> bool:
    if name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/"):
        raise DataError(f"{path} has a member {name!r}, which points out of the archive: do not trust this file")
    return True


def _fits(name: str, size: int, largest: int, path: Path) -> None:
    if not 0 <= size <= largest:
        raise DataError(f"{path}: {name} unpacks to {size} bytes, more than the {largest} that the file can have")
