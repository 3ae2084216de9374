"""Bringing the published files of a data set: https mirrors, pinned SHA-256, nothing kept that does not match."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import DataError
from ..files import explained
from .source import Folder, Found, Progress, Seen, Source, inspect, offline, sha256, user_cache

_LOCAL = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO}
"""What goes wrong with the disk, whichever mirror is asked."""


def fetch(
    source: Source, data_dir: Folder = None, progress: Progress | None = None, seen: Sequence[Seen] = ()
) -> Found:
    """The published files in `data_dir`/name, or in the user cache: those not there yet are downloaded.

    Each file is written under another name, checked, then renamed. Raises `DataError` naming every source tried (those
    in `seen` as well) with the files, hashes and folder for doing it by hand; `FileError` if the folder is no good.
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
                folder.rmdir()  # unless something lies in it
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


def _retrieve(url: str, folder: Path, name: str, known_hash: str, progress: Progress | None) -> None:
    import pooch

    bar = _Bar(name, progress) if progress else False
    try:
        with _quiet(pooch.get_logger()):
            downloader = pooch.HTTPDownloader(progressbar=bar)
            pooch.retrieve(url, f"sha256:{known_hash}", fname=name, path=folder, downloader=downloader)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _LOCAL:
            raise
        raise _Unserved(f"{url}: {_brief(error)}") from error


class _Bar:
    """What pooch wants of a progress bar, handed on to a function."""

    def __init__(self, name: str, progress: Progress) -> None:
        self.name, self.progress = name, progress
        self.total = self.done = 0

    def update(self, count: int) -> None:
        self.done += count
        self.progress(self.name, min(self.done, self.total or self.done), self.total)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        """Nothing is held open."""


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _brief(error: Exception) -> str:
    """One line; of a failed connection the innermost reason."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    text = " ".join(str(reason or error).split())
    return text if len(text) <= 200 else f"{text[:200]} …"


def _nowhere(source: Source, seen: Sequence[Seen], failures: Sequence[str], folder: Path) -> str:
    looked = [f"  {place.place} {place.root}: {place.problem or 'nothing there'}" for place in seen]
    tried = [f"  {failure}" for failure in failures]
    wanted = [f"  {name}  sha256 {source.hashes[name]}" for name in source.files]
    return "\n".join(
        [
            f"{source.name} was not found:",
            *looked,
            *tried,
            f"Put these files into {folder}, or into {source.name}/ below --data-dir or GPUCNN_DATA:",
            *wanted,
        ]
    )
