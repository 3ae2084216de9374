"""Where the files of a data set may be, which exist, and whether they are the published ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .. import places
from ..errors import DataError
from ..files import explained
from .dataset import Dataset
from .images import Centring

ProgressHook = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and the total (0 if unknown)."""

Folder = str | os.PathLike | None


@dataclass(frozen=True)
class Check:
    """A file and its SHA-256: `expected` is None if none is published, `path` if it is missing."""

    file: str
    path: Path | None
    expected: str | None
    actual: str | None
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether this is exactly the published file."""
        return self.actual is not None and self.actual == self.expected


@dataclass(frozen=True)
class Found:
    """A data set on disk: `files` in the order in which they are read, `form` in words."""

    name: str
    place: str
    path: Path
    form: str
    files: tuple[Path, ...]
    checks: tuple[Check, ...] = ()

    @property
    def published(self) -> bool:
        """Whether all files are the published ones."""
        return all(check.ok for check in self.checks)


@dataclass(frozen=True)
class Seen:
    """A place that was searched without success; `problem` says why its content cannot be used."""

    place: str
    root: Path
    problem: str | None
    chosen: bool


@dataclass(frozen=True)
class Source:
    """The definition of a data set.

    files     the published files; each can be downloaded from any of the https folders in `mirrors`
    hashes    SHA-256 of every form in which the data set is published, by file name
    read      takes a `Found` and returns the `Dataset`
    folders   its possible folders below a folder of data sets
    find      takes a folder and returns (form, files), why its content cannot be used, or None
    embedded  finds the data set in the package; nothing else is searched then
    centring  where its images are light digits on dark, how these lie in them
    """

    name: str
    about: str
    classes: tuple[str, ...]
    files: tuple[str, ...]
    hashes: Mapping[str, str]
    read: Callable[[Found, ProgressHook | None], Dataset]
    mirrors: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    find: Callable[[Path], tuple[str, tuple[Path, ...]] | str | None] = lambda folder: None
    embedded: Callable[[], Found] | None = None
    centring: Centring | None = None


def offline() -> bool:
    """Whether GPUCNN_OFFLINE forbids all downloads."""
    return os.environ.get("GPUCNN_OFFLINE", "") not in ("", "0")


def user_cache() -> Path:
    """The folder for downloads and decoded images."""
    return places.user_cache() / "datasets"


def roots(data_dir: Folder = None) -> Iterator[tuple[str, Path, bool]]:
    """The folders to search, in order: name, path, and whether the user chose it."""
    label, value = ("data_dir", data_dir) if data_dir else ("GPUCNN_DATA", os.environ.get("GPUCNN_DATA"))
    if value:
        folder = Path(os.path.expanduser(value))
        if not folder.is_dir():
            raise DataError(f"{label}={str(value)!r} is not a folder: give the folder that holds the data sets")
        yield label, folder, True
    yield "user cache", user_cache(), False
    home = Path(os.path.expanduser("~"))
    yield "Keras' cache", Path(os.environ.get("KERAS_HOME") or home / ".keras") / "datasets", False
    for base in (Path.cwd(), home):
        for name in ("data", "datasets", "."):
            yield "torchvision", base / name, False


def search(source: Source, data_dir: Folder = None) -> tuple[Found | None, list[Seen]]:
    """The first place that holds the data set, or None, and the places searched before it."""
    if source.embedded:
        return source.embedded(), []
    seen: list[Seen] = []
    for place, root, chosen in roots(data_dir):
        problem = None
        for folder in dict.fromkeys(root / name for name in source.folders):
            result = source.find(folder)
            if isinstance(result, tuple):
                found = inspect(source, place, folder, *result)
                other = _other_set(source, found)
                if other is None:
                    return found, seen
                result = f"{folder} holds the files of {other}"
            problem = problem or result
        seen.append(Seen(place, root, problem, chosen))
    return None, seen


def inspect(source: Source, place: str, path: Path, form: str, files: tuple[Path, ...]) -> Found:
    """A `Found` with the hashes of the files."""
    unknown = f"{form}: not one of the published files"
    checks = [Check(path.name, path, None, None, unknown)] if not files else []
    for file in files:
        expected = source.hashes.get(file.name.replace(".idx", "-idx"))  # a dot, as 7-Zip names it
        checks.append(Check(file.name, file, expected, sha256(file), "" if expected else unknown))
    return Found(source.name, place, path, form, files, tuple(checks))


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file. Raises `FileError` if it cannot be read."""
    with explained("read", path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_declared: dict[str, Source] = {}


def declare(source: Source) -> Source:
    """Register a data set under its name."""
    _declared[source.name] = source
    return source


def declared() -> list[Source]:
    """All registered data sets."""
    return list(_declared.values())


def _other_set(source: Source, found: Found) -> str | None:
    actual = {check.actual for check in found.checks}
    return next((s.name for s in _declared.values() if s.name != source.name and actual & set(s.hashes.values())), None)
