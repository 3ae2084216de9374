"""Atomic writes: the new file replaces the old one only when it is complete on the disk."""

from __future__ import annotations

import errno
import importlib.util
import io
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from .errors import FileError

try:
    import fcntl
except ImportError:  # Windows cannot rename open files or sync folders, and locks differently
    fcntl = None  # type: ignore[assignment]

MODEL_SUFFIX = ".safetensors"
"""The suffix of every file that holds a model, its weights or a checkpoint."""

_AT_ONCE = 8 << 20
"""Bytes per write call."""

_TEMPORARY = ".gpucnn-tmp"

_CAUSES = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "your disk quota is used up; free some space",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "permission denied; change the permissions or choose another folder",
    errno.EPERM: "operation not permitted; change the permissions or choose another folder",
    errno.EISDIR: "it is a folder; give the path of a file",
    errno.EIO: "input/output error; check the disk",
}


def write_atomically(path: Any, content: bytes | Callable[[BinaryIO], Any]) -> None:
    """Replace the file at `path` with `content`, or with what a function writes into a buffer.

    The bytes are written to a temporary file in the same folder and synced to the disk before the
    file takes the name, and the mode, of the old one; so a kill or a fault at any moment leaves
    either the old or the new file, complete. Temporary files of killed processes are removed too.
    Raises `FileError` with one line that names the path and the cause.
    """
    if callable(content):
        buffer = io.BytesIO()
        content(buffer)
        content = buffer.getvalue()
    with explained("write", path):
        target = Path(os.path.realpath(path))
        _check_target(target)
        _remove_leftovers(target.parent)
        _replace(target, memoryview(content))
        _sync_folder(target.parent)


def make_folder(path: str | Path, exist_ok: bool = True) -> None:
    """Create a folder and those above it, each synced to the disk: the files in it would be lost
    with their folder."""
    path = Path(path)
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=exist_ok)
    for folder in reversed(missing):
        with suppress(PermissionError):  # a folder that may be written but not read cannot be opened
            _sync_folder(folder.parent)


def lock(descriptor: int) -> bool:
    """Lock an open file until it is closed or the process ends; False if another process has it."""
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except (BlockingIOError, PermissionError):
        return False
    return True


def unlock(descriptor: int) -> None:
    """Give up the lock of an open file, in forked children as well, which have it open too."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextmanager
def explained(verb: str, path: Any) -> Iterator[None]:
    """Turn an OSError into a `FileError` of one line: what failed, where, why, and the cure."""
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        if error.errno == errno.ENOENT:
            folder = Path(path).parent
            cause = "there is no such file" if folder.exists() else f"there is no folder {folder}; make it first"
        else:
            cause = _CAUSES.get(error.errno or 0) or error.strerror or str(error)
        raise FileError(f"cannot {verb} {path}: {cause}") from error


def check_regular(path: Path) -> None:
    """Raise an OSError for folders, devices, pipes and missing files."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a regular file")


def _check_target(target: Path) -> None:
    """Raise for write-protected files and for devices, which `os.replace` would replace as well."""
    with suppress(FileNotFoundError):
        check_regular(target)
        if not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _replace(target: Path, content: memoryview) -> None:
    """Write the content to a temporary file, sync it, and rename it to the target."""
    temporary, descriptor = _create_temporary(target.parent)
    try:
        try:
            with suppress(FileNotFoundError, PermissionError):  # a new file; a file system without modes
                os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
            while content:
                content = content[os.write(descriptor, content[:_AT_ONCE]) :]
            os.fsync(descriptor)
            if fcntl is not None:
                os.replace(temporary, target)  # while it is locked: closing it releases the lock
        finally:
            os.close(descriptor)
        if fcntl is None:
            os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _create_temporary(folder: Path) -> tuple[Path, int]:
    """A new file, locked while it is open: a temporary file that can be locked is a leftover."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        path = folder / f".{secrets.token_hex(8)}{_TEMPORARY}"
        descriptor = os.open(path, flags, 0o666)
        ours = True
        with suppress(OSError):  # files that cannot be locked are never treated as leftovers
            ours = fcntl is None or (lock(descriptor) and os.fstat(descriptor).st_nlink > 0)
        if ours:
            return path, descriptor
        os.close(descriptor)  # another process treated it as a leftover before it was locked


def _remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of processes that were killed."""
    for path in folder.glob(f".*{_TEMPORARY}"):
        with suppress(OSError):
            if fcntl is None:
                os.unlink(path)  # fails while the file is open
                continue
            descriptor = os.open(path, os.O_RDWR)
            try:
                if lock(descriptor):
                    os.unlink(path)
            finally:
                os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Sync the folder, so that the new name survives a crash."""
    if fcntl is None:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # as on some network file systems
            raise
    finally:
        os.close(descriptor)


def executed(path: Path, package: str) -> ModuleType:
    """Execute a Python file that the user named, as a module of `package`; returns the module.

    Raises `FileError` if it is not a Python file; errors of its code are raised as they are.
    """
    spec = importlib.util.spec_from_file_location(f"{package}.{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileError(f"{path} is not a Python file: give the path of a .py file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
