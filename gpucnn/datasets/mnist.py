"""MNIST: 60,000 + 10,000 grey images of handwritten digits, 28×28."""

from __future__ import annotations

import os
from pathlib import Path

from . import idx
from .dataset import Pair, keras_pairs
from .images import AS_IN_MNIST
from .published import load
from .source import Folder, Source, declare, inspect

_NPZ = "mnist.npz"


def _find(folder: Path) -> tuple[str, tuple[Path, ...]] | str | None:
    files = idx.find(folder)
    return files if isinstance(files, tuple) else idx.find_npz(folder, _NPZ) or files


SOURCE = declare(
    Source(
        name="mnist",
        about="60,000 + 10,000 handwritten digits, 28×28 grey",
        classes=tuple("0123456789"),
        files=tuple(f"{stem}.gz" for stem in idx.STEMS),
        mirrors=(
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://raw.githubusercontent.com/fgnt/mnist/master/",
        ),
        hashes={
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            _NPZ: "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
        },
        folders=("mnist", "MNIST/raw", "."),
        find=_find,
        read=idx.read_set,
        centring=AS_IN_MNIST,
    )
)


def load_data(path: str | os.PathLike[str] = _NPZ, *, data_dir: Folder = None) -> tuple[Pair, Pair]:
    """`(x_train, y_train), (x_test, y_test)` as in Keras, uint8: 60,000 and 10,000 of (N, 28, 28).

    Looks for the files in `data_dir` (default: GPUCNN_DATA), in the user cache and where Keras and
    torchvision keep them, and downloads them if they are not found. A `path` other than Keras'
    default is an .npz file to read instead. Raises `DataError` if neither works or a file is
    damaged.
    """
    if os.fspath(path) == _NPZ:
        return keras_pairs(load(SOURCE, data_dir))
    return keras_pairs(load(SOURCE, found=inspect(SOURCE, "path", Path(path), ".npz file", (Path(path),))))
