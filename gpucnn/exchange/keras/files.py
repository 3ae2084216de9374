"""The files of Keras 3: `.keras`, a zip archive of JSON and HDF5, and `.weights.h5`."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...config import check_names
from ...errors import ArgumentError, FileError, GpucnnError, one_line, warn
from ...files import check_regular, explained, write_atomically
from ...layers.layer import at_most, leaves
from ...models import saving
from ...models.model import Model
from ...models.sequential import Sequential
from ...models.signature import Signature
from ...version import __version__
from . import descriptions
from .store import Store, encoded, group_names

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_KERAS = "3.0.0"
"""The version of the format that is written."""

_LARGEST_RATIO = 20
"""An archive that unpacks to more times its size is refused: weights hardly shrink."""


def save(model: Model, filepath: Any) -> None:
    """Write a `.keras` file: layers, weights and what `compile` said, without the optimizer's state,
    which Keras starts anew with a warning.

    Raises `ArgumentError` for a model that is not built, and for layers and functions of the user's.
    """
    weights = _encoded_weights(model)
    description = descriptions.described(model)
    metadata: dict[str, Any] = {"keras_version": _KERAS, "gpucnn": __version__}
    if model.signature is not None:
        metadata["signature"] = model.signature.to_json()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {
            _METADATA: json.dumps(metadata).encode(),
            _CONFIG: json.dumps(description, allow_nan=False).encode(),
            _WEIGHTS: weights,
        }.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    write_atomically(filepath, buffer.getvalue())


def save_weights(model: Model, filepath: Any) -> None:
    """Write a `.weights.h5` file. Raises `ArgumentError` for a model that is not built."""
    write_atomically(filepath, _encoded_weights(model))


def _encoded_weights(model: Model) -> bytes:
    saving.arrays_of(model)  # which raises for a model without weights
    stack = list(leaves(model.layers))
    names = group_names(type(layer).__name__ for layer in stack)
    return encoded({name: layer.get_weights() for name, layer in zip(names, stack, strict=True)})


def load(filepath: Any, custom_objects: dict[str, type] | None = None, compile: bool = True) -> Sequential:
    """The model in a `.keras` file, with its weights, and compiled if it was, unless compile=False.

    Sequential models are read, and Functional ones whose branches part in one tensor and meet in one Add
    or Concatenate: they become Residual and Parallel layers. Training starts with a new
    state of the optimizer. What `compile` said and gpucnn lacks is named in a warning. Raises
    `FileError` for a damaged file, and for layers that gpucnn lacks; nothing in the file is run.
    """
    path = Path(filepath)
    content = _unpacked(path)
    with _read_from(path):
        description = saving.parse(content[_CONFIG])
        architecture, names = descriptions.architecture(description)
        check_names([architecture])
    with Store(path, content[_WEIGHTS]) as store:
        stored = sum(int(np.prod(shape)) for name in names for shape in store.shapes(name))
        with _read_from(path), at_most(stored):
            model = Sequential.from_config(architecture, custom_objects)
            if not model.built:
                raise ArgumentError("it has no layers")
        _restore(path, store, model, names)
    with _read_from(path):
        metadata = saving.parse(content[_METADATA])
        if "signature" in metadata:
            model.signature = Signature.from_json(metadata["signature"])
            model.signature.check_fits(model.input_shape, model.output_shape)
    if compile and description.get("compile_config"):
        _compile(path, model, description["compile_config"], custom_objects)
    return model


def load_weights(model: Model, filepath: Any, skip_mismatch: bool = False) -> None:
    """Read the weights of a `.weights.h5` or `.keras` file into a model of the same layers.

    None is changed unless all fit; with `skip_mismatch`, layers that do not fit keep theirs, and a
    warning names them.
    """
    path = Path(filepath)
    saving.arrays_of(model)
    data = _unpacked(path)[_WEIGHTS] if path.suffix.lower() == ".keras" else _bytes_of(path)
    names = group_names(type(layer).__name__ for layer in leaves(model.layers))
    with Store(path, data) as store:
        _restore(path, store, model, names, skip_mismatch)


def _restore(path: Path, store: Store, model: Model, names: list[str], skip_mismatch: bool = False) -> None:
    fitting, skipped = [], []
    for layer, name in zip(leaves(model.layers), names, strict=True):
        expected, stored = [weight.shape for weight in layer.weights], store.shapes(name)
        if expected == stored:
            fitting.append((layer, name))
        elif skip_mismatch:
            skipped.append(layer.name)
        else:
            shapes = [", ".join(map(str, shapes)) or "none" for shapes in (stored, expected)]
            raise FileError(
                f"{path}: the weights of layers/{name} have the shapes {shapes[0]} in the file, and {shapes[1]} in the "
                f"layer {layer.name}: it was saved by another model"
            )
    if skipped:
        warn(f"{path} does not fit {', '.join(skipped)}: left unchanged")
    arrays = [(layer, store.arrays(name)) for layer, name in fitting]
    for layer, values in arrays:
        layer.set_weights(values)


def _compile(path: Path, model: Sequential, config: Any, custom_objects: dict[str, type] | None) -> None:
    try:
        model.compile_from_config(descriptions.settings(config), custom_objects)
    except Exception as error:  # whatever the constructors raise for what the file says
        warn(f"{path} is loaded without what compile said: {one_line(error)}; call model.compile(...)")


def _bytes_of(path: Path) -> bytes:
    with explained("read", path):
        check_regular(path)
        return path.read_bytes()


def _unpacked(path: Path) -> dict[str, bytes]:
    """The three files in the archive. Raises `FileError` for others, and for one that unpacks to far more."""
    data = _bytes_of(path)
    if data[:4] != b"PK\x03\x04":
        raise FileError(f"{path} is not a .keras file: it is not a zip archive")
    with _read_from(path), zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.getinfo(name) for name in (_METADATA, _CONFIG, _WEIGHTS)}
        if entries[_METADATA].file_size > saving.LONGEST_JSON or entries[_CONFIG].file_size > saving.LONGEST_JSON:
            raise ArgumentError(f"its JSON is longer than {saving.LONGEST_JSON} bytes")
        if sum(entry.file_size for entry in entries.values()) > _LARGEST_RATIO * len(data):
            raise ArgumentError(f"it unpacks to more than {_LARGEST_RATIO} times its size")
        return {name: archive.read(entry) for name, entry in entries.items()}


@contextmanager
def _read_from(path: Path) -> Iterator[None]:
    """Every error in the body becomes a `FileError` of one line."""
    try:
        yield
    except FileError:
        raise
    except GpucnnError as error:
        raise FileError(f"{path} cannot be read: {one_line(error)}") from error
    except Exception as error:
        raise FileError(f"{path} is damaged: {one_line(error) or type(error).__name__}") from error
