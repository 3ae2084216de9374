"""The weights of a Keras model in an HDF5 file: `layers/<class>[_<number>]/vars/<number>`."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import FileError, one_line
from ..libraries import library


def h5py_library() -> Any:
    """The package h5py. Raises `ArgumentError` if it is not installed."""
    return library("h5py", "files of Keras", "keras-files")


def group_names(classes: Iterable[str]) -> list[str]:
    """The groups of layers of these classes, numbered by class: conv2d, conv2d_1, dense."""
    names, taken = [], Counter[str]()
    for cls in classes:
        base = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", cls))
        base = re.sub("([a-z])([A-Z])", r"\1_\2", base).lower()
        names.append(f"{base}_{taken[base]}" if taken[base] else base)
        taken[base] += 1
    return names


def encoded(groups: dict[str, list[np.ndarray]]) -> bytes:
    """An HDF5 file with the arrays of each layer."""
    buffer = io.BytesIO()
    with h5py_library().File(buffer, "w") as file:
        for name, arrays in groups.items():
            variables = file.create_group(f"layers/{name}/vars")
            for number, array in enumerate(arrays):
                variables.create_dataset(str(number), data=array)
        file.create_group("vars")
    return buffer.getvalue()


class Store:
    """The arrays in the bytes of an HDF5 file. Only what lies in the bytes themselves is read.

    Raises `FileError` for links, data elsewhere, and arrays that are stored in fewer bytes than they
    take.
    """

    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        self._h5py = h5py_library()
        try:
            self._file = self._h5py.File(io.BytesIO(data), "r")
        except Exception as error:
            raise self._damaged("its weights are not an HDF5 file", error) from error

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def shapes(self, group: str) -> list[tuple[int, ...]]:
        """The shapes of a layer's arrays; an empty list if there are none."""
        return [dataset.shape for dataset in self._datasets(group)]

    def arrays(self, group: str) -> list[np.ndarray]:
        """A layer's arrays as float32."""
        return [np.asarray(dataset[()], np.float32) for dataset in self._datasets(group)]

    def _datasets(self, group: str) -> list[Any]:
        try:
            variables: Any = self._file
            for part in ("layers", group, "vars"):
                variables = self._member(variables, part, self._h5py.Group)
                if variables is None:
                    return []
            datasets = [self._member(variables, str(n), self._h5py.Dataset) for n in range(len(variables))]
            for number, dataset in enumerate(datasets):
                self._check(f"{group}/{number}", dataset)
            return datasets
        except FileError:
            raise
        except Exception as error:
            raise self._damaged(f"the weights of {group} cannot be read", error) from error

    def _member(self, parent: Any, name: str, kind: type) -> Any:
        link = parent.get(name, getlink=True)
        if link is None:
            return None
        if not isinstance(link, self._h5py.HardLink):
            raise FileError(f"{self.path} has a link to other data at {one_line(name)}: such files are not read")
        member = parent[name]
        if not isinstance(member, kind):
            raise FileError(f"{self.path} is damaged: {one_line(name)} is a {type(member).__name__.lower()}")
        return member

    def _check(self, name: str, dataset: Any) -> None:
        if dataset is None:
            raise FileError(f"{self.path} is damaged: the arrays of {one_line(name)} are not numbered in a row")
        if dataset.dtype.kind != "f" or dataset.dtype.itemsize not in (2, 4, 8):
            raise FileError(f"{self.path}: {one_line(name)} holds {one_line(dataset.dtype)}: weights are floats")
        elsewhere = dataset.external or dataset.is_virtual
        if elsewhere or dataset.id.get_storage_size() < dataset.size * dataset.dtype.itemsize:
            raise FileError(f"{self.path} is damaged: the values of {one_line(name)} are not all in the file")

    def _damaged(self, what: str, error: Exception) -> FileError:
        return FileError(f"{self.path} is damaged: {what} ({one_line(error)})")
