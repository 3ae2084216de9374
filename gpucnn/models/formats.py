"""Model files of other libraries: which suffix is read and written by what.

The rooms above register their formats here, so that `model.save`, `model.export` and `load_model`
find them by the suffix without importing them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, FileError
from ..files import MODEL_SUFFIX


@dataclass(frozen=True)
class Format:
    """What a suffix stands for, and the functions for it; None for what cannot be done.

    save, export, save_weights  (model, path, **options) → None
    load                        (path, **options) → Sequential
    load_weights                (model, path, **options) → None
    """

    suffix: str
    name: str
    save: Callable[..., None] | None = None
    export: Callable[..., None] | None = None
    load: Callable[..., Any] | None = None
    save_weights: Callable[..., None] | None = None
    load_weights: Callable[..., None] | None = None


_CALLS = {
    "save": "model.save",
    "export": "model.export",
    "save_weights": "model.save_weights",
    "load": "models.load_model",
    "load_weights": "model.load_weights",
}
"""What a user writes for each action."""

_formats: dict[str, Format] = {}


def register(entry: Format) -> None:
    """Use this format for files with its suffix."""
    _formats[entry.suffix] = entry


def find(filepath: Any) -> Format | None:
    """The format of a file by the longest suffix that fits its name; None for gpucnn's and unknown ones."""
    name = Path(filepath).name.lower()
    return max((f for f in _formats.values() if name.endswith(f.suffix)), key=lambda f: len(f.suffix), default=None)


def suffix_of(filepath: Any) -> str:
    """The suffix of the format of a file; gpucnn's own if it is not one of another library."""
    entry = find(filepath)
    return MODEL_SUFFIX if entry is None else entry.suffix


def function_for(filepath: Any, action: str) -> Callable[..., Any] | None:
    """The function of another library's format for an action; None if the format is gpucnn's own.

    Raises `ArgumentError` if the format has none, with what to write instead.
    """
    entry = find(filepath)
    if entry is None:
        return None
    function = getattr(entry, action)
    if function is None:
        kin = ("load", "load_weights") if "load" in action else ("save", "export", "save_weights")
        call = next((_CALLS[other] for other in kin if getattr(entry, other) is not None), None)
        cure = f"write {call}({str(filepath)!r})" if call else f"use {' or '.join(suffixes_for(action))}"
        raise ArgumentError(f"{action}({str(filepath)!r}): this does not work with files of {entry.name}; {cure}")
    return function


def suffixes_for(action: str) -> list[str]:
    """The suffixes whose formats have a function for an action."""
    own = [] if action == "export" else [MODEL_SUFFIX]
    return own + [suffix for suffix, entry in _formats.items() if getattr(entry, action) is not None]


def new_path(filepath: Any, overwrite: bool) -> Path:
    """The path of a file to write. Raises `FileError` if it exists and must not be replaced."""
    path = Path(filepath)
    if not overwrite and path.exists():
        raise FileError(f"{path} exists already: choose another name, or give overwrite=True")
    return path
