"""Folders: the cache of compiled code (GPUCNN_CACHE, or the user's cache), and `kernels/`."""

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
    """The cache folder `name`, created if it is missing. Raises `FileError` if that fails."""
    path = cache_location() / name
    with explained("make", path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def cache_location() -> Path:
    """The folder that holds all cache folders."""
    chosen = os.environ.get("GPUCNN_CACHE")
    if chosen:
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_cache_dir("gpucnn", appauthor=False))


def cache_key(*parts: object) -> str:
    """A file name for what these parts determine: the start of the SHA-256 of their texts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(str(part).encode() + b"\0")
    return digest.hexdigest()[:24]


def folder_of_kernels() -> Path:
    """The folder `kernels/`, in the package or next to it, imported as `gpucnn.kernels`."""
    if "gpucnn.kernels" not in sys.modules:
        here = Path(__file__).resolve().parent
        folders = (here / "kernels", here.parent / "kernels")
        folder = next((folder for folder in folders if (folder / "__init__.py").is_file()), None)
        if folder is None:
            raise KernelError(f"the folder kernels/ is neither in {here} nor next to it: reinstall gpucnn")
        spec = importlib.util.spec_from_file_location(
            "gpucnn.kernels", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["gpucnn.kernels"] = module
        spec.loader.exec_module(module)
    return Path(next(iter(sys.modules["gpucnn.kernels"].__path__)))


@cache
def forget_outdated_code() -> None:
    """Delete what Numba compiled before the shared code in `kernels/shared` was last edited.

    Numba's cache checks only the file of the function, so it would run old code of functions
    inlined into it.
    """
    folder = folder_of_kernels()
    edited = max((path.stat().st_mtime for path in (folder / "shared").glob("*.py")), default=0.0)
    for index in Path(os.environ.get("NUMBA_CACHE_DIR") or folder).rglob("*.nbi"):
        with suppress(OSError):  # another process may do the same, or the folder may be read-only
            if index.stat().st_mtime < edited:
                index.unlink()
