"""Where compiled things are kept from run to run: GPUCNN_CACHE, or the user's cache folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from .files import explained


def folder(name: str) -> Path:
    """The folder for one kind of things, made where it is missing. Raises `FileError` if that cannot be."""
    path = location() / name
    with explained("make", path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def location() -> Path:
    """The folder of all kinds."""
    base = os.environ.get("GPUCNN_CACHE")
    if base:
        return Path(base)
    import platformdirs

    return Path(platformdirs.user_cache_dir("gpucnn", appauthor=False))


def key(*parts: object) -> str:
    """A file name for what these parts determine: the start of a SHA-256 over their texts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(str(part).encode() + b"\0")
    return digest.hexdigest()[:24]
