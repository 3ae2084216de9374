"""The files with a user's kernels: a run remembers them by name and SHA-256, and never loads them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from ..datasets.source import sha256
from ..dispatch.op import load
from ..errors import ArgumentError, FileError

Entry = dict[str, str]
"""`name` and `sha256` of a file; `sha256` is missing in runs of earlier versions."""


def load_for_new_run(paths: Sequence[str | Path]) -> list[Entry] | None:
    """Load files that the user named; returns their entries for `run.json`, None without files."""
    if isinstance(paths, (str, Path)):
        raise ArgumentError(f"load={str(paths)!r} is one path: give a list of files, [{str(paths)!r}]")
    entries = [_entry(path) for path in paths]
    for path in paths:
        load(path)
    return entries or None


def load_again(folder: Path, entries: Sequence[Entry], paths: Sequence[str | Path]) -> list[Entry] | None:
    """Load files that the user named, if they are those with which the run was trained; returns
    their entries.

    Raises `ArgumentError` for a file that is missing or too many and `FileError` for one with
    another content, before any is loaded.
    """
    given = [(path, _entry(path)) for path in paths]
    given_names, names = [entry["name"] for _, entry in given], [entry["name"] for entry in entries]
    if not set(names) <= set(given_names):
        raise ArgumentError(
            f"{folder} was trained with your kernels in {', '.join(names)}: give the same again with --load"
        )
    for entry in entries:
        if "sha256" not in entry:
            warnings.warn(
                f"{entry['name']} may have changed: {folder} is of an earlier version of gpucnn, which kept no SHA-256",
                stacklevel=3,
            )
    for path, entry in given:
        same_name = [kept for kept in entries if kept["name"] == entry["name"]]
        if not same_name:
            raise ArgumentError(f"{folder} was trained without {entry['name']}: leave out --load {path}")
        hashes = [kept.get("sha256", entry["sha256"]) for kept in same_name]
        if entry["sha256"] not in hashes:
            raise FileError(
                f"{path} is not the file that {folder} was trained with: its SHA-256 is {entry['sha256']}, "
                f"not {hashes[0]}"
            )
    return load_for_new_run(paths)


def _entry(path: str | Path) -> Entry:
    return {"name": Path(path).name, "sha256": sha256(Path(path))}
