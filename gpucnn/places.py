"""Folders: where compiled code is kept from run to run (GPUCNN_CACHE, or the user's cache folder), and `kernels/`."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from .errors import KernelError
from .files import explained


def cache_folder(name: str) -> Path:
    """The folder for one kind of things, made where it is missing. Raises `FileError` if that cannot be."""
    path = cache_location() / name
    with explained("make", path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def cache_location() -> Path:
    """The folder of all kinds."""
    base = os.environ.get("GPUCNN_CACHE")
    if base:
        return Path(base)
    import platformdirs

    return Path(platformdirs.user_cache_dir("gpucnn", appauthor=False))


def cache_key(*parts: object) -> str:
    """A file name for what these parts determine: the start of a SHA-256 over their texts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(str(part).encode() + b"\0")
    return digest.hexdigest()[:24]


def folder_of_kernels() -> Path:
    """The folder `kernels/`, in the installed package or beside it in a checkout, importable as `gpucnn.kernels`."""
    if "gpucnn.kernels" not in sys.modules:
        here = Path(__file__).resolve().parent
        for folder in (here / "kernels", here.parent / "kernels"):
            if (folder / "__init__.py").is_file():
                spec = importlib.util.spec_from_file_location(
                    "gpucnn.kernels", folder / "__init__.py", submodule_search_locations=[str(folder)]
                )
                assert spec is not None and spec.loader is not None
                module = importlib.util.module_from_spec(spec)
                sys.modules["gpucnn.kernels"] = module
                spec.loader.exec_module(module)
                break
        else:
            raise KernelError(f"the folder kernels/ is neither in nor beside {here}: reinstall gpucnn")
    return Path(next(iter(sys.modules["gpucnn.kernels"].__path__)))


@cache
def forget_outdated_code() -> None:
    """Drop what Numba compiled before the shared code in `kernels/shared` was last edited.

    Numba's cache on disk looks at the file of a function alone, so it would run the old code of the functions inlined.
    """
    folder = folder_of_kernels()
    edited = max((path.stat().st_mtime for path in (folder / "shared").glob("*.py")), default=0.0)
    elsewhere = os.environ.get("NUMBA_CACHE_DIR")
    for index in Path(elsewhere or folder).rglob("*.nbi"):
        with suppress(OSError):  # another process may be doing the same, or the folder is read-only
            if index.stat().st_mtime < edited:
                index.unlink()
