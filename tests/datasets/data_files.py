"""Small data sets, written to files in the published formats."""

import gzip
import hashlib
import io
import os
import struct

import numpy as np
import pytest
from PIL import Image

from gpucnn.datasets import idx

REAL = os.environ.get("GPUCNN_DATA")
real = pytest.mark.skipif(not REAL, reason="GPUCNN_DATA does not name a folder with the real files")
unpublished = pytest.mark.filterwarnings("ignore:.*not as published")


def idx_bytes(array, type_code=8):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, type_code, array.ndim, *array.shape) + array.tobytes()


def small_set(rng, train=6, test=4):
    return [
        rng.integers(0, 256, (train, 28, 28)).astype(np.uint8),
        (np.arange(train) % 10).astype(np.uint8),
        rng.integers(0, 256, (test, 28, 28)).astype(np.uint8),
        (np.arange(test) % 10).astype(np.uint8),
    ]


def write_idx(folder, arrays, packed=True):
    folder.mkdir(parents=True, exist_ok=True)
    for stem, array in zip(idx.STEMS, arrays):
        content = idx_bytes(array)
        (folder / f"{stem}{'.gz' if packed else ''}").write_bytes(gzip.compress(content) if packed else content)
    return folder


def publish(monkeypatch, source, folder):
    """Make the hashes of the files in a folder the published ones."""
    for file in folder.iterdir():
        monkeypatch.setitem(source.hashes, file.name, hashlib.sha256(file.read_bytes()).hexdigest())


def save_npz(path, **changes):
    arrays = {
        "x_train": np.zeros((4, 5, 5, 1), np.uint8),
        "y_train": np.array([0, 1, 2, 1]),
        "x_test": np.ones((2, 5, 5, 1), np.uint8),
        "y_test": np.array([0, 2]),
    }
    arrays.update(changes)
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def write_image(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, quality=95)
    return path


def image_bytes(array, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()
