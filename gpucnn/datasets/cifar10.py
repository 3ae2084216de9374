"""CIFAR-10: 50,000 + 10,000 RGB images of ten things, 32×32 (Krizhevsky 2009).

Read from the published binary files (https://www.cs.toronto.edu/~kriz/cifar.html: one byte of
label, then 1,024 bytes each of red, green and blue, row by row), or from PNG or JPEG copies in
{train,test}/<class>/. The published Python files are pickles, which can run any code, and are not
read.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import DataError
from ..files import explained
from ..random import permutation
from . import archive, decoded, image_files, images
from .dataset import Dataset, Pair
from .published import load
from .source import Folder, Found, ProgressHook, Source, declare

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_BATCHES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
_ARCHIVE = "cifar-10-binary.tar.gz"
_UNPACKED = "cifar-10-batches-bin"
_PICKLED = ("cifar-10-python.tar.gz", "cifar-10-batches-py", "data_batch_1")
_IMAGE_ARCHIVE = re.compile(
    r"cifar[-_]?10(?!0)(?!.*(python|matlab|binary)).*\.(tar|tar\.gz|tgz|tar\.xz|tar\.bz2|zip)", re.IGNORECASE
)
_IMAGE = re.compile(r"(^|/)(train|test)/[^/]+/[^/]+\.(png|jpe?g)$", re.IGNORECASE)
_ROW = 1 + 3 * 32 * 32
_LARGEST_BATCH = 10_000 * _ROW
_LARGEST_IMAGE_FILE = 1 << 20


def load_data(*, data_dir: Folder = None) -> tuple[Pair, Pair]:
    """`(x_train, y_train), (x_test, y_test)` as in Keras: uint8 (50000, 32, 32, 3), (50000, 1), and
    10000 of each.

    Looks for the files in `data_dir` (default: GPUCNN_DATA), in the user cache and where Keras and
    torchvision keep them, and downloads them if they are not found. Raises `DataError` if neither
    works or a file is damaged.
    """
    dataset = load(SOURCE, data_dir)
    y_train, y_test = (y.astype(np.uint8)[:, None] for y in (dataset.y_train, dataset.y_test))
    return (dataset.x_train, y_train), (dataset.x_test, y_test)


def _find(place: Path) -> tuple[str, tuple[Path, ...]] | str | None:
    for base in (place / _UNPACKED, place / "cifar-10-binary" / _UNPACKED, place):
        missing = [name for name in _BATCHES if not os.path.isfile(base / name)]
        if not missing:
            return "binary files", tuple(base / name for name in _BATCHES)
        if len(missing) < len(_BATCHES):
            return f"{base} lacks {', '.join(missing)}"
    for name in (_ARCHIVE, _ARCHIVE.removesuffix(".gz")):  # 7-Zip unpacks .tar.gz in two steps
        if os.path.isfile(place / name):
            return "binary archive", (place / name,)
    if all(os.path.isdir(place / split / name) for split in ("train", "test") for name in CLASSES):
        return "folders of images", ()
    if os.path.isdir(place) and os.access(place, os.R_OK | os.X_OK):
        archives = sorted(file for file in place.iterdir() if _IMAGE_ARCHIVE.fullmatch(file.name))
        if archives:
            return "archive of images", (archives[0],)
    for name in _PICKLED:
        if os.path.exists(place / name):
            return (
                f"{place / name} is the pickled version, which can run any code and is not read: put {_ARCHIVE} "
                f"(SHA-256 {SOURCE.hashes[_ARCHIVE]}) there instead"
            )
    return None


def _read(found: Found, progress: ProgressHook | None = None) -> Dataset:
    if found.form.endswith("images"):
        return _read_images(found, progress)
    batches = _archived(found.files[0]) if len(found.files) == 1 else {f.name: _file(f) for f in found.files}
    rows = [_rows(batches[name], f"{name} in {found.path}") for name in _BATCHES]
    (x_train, y_train), (x_test, y_test) = (_pair(part) for part in (np.concatenate(rows[:5]), rows[5]))
    return Dataset(found.name, x_train, y_train, x_test, y_test, list(CLASSES), path=found.path)


SOURCE = declare(
    Source(
        name="cifar10",
        about="50,000 + 10,000 photographs of ten things, 32×32 RGB",
        classes=CLASSES,
        files=(_ARCHIVE,),
        mirrors=("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/"),
        hashes={
            _ARCHIVE: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
            "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
            "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
            "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
            "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
            "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
        },
        folders=("cifar10", "cifar-10", "cifar_10", "."),
        find=_find,
        read=_read,
    )
)


def _file(path: Path) -> bytes:
    with explained("read", path), open(path, "rb") as file:
        return file.read(_LARGEST_BATCH + 1)


def _archived(path: Path) -> dict[str, bytes]:
    batches = {}
    for member in archive.members(path, lambda name: name.rpartition("/")[2] in _BATCHES, _LARGEST_BATCH):
        batches[member.name.rpartition("/")[2]] = member.data
    missing = [name for name in _BATCHES if name not in batches]
    if missing:
        raise DataError(f"{path} holds no {', '.join(missing)}: delete it and download it again")
    return batches


def _rows(batch: bytes, what: str) -> np.ndarray:
    if not batch or len(batch) % _ROW or len(batch) > _LARGEST_BATCH:
        raise DataError(
            f"{what} is not up to 10,000 images of {_ROW} bytes ({len(batch)} bytes read): download it again"
        )
    return np.frombuffer(batch, np.uint8).reshape(-1, _ROW)


def _pair(rows: np.ndarray) -> Pair:
    planes = rows[:, 1:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), rows[:, 0].astype(np.int64)


def _read_images(found: Found, progress: ProgressHook | None) -> Dataset:
    key = found.checks[0].actual if found.files else _fingerprint(found.path)
    (x_train, y_train, x_test, y_test), warnings = decoded.once(f"cifar10-{key}", lambda: _decode(found, progress))
    if (len(x_train), len(x_test)) != (50_000, 10_000):
        warnings.append(
            f"cifar10: {len(x_train)} + {len(x_test)} images in {found.path}, but 50000 + 10000 were published"
        )
    note = "cifar10: decoded from image files, not comparable with figures from the published pixels"
    return Dataset(found.name, x_train, y_train, x_test, y_test, list(CLASSES), note, warnings, found.path)


def _decode(found: Found, progress: ProgressHook | None) -> decoded.Halves:
    """All images, each half in a fixed random order, like the published halves."""
    rows: dict[str, list[tuple[int, str, np.ndarray]]] = {"train": [], "test": []}
    for done, (name, file) in enumerate(_image_files(found), 1):
        split, label, pixels = _decoded(name, file, found.path)
        rows[split].append((label, name, pixels))
        if progress and done % 500 == 0:
            progress("decoding cifar10", done, max(done, 60_000))
    return *_shuffled(rows["train"], "train", found.path), *_shuffled(rows["test"], "test", found.path)


def _shuffled(rows: list[tuple[int, str, np.ndarray]], split: str, where: Path) -> Pair:
    if not rows:
        raise DataError(f"{where} holds no images {split}/<class>/*.png or *.jpg: CIFAR-10 needs train and test")
    rows.sort(key=lambda row: row[:2])
    order = permutation(len(rows), seed=0)
    return np.stack([rows[i][2] for i in order]), np.array([rows[i][0] for i in order], np.int64)


def _decoded(name: str, file: Path | IO[bytes], where: Path) -> tuple[str, int, np.ndarray]:
    split, class_name = name.split("/")[-3:-1]
    if class_name not in CLASSES:
        raise DataError(f"{where}: {name} is of class {class_name!r}: the classes of CIFAR-10 are {', '.join(CLASSES)}")
    pixels = images.decode(file, f"{name} in {where}", 3)
    if pixels.shape != (32, 32, 3):
        raise DataError(f"{where}: {name} is {pixels.shape[0]}×{pixels.shape[1]}: images of CIFAR-10 are 32×32")
    return split, CLASSES.index(class_name), pixels


def _image_files(found: Found) -> Iterator[tuple[str, Path | IO[bytes]]]:
    if not found.files:
        yield from _in_folders(found.path)
    for path in found.files:
        for member in archive.members(path, lambda name: bool(_IMAGE.search(name)), _LARGEST_IMAGE_FILE):
            yield member.name, io.BytesIO(member.data)


def _in_folders(place: Path) -> Iterator[tuple[str, Path]]:
    for split in ("train", "test"):
        for file, _ in image_files.labelled(place / split, CLASSES):
            yield file.relative_to(place).as_posix(), file


def _fingerprint(place: Path) -> str:
    """A hash that changes when a file is added, removed or written, without reading the files."""
    digest = hashlib.sha256()
    for name, file in _in_folders(place):
        stat = file.stat()
        digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
