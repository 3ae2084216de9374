"""Where the files of a data set may lie, which of them are there, and whether they are the published ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from ..files import explained
from .dataset import Dataset

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done and how much there is (0 if unknown)."""

Folder = str | os.PathLike[str] | None


@dataclass(frozen=True)
class Check:
    """One file against its published SHA-256: `expected` is None if none is published, `path` if it is missing."""

    file: str
    path: Path | None
    expected: str | None
    actual: str | None
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether this is the published file, to the byte."""
        return self.actual is not None and self.actual == self.expected


@dataclass(frozen=True)
class Found:
    """A data set as it lies on disk: `files` in the order in which the reader wants them, `form` in words."""

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
    """A place that was looked in without success; `problem` says why what lies there is of no use."""

    place: str
    root: Path
    problem: str | None
    given: bool


@dataclass(frozen=True)
class Source:
    """A known data set.

    files     what is published, and what a download brings from any of the https folders in `mirrors`
    hashes    SHA-256 of every form in which the set is published, by file name
    read      takes a `Found` and returns the `Dataset`
    folders   where it lies below a folder of data sets
    find      takes a folder and returns (form, files), or a sentence on why what lies there is of no use, or None
    embedded  finds the set in the package itself: nothing else is searched then
    """

    name: str
    about: str
    classes: tuple[str, ...]
    files: tuple[str, ...]
    hashes: Mapping[str, str]
    read: Callable[[Found, Progress | None], Dataset]
    mirrors: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    find: Callable[[Path], tuple[str, tuple[Path, ...]] | str | None] = lambda folder: None
    embedded: Callable[[], Found] | None = None


def offline() -> bool:
    """Whether GPUCNN_OFFLINE forbids to open a socket."""
    return os.environ.get("GPUCNN_OFFLINE", "") not in ("", "0")


def user_cache() -> Path:
    """The folder that downloads and decoded images go to."""
    import pooch

    return pooch.os_cache("gpucnn") / "datasets"


def roots(data_dir: Folder = None) -> Iterator[tuple[str, Path, bool]]:
    """The folders of data sets to look in, best first: what it is, where it is, whether the user named it."""
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
    """The first place that holds the set, or None; and the places looked in before it."""
    if source.embedded:
        return source.embedded(), []
    seen: list[Seen] = []
    for place, root, given in roots(data_dir):
        problem = None
        for folder in dict.fromkeys(root / name for name in source.folders):
            hit = source.find(folder)
            if isinstance(hit, tuple):
                found = inspect(source, place, folder, *hit)
                other = _other_set(source, found)
                if other is None:
                    return found, seen
                hit = f"{folder} holds the files of {other}"
            problem = problem or hit
        seen.append(Seen(place, root, problem, given))
    return None, seen


def inspect(source: Source, place: str, path: Path, form: str, files: tuple[Path, ...]) -> Found:
    """A `Found` with the files' hashes taken."""
    unknown = f"{form}: not one of the published files"
    checks = [Check(path.name, path, None, None, unknown)] if not files else []
    for file in files:
        expected = source.hashes.get(file.name)
        checks.append(Check(file.name, file, expected, sha256(file), "" if expected else unknown))
    return Found(source.name, place, path, form, files, tuple(checks))


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file. Raises `FileError` if it cannot be read."""
    with explained("read", path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_declared: dict[str, Source] = {}


def declare(source: Source) -> Source:
    """Make a source known by its name."""
    _declared[source.name] = source
    return source


def known() -> dict[str, Source]:
    """All declared sources by name."""
    return dict(_declared)


def _other_set(source: Source, found: Found) -> str | None:
    actual = {check.actual for check in found.checks}
    return next((s.name for s in _declared.values() if s.name != source.name and actual & set(s.hashes.values())), None)
