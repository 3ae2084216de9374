"""The settings of a run: all that determines its result, as JSON values in its `run.json`."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import datasets, distributed, utils
from ..config import check_fields
from ..datasets import Dataset, ProgressHook
from ..devices import choose, threads
from ..dispatch import choice, op, precision
from ..errors import ArgumentError, DataError, FileError
from ..models.stored import StoredImages
from ..progress import say as announce
from . import augmentation, self_check
from .run import Run
from .training import SCHEDULES

_RANGES = {
    "learning_rate": lambda rate: 0 < rate < float("inf"),
    "validation_split": lambda share: 0 <= share < 1,
    "seed": lambda seed: 0 <= seed < 2**32,
    "weight_decay": lambda share: 0 <= share < float("inf"),
    "schedule": lambda name: name in SCHEDULES,
    "augment": lambda name: name in augmentation.LEVELS,
    "precision": lambda name: name in precision.PRECISIONS,
    "tune": lambda name: name in choice.TUNING,
    **dict.fromkeys(
        ("batch_size", "epochs", "early_stopping", "threads", "save_every", "parts", "filters"),
        lambda count: count >= 1,
    ),
}


@dataclass(frozen=True)
class RunSettings:
    """All that determines the result of a run; None takes the value of the recipe or the model.

    dataset      a name from `gpucnn.datasets`; with `data`, the name of those images
    data         the path of the user's images
    data_dir     where to look first for published data sets
    image_shape  "HxWxC", the size to which the image files of `data` are converted
    strict       whether a broken image file of `data` is an error; otherwise it is left out
    stream       whether the training images of `data` stay in a file; None if they do not fit into the memory
    fingerprint  SHA-256 of all images and labels
    recipe       a name of `recipes`; it decides what the other settings leave open
    model        a name of the zoo, or FILE.py:FUNCTION; None takes the one for the data set
    model_sha256
                 that of the user's file with the model; nothing imports it by itself
    filters      how many the first convolution has; the others keep their ratio to it
    augment      how the training images are changed at random: a name of `augmentation.LEVELS`
    flip         mirror half of the training images from left to right
    schedule     how the learning rate falls over all epochs: a name of `training.SCHEDULES`
    early_stopping
                 stop after so many epochs without a lower validation loss
    best         keep the weights of the epoch with the lowest validation loss
    validation_split
                 the fraction of the training images, drawn at random by the seed, that is held out
    batch_size   of all processes together
    parts        into how many parts each batch is cut, whose gradients are added up in their order; None
                 for as many as there are processes
    algorithms   op → algorithm of its kernels; for other ops it is chosen as usual
    precision    how exactly products read their factors: a name of `precision.PRECISIONS`
    tune         whether kernels are chosen by measurement, as `gpucnn.use` takes it
    load         name and SHA-256 of each file with the user's kernels; nothing loads it by itself

    Raises `ArgumentError` for a value of another type or out of range.
    """

    dataset: str | None = None
    data: str | None = None
    data_dir: str | None = None
    image_shape: str | None = None
    strict: bool = False
    stream: bool | None = None
    recipe: str | None = None
    model: str | None = None
    model_sha256: str | None = None
    filters: int | None = None
    optimizer: str | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    epochs: int | None = None
    weight_decay: float | None = None
    schedule: str | None = None
    augment: str | None = None
    flip: bool | None = None
    early_stopping: int | None = None
    best: bool | None = None
    validation_split: float | None = None
    seed: int = 0
    device: str = "auto"
    backend: str = "auto"
    algorithms: dict[str, str] | None = None
    load: list[dict[str, str]] | None = None
    precision: str = "float32"
    tune: str = "off"
    threads: int | None = None
    save_every: int | None = None
    parts: int | None = None
    classes: list[str] | None = None
    note: str | None = None
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        check_fields(RunSettings, vars(self))
        for name, fits in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not fits(value):
                raise ArgumentError(f"{name} is {value}, which is out of range")

    @classmethod
    def of(cls, run: Run) -> RunSettings:
        """The settings of a run. Raises `FileError` if this version does not know them."""
        values = dict(run.settings)
        values["load"] = _without_paths(values.get("load"))
        try:
            check_fields(cls, values)
            settings = cls(**values)
            if settings.model is None:
                raise ArgumentError("model is None and must be str")
            if not settings.classes:
                raise ArgumentError("no classes")
        except (ArgumentError, RecursionError) as error:
            raise FileError(f"{run.folder / 'run.json'} is damaged or of another version: {error}") from error
        return settings

    def load_data(self, progress: ProgressHook | None = None) -> Dataset:
        """Load the images. Raises `DataError` if they are not those of the fingerprint."""
        files: dict[str, Any] = {"shape": self.image_shape and extents(self.image_shape), "strict": self.strict}
        stream: dict[str, Any] = {"stream": self.stream}
        if self.fingerprint is None:
            return datasets.load(self.dataset, self.data_dir, self.data, progress=progress, **files, **stream)
        if self.data is not None and not os.path.isdir(os.path.expanduser(self.data)):
            files = {}  # which earlier versions accepted for .npz files as well, and did not use
        name = None if self.data else self.dataset
        data = datasets.load(name, self.data_dir, self.data, progress=progress, **files, **stream)
        if fingerprint(data) != self.fingerprint:
            data = replace(data, x_val=None, y_val=None)  # which earlier versions did not read
        if fingerprint(data) != self.fingerprint:
            raise DataError(f"{data.name} in {data.path} is not what the run was trained on: give the same files")
        if self.classes != data.classes:
            raise DataError(
                f"{data.name} in {data.path} has the classes {', '.join(data.classes)}, and the run was trained on "
                f"{', '.join(self.classes or [])}: give them their names back"
            )
        return data

    def with_data_dir(self, data_dir: str | None) -> RunSettings:
        """The settings with another folder of data sets, unless `data_dir` is None."""
        return replace(self, data_dir=data_dir or self.data_dir)

    def apply(self) -> RunSettings:
        """Put seed, kernels, device and threads into use; returns settings with the actual device.

        An algorithm of the user's own that is not loaded is not used, and a warning says so.
        """
        if self.tune != "off" and distributed.launched() > 1:
            raise ArgumentError(f"tune={self.tune!r}: kernels are measured by one process alone: leave out --ranks")
        device = distributed.device_of_rank(self.device)
        if device != "auto" or self.backend == "auto":
            device = self_check.device(device, announce)
        utils.set_random_seed(self.seed)  # after the check, which trains too
        choice.use(self.backend, device=device, tune=self.tune)
        choice.require_precision(self.precision)
        distributed.check_device()
        choice.use(**self._algorithms_here())
        threads.use(self.threads)
        name = choose.current().name
        several = distributed.launched() > 1 and name.startswith("gpu")
        return replace(self, device="gpu" if several else name)  # each process has another

    def _algorithms_here(self) -> dict[str, str]:
        """The chosen algorithms, without those of kernel files that are not loaded."""
        chosen = dict(self.algorithms or {})
        for name in list(chosen) if self.load else []:
            kernels = op.declared()[name].kernels(choice.backends()).values() if name in op.declared() else ()
            if chosen[name] not in {"reference", *(kernel.algorithm for kernel in kernels)}:
                files = " or ".join(entry["name"] for entry in self.load or [])
                warnings.warn(
                    f"{name} was computed with your algorithm {chosen.pop(name)!r}, and {files} is not loaded here: "
                    "gpucnn's own kernels are used, so the last digits may differ",
                    stacklevel=4,
                )
        return chosen


def extents(shape: str) -> tuple[int, int, int]:
    """Parse "HxWxC" into (H, W, C). Raises `ArgumentError` for anything else."""
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*x[1-9]\d*", shape):
        raise ArgumentError(f"the shape {shape!r} must be height x width x channels, such as 28x28x1")
    height, width, channels = map(int, shape.split("x"))
    return height, width, channels


def fingerprint(data: Dataset) -> str:
    """SHA-256 of all images and labels of a data set, in hexadecimal."""
    sha256 = hashlib.sha256()
    arrays = (data.x_train, data.y_train, data.x_test, data.y_test, data.x_val, data.y_val)
    for array in (array for array in arrays if array is not None):
        sha256.update(f"{array.dtype}{array.shape}".encode())
        for block in array.blocks() if isinstance(array, StoredImages) else (array,):
            sha256.update(np.ascontiguousarray(block).data)
    return sha256.hexdigest()


def _without_paths(load: Any) -> Any:
    """Earlier versions kept the paths of kernel files, and no hash: the name is all that is used."""
    if not isinstance(load, list):
        return load
    return [{"name": Path(entry).name} if isinstance(entry, str) else entry for entry in load]
