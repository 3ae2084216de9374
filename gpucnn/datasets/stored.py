"""Training images that are larger than the memory: written once as an .npy file in the user cache."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..devices import free_memory
from ..errors import DataError
from ..files import explained, make_folder, write_atomically
from ..models.stored import StoredImages
from . import npz
from .source import user_cache

NEED = 5
"""Bytes that training takes for each byte of images in memory: these, and float32 of them."""


def is_needed(nbytes: int) -> bool:
    """Whether images of so many bytes do not fit into the free memory."""
    free = free_memory.available()
    return free is not None and NEED * nbytes > free


def of_npz(path: Path, name: str) -> StoredImages:
    """The images of an .npz file, uint8 (N, H, W) or (N, H, W, C). Raises `DataError`."""
    with npz.opened_array(path, name) as (stream, shape, dtype, checksum):
        if dtype != np.uint8 or len(shape) not in (3, 4):
            raise DataError(
                f"{name} in {path} is {dtype} of shape {shape}: images that stay in a file are uint8 (N, H, W, C); "
                "convert them, or use --no-stream"
            )
        shape = (*shape, 1)[:4]
        return _once(f"{path.stem}-{checksum}", lambda file: shutil.copyfileobj(stream, file, 1 << 20), shape)


def of_files(
    key: Iterable[str], decoded: Iterable[np.ndarray | None], count: int, shape: tuple[int, int, int], name: str
) -> tuple[StoredImages, np.ndarray]:
    """(decoded images, uint8 of one shape; which of the files are among them, (count,) bool).

    key      what they depend on: the same key is not decoded again
    decoded  the image of each file; None for one that is left out
    """
    digest = hashlib.sha256()
    for line in key:
        digest.update(f"{line}\n".encode(errors="surrogatepass"))
    name = f"{name}-{digest.hexdigest()[:20]}"
    beside = user_cache() / "stored" / f"{name}-intact.npy"

    def write(file: BinaryIO) -> int:
        intact = np.zeros(count, bool)
        for number, image in enumerate(decoded):
            if image is not None:
                file.write(image.tobytes())
                intact[number] = True
        write_atomically(beside, lambda buffer: np.save(buffer, intact))
        return int(intact.sum())

    images = _once(name, write, (count, *shape))
    return images, npz.read_array(beside)


def _once(name: str, write: Callable[[BinaryIO], int | None], shape: tuple[int, ...]) -> StoredImages:
    """The file of this name in the cache, written if it is not there. `write` may return how many images it
    has written, if they are fewer than `shape` says."""
    folder = user_cache() / "stored"
    path = folder / f"{name}.npy"
    if not path.is_file():
        with explained("write", path):
            make_folder(folder)
            _check_disk(folder, math.prod(shape))
            descriptor, temporary = tempfile.mkstemp(dir=folder, suffix=".part")
            try:
                with open(descriptor, "wb") as file:
                    _write_header(file, shape)
                    count = write(file)
                    if count is not None and count < shape[0]:
                        file.seek(0)
                        _write_header(file, (count, *shape[1:]))
                os.replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
    return StoredImages(path)


def _check_disk(folder: Path, nbytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if nbytes > free:
        need, left = free_memory.readable(nbytes), free_memory.readable(free)
        raise DataError(
            f"the images need {need} in {folder}, and {left} is free on the disk: set XDG_CACHE_HOME to a folder with "
            "more"
        )


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """NumPy leaves room in it for any number of images: a second header is as long as the first."""
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
