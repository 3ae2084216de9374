"""The notebooks of the course, which come with the package: their copies are the user's."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import warn
from ..files import explained, make_folder, write_atomically

FOLDER = Path(__file__).parent / "course"


def copy(folder: str | Path) -> list[Path]:
    """Copy all notebooks into a folder, which is made if need be; returns the paths of the copies.

    A file of that name with another content is kept, and a warning names it. Raises `FileError`.
    """
    target = Path(os.path.expanduser(folder))
    with explained("make", target):
        make_folder(target)
    paths = []
    for source in sorted(FOLDER.glob("*.ipynb")):
        content, path = source.read_bytes(), target / source.name
        with explained("read", path):
            changed = path.exists() and path.read_bytes() != content
        if changed:
            warn(f"{path} is kept as it is: delete it first to get a fresh copy")
        elif not path.exists():
            write_atomically(path, content)
        paths.append(path)
    return paths
