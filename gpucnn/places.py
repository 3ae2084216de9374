"""Folders: the cache of compiled code, and `kernels/`.

The cache is in GPUCNN_CACHE, or in the user's cache folder; where neither can be written, in a
temporary folder of the user. Each entry ends with its SHA-256. An entry that is damaged, or cannot
be read, counts as missing, so it is made again; one that cannot be written costs time only.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import stat
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

from .errors import FileError, KernelError
from .files import explained, write_atomically

CACHES = {
    "emulator": "kernels for GPUs, compiled for the emulator",
    "figures": "what compilers report about kernels",
    "numba": "kernels for the CPU",
    "ptx": "kernels in numba.cuda",
    "self-check": "verdicts on the GPUs of this machine",
    "tuning": "which kernels are the fastest for a call",
}
"""The folders of the cache, and what each holds. All of it is made again when it is missing."""

_DIGEST = hashlib.sha256().digest_size


def cache_location() -> Path:
    """The folder that holds all cache folders, if it can be written."""
    return user_folder(_chosen_location())


def _chosen_location() -> Path:
    return Path(os.environ.get("GPUCNN_CACHE") or _user_cache())


def user_cache() -> Path:
    """The user's cache folder for gpucnn, which holds data sets too."""
    return user_folder(_user_cache())


def _user_cache() -> str:
    import platformdirs

    try:
        return platformdirs.user_cache_dir("gpucnn", appauthor=False)
    except RuntimeError:  # in some versions, for a user without a home
        return "~/.cache/gpucnn"


def user_folder(path: str | Path) -> Path:
    """The path with `~` expanded; a temporary folder for a user without a home."""
    return (_temporary() or Path(os.sep)) if _is_homeless(path) else Path(os.path.expanduser(path))


def cache_folder(name: str, variable: str = "GPUCNN_CACHE", location: Path | None = None) -> Path | None:
    """The cache folder `name`, created if it is missing: in `location`, which an environment
    variable names; else in `cache_location()`; else in a temporary folder of the user. None if none
    of them can be written. A warning says why it is not the first."""
    problem = None
    for root in (location, _chosen_location(), _temporary()):
        if root is None:
            continue
        try:
            folder = _writable(root, name)
        except FileError as error:
            problem = problem or error
            continue
        if problem:
            _warn(f"{problem}; compiled code is kept in {folder.parent}", variable)
        return folder
    _warn(f"{problem}; compiled code is not kept from run to run", variable)
    return None


def _writable(root: Path, name: str = "") -> Path:
    """The folder `name` of `root`, both created if missing. Raises `FileError` if files cannot be
    created there."""
    if _is_homeless(root):
        raise FileError(f"cannot write {root}: this user has no home folder")
    with explained("write", root):
        folder = Path(os.path.expanduser(root), name)
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    return folder


def _is_homeless(path: str | Path) -> bool:
    return os.path.expanduser(path).startswith("~")


def _temporary() -> Path | None:
    """The user's folder in the system's for temporary files; None if it cannot be written, or if
    others can write there too, because what is cached is executed."""
    user = os.getuid() if hasattr(os, "getuid") else None
    try:
        path = Path(tempfile.gettempdir(), "gpucnn" if user is None else f"gpucnn-{user}")
        path.mkdir(mode=0o700, exist_ok=True)
        status = os.lstat(path)
        foreign = user is not None and (status.st_uid != user or status.st_mode & 0o022)
        return _writable(path) if stat.S_ISDIR(status.st_mode) and not foreign else None
    except OSError:
        return None


def cached_files() -> dict[str, list[Path]]:
    """The files in each folder of the cache."""
    root = cache_location()
    return {name: sorted(p for p in (root / name).rglob("*") if p.is_file()) for name in CACHES}


def clear_caches() -> tuple[int, int]:
    """Remove the files of the cache; returns how many they were, and their bytes. Data sets, which
    may lie in the same folder, stay."""
    count = size = 0
    for files in cached_files().values():
        for path in files:
            with explained("remove", path):
                size += path.stat().st_size
                path.unlink()
            count += 1
    return count, size


def cached(folder: str, name: str, make: Callable[[], bytes]) -> bytes:
    """What `make` returns: from the file `name` of a cache folder if that is intact, else made and
    kept there."""
    place = cache_folder(folder)
    content = intact(place / name) if place else None
    if content is None:
        content = make()
        if place:
            keep(place / name, content)
    return content


def intact(path: Path) -> bytes | None:
    """The content of a cache entry; None if it is missing, damaged or cannot be read."""
    try:
        entry = path.read_bytes()
    except OSError:
        return None
    content, digest = entry[:-_DIGEST], entry[-_DIGEST:]
    return content if hashlib.sha256(content).digest() == digest else None


def keep(path: Path, content: bytes) -> bool:
    """Write a cache entry; False, with a warning, if that fails."""
    try:
        write_atomically(path, content + hashlib.sha256(content).digest())
    except FileError as error:
        cause = str(error).removeprefix(f"cannot write {path}: ")
        _warn(f"cannot write {path.parent}: {cause}; compiled code is not kept from run to run", "GPUCNN_CACHE")
        return False
    return True


@cache
def _warn(message: str, variable: str) -> None:
    """Warn of each cause once."""
    warnings.warn(f"{message}: set {variable} to a folder that can be written", stacklevel=4)


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
