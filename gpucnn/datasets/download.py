"""Downloading published files: https mirrors, pinned SHA-256, nothing kept that differs."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import DataError
from ..files import explained
from .source import Folder, Found, ProgressHook, Seen, Source, inspect, offline, sha256, user_cache

_LOCAL = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO}
"""Errors of the local disk: trying another mirror does not help."""


def fetch(
    source: Source, data_dir: Folder = None, progress: ProgressHook | None = None, seen: Sequence[Seen] = ()
) -> Found:
    """Download the missing published files into `data_dir`/name, or into the user cache.

    Each file is written under a temporary name, verified, then renamed. Raises `DataError` that
    names every source tried, those in `seen` included, and the files, hashes and folder for a
    download by hand; `FileError` if the folder cannot be written.
    """
    folder = (Path(data_dir) if data_dir else user_cache()) / source.name
    failures: list[str] = []
    mirrors = list(source.mirrors)
    for name in source.files:
        if (folder / name).is_file() and sha256(folder / name) == source.hashes[name]:
            continue
        if offline():
            failures.append("GPUCNN_OFFLINE is set, so nothing was downloaded")
            raise DataError(_nowhere(source, seen, failures, folder))
        _make(folder)
        for mirror in tuple(mirrors):
            try:
                with explained("write", folder / name):
                    _retrieve(mirror + name, folder, name, source.hashes[name], progress)
                break
            except _Unserved as error:
                failures.append(str(error))
                mirrors.append(mirrors.pop(mirrors.index(mirror)))
        else:
            with suppress(OSError):
                folder.rmdir()  # fails, as it should, if the folder is not empty
            raise DataError(_nowhere(source, seen, failures, folder))
    files = tuple(folder / name for name in source.files)
    return inspect(source, "data_dir" if data_dir else "user cache", folder, "download", files)


class _Unserved(Exception):
    """A mirror does not serve the file as published."""


def _make(folder: Path) -> None:
    with explained("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _retrieve(url: str, folder: Path, name: str, sha256_hash: str, progress: ProgressHook | None) -> None:
    import pooch

    bar = _PoochProgress(name, progress) if progress else False
    try:
        with _quiet(pooch.get_logger()):
            downloader = pooch.HTTPDownloader(progressbar=bar)
            pooch.retrieve(url, f"sha256:{sha256_hash}", fname=name, path=folder, downloader=downloader)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _LOCAL:
            raise
        raise _Unserved(f"{url}: {_brief(error)}") from error


class _PoochProgress:
    """Takes pooch's calls to a progress bar and passes them to a function."""

    def __init__(self, name: str, progress: ProgressHook) -> None:
        self.name, self.progress = name, progress
        self.total = self.done = 0

    def update(self, count: int) -> None:
        self.done += count
        self.progress(self.name, min(self.done, self.total or self.done), self.total)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        """Required by pooch; there is nothing to close."""


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _brief(error: Exception) -> str:
    """The error in one line; for a failed connection its innermost reason."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    text = " ".join(str(reason or error).split())
    return text if len(text) <= 200 else f"{text[:200]} …"


def _nowhere(source: Source, seen: Sequence[Seen], failures: Sequence[str], folder: Path) -> str:
    places = [f"  {place.place} {place.root}: {place.problem or 'nothing there'}" for place in seen]
    downloads = [f"  {failure}" for failure in failures]
    files = [f"  {name}  sha256 {source.hashes[name]}" for name in source.files]
    return "\n".join(
        [
            f"{source.name} was not found:",
            *places,
            *downloads,
            f"Put these files into {folder}, or into {source.name}/ below --data-dir or GPUCNN_DATA:",
            *files,
        ]
    )
