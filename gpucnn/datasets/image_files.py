"""Which image files a folder holds, how it is divided, and which files are left out and why."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError, printable
from ..files import explained
from . import images

PARTS = {"train": ("train", "training"), "test": ("test", "testing"), "val": ("val", "valid", "validation")}
"""The names of the folders into which a folder of images may be divided, in any case."""

_NAMED = 5
"""How many broken files are named one by one."""


class Labelled(NamedTuple):
    """An image file and its class number."""

    path: Path
    label: int


class LeftOut:
    """The files below a folder that were left out, with the reasons.

    broken  the images that cannot be read, each with its error
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, list[Path]] = {}
        self.broken: dict[Path, str] = {}

    def add(self, reason: str, file: Path) -> None:
        """Count a file; the reason completes "3 files were left out: 2 …"."""
        self._files.setdefault(reason, []).append(file)

    def add_broken(self, file: Path, error: Exception) -> None:
        """Count an image that cannot be read."""
        self.broken[file] = str(error)

    def add_unused(self, used: Collection[Path], parts: Sequence[Path] = ()) -> None:
        """Count all other files below the folder, of which `parts` are the parts that were used."""
        for file in files_below(self.folder):
            if file not in used and file not in self.broken:
                reason = self._reason(file, parts)
                if reason:
                    self.add(reason, file)

    def warnings(self) -> list[str]:
        """One line with all counts; nothing if no file was left out."""
        total = sum(map(len, self._files.values())) + len(self.broken)
        if not total:
            return []
        causes = [
            f"{len(files)} {reason}, such as {files[0].relative_to(self.folder)}"
            for reason, files in self._files.items()
        ]
        if self.broken:
            named = list(self.broken.values())[:_NAMED]
            more = len(self.broken) - len(named)
            causes.append(f"{len(self.broken)} broken: {'; '.join(named)}{f'; and {more} more' * bool(more)}")
        files = f"{total} file was" if total == 1 else f"{total} files were"
        return [printable(f"{self.folder}: {files} left out: {'; '.join(causes)}")]

    def _reason(self, file: Path, parts: Sequence[Path]) -> str | None:
        """Why a file that is not used is left out; None for hidden files that are no images."""
        hidden = any(map(_is_hidden, file.relative_to(self.folder).parts))
        if file.suffix.lower() not in images.SUFFIXES:
            return None if hidden else f"of other kinds than {images.KINDS}"
        if hidden:
            return "hidden"
        if not file.is_file():
            return "without content (links to nothing, pipes)"
        if parts and not any(part in file.parents for part in parts):
            return f"outside of {', '.join(f'{part.name}/' for part in parts)}"
        return "beside the folders of the classes"


def parts_of(folder: Path) -> dict[str, Path]:
    """The parts "train", "test" and "val" into which a folder is divided; empty if it is not.

    One folder of such a name without subfolders is the folder of a class. Raises `DataError` if two
    folders are the same part.
    """
    parts: dict[str, Path] = {}
    for part, names in PARTS.items():
        paths = [path for path in subfolders(folder) if path.name.lower() in names]
        if len(paths) > 1:
            raise DataError(f"{folder} has both {paths[0].name}/ and {paths[1].name}/: keep one of them")
        if paths:
            parts[part] = paths[0]
    if len(parts) == 1 and not subfolders(*parts.values()):
        return {}
    return parts


def class_names(folder: Path, least: int = 2) -> list[str]:
    """The names of the subfolders in order: numbers by value, before other names by alphabet.

    Raises `DataError` if there are fewer than `least`.
    """
    names = [path.name for path in subfolders(folder)]
    if not names:
        raise DataError(f"{folder} has no subfolders: put the images of each class into a separate one")
    if len(names) < least:
        (only,) = subfolders(folder)
        below = len(subfolders(only))
        hint = f"; if the classes are the subfolders of {only}, give that" if below > 1 else ""
        raise DataError(
            f"{folder} has one class, the subfolder {only.name}/: two or more are needed, one for each class{hint}"
        )
    return sorted(names, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name))


def labelled(folder: Path, classes: Sequence[str]) -> Iterator[Labelled]:
    """The image files of each class and of its subfolders, sorted by name.

    Raises `DataError` for a class without any.
    """
    for label, name in enumerate(classes):
        files = images_below(folder / name)
        if not files:
            raise DataError(f"{folder / name} holds no {images.KINDS} images: each class needs at least one")
        yield from (Labelled(file, label) for file in files)


def images_below(folder: Path) -> list[Path]:
    """The image files below a folder, without hidden ones, sorted by name."""
    return [
        file
        for file in files_below(folder)
        if file.suffix.lower() in images.SUFFIXES
        and not any(map(_is_hidden, file.relative_to(folder).parts))
        and file.is_file()
    ]


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, sorted by name; links are followed, each folder is read once."""
    found, seen, todo = [], {os.path.realpath(folder)}, [folder]
    while todo:
        with explained("read", todo[-1]):
            entries = list(os.scandir(todo.pop()))
        for entry in entries:
            if not entry.is_dir():
                found.append(Path(entry.path))
            elif (real := os.path.realpath(entry.path)) not in seen:
                seen.add(real)
                todo.append(Path(entry.path))
    return sorted(found)


def subfolders(folder: Path) -> list[Path]:
    """The folders directly in a folder, without hidden ones, sorted by name."""
    with explained("read", folder):
        return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir() and not _is_hidden(entry.name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
