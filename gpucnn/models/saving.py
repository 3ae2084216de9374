"""Models, weights and checkpoints in files: safetensors for the numbers, JSON for everything else.

A file holds named tensors (`weights/<path>`, `optimizer/<slot>/<path>`, `history/<metric>`,
`callbacks/<number>`) and, in its metadata, one JSON document: format version, architecture, compile
settings, training state, and a SHA-256 over all of these and the tensors. Nothing in a file is ever
executed or imported.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..arguments import PathLike, check
from ..devices import storage
from ..errors import ArgumentError, FileError, TrainingError, one_line, warn
from ..files import MODEL_SUFFIX, check_regular, explained, write_atomically
from ..layers.layer import by_path
from ..retired import arguments_of, reject
from ..version import __version__
from . import callback_states, formats
from .model import Model
from .signature import Signature

FORMAT_VERSION = 1
"""Files with another number are refused."""

LONGEST_JSON = 1 << 20
"""Longer headers are refused: parsing JSON takes up to fifty times its length."""

MOST_LAYERS = 4096

WEIGHTS, OPTIMIZER, _HISTORY = "weights/", "optimizer/", "history/"

_OTHER_KINDS = {
    b"PK\x03\x04": "a zip archive, as .keras, .npz and .pt files are",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUM": "a NumPy array",
    b"\x80": "a pickle, which can run any program when it is loaded",
}


def save_model(model: Model, filepath: Any, overwrite: bool = True, *, include_optimizer: bool = True) -> None:
    """Write architecture, weights, compile settings and optimizer state to a `.safetensors` file.

    With a suffix of another library, such as `.keras`, write its kind of file. Raises
    `ArgumentError` for an unknown suffix or a model that is not built, `FileError` if the file
    cannot be written.
    """
    if foreign := formats.function_for(filepath, "save"):
        return foreign(model, formats.new_path(filepath, overwrite))
    path = _writable(filepath, overwrite)
    tensors = arrays_of(model, include_optimizer and model.compiled)
    write_atomically(path, _encode(_describe(model), tensors))


def export_model(
    model: Model, filepath: Any, format: str | None = None, overwrite: bool = True, **options: Any
) -> None:
    """Write the model for inference in another library, which the suffix names.

    Raises `ArgumentError` for a suffix without one, or a `format` that is not that of the suffix.
    """
    write = formats.function_for(filepath, "export")
    kinds = formats.suffixes_for("export")
    if write is None or (format is not None and not str(filepath).endswith(f".{format}")):
        stated = f", format={format!r}" if format is not None else ""
        raise ArgumentError(f"export({str(filepath)!r}{stated}): the suffix says the format; use {' or '.join(kinds)}")
    if unknown := {name: value for name, value in options.items() if name not in arguments_of(write)}:
        reject("export", unknown, ["filepath", "format", "overwrite", *arguments_of(write)[2:]])
    write(model, formats.new_path(filepath, overwrite), **options)


def save_weights(model: Model, filepath: Any, overwrite: bool = True) -> None:
    """Write the weights alone to a `.safetensors` file, or to one of another library by its suffix."""
    if foreign := formats.function_for(filepath, "save_weights"):
        return foreign(model, formats.new_path(filepath, overwrite))
    path = _writable(filepath, overwrite)
    write_atomically(path, _encode({}, arrays_of(model)))


def load_weights(model: Model, filepath: Any, skip_mismatch: bool = False) -> None:
    """Read weights by name into a built model; none is changed unless all fit.

    With `skip_mismatch`, weights that the file lacks or has in another shape keep their values; a
    warning names them.
    """
    if foreign := formats.function_for(filepath, "load_weights"):
        return foreign(model, Path(filepath), skip_mismatch=skip_mismatch)
    path = readable(filepath)
    arrays, tensors = arrays_of(model), read(path).below(WEIGHTS)
    if skip_mismatch:
        skipped = [name for name, array in arrays.items() if not _fits(array, tensors.get(name))]
        if skipped:
            names = ", ".join(name.removeprefix(WEIGHTS) for name in skipped)
            warn(f"{path} does not fit {names}: left unchanged")
        arrays = {name: array for name, array in arrays.items() if name not in skipped}
        tensors = {name: tensors[name] for name in arrays}
    restore(path, tensors, arrays, model)


def save_checkpoint(path: Any, model: Model) -> None:
    """Write all that training needs to resume bit for bit: model, optimizer state and progress.

    Raises `TrainingError` if a weight is not finite: the last checkpoint before stays as it is.
    """
    path = _writable(path, overwrite=True)
    tensors, training = arrays_of(model, with_optimizer=True), model.training_state.to_json()
    trained = [segment.weight.path for segment in model.parameters.segments]
    ruined = [name for name in trained if not np.isfinite(tensors[WEIGHTS + name]).all()]
    if ruined:
        raise TrainingError(f"{path} is not written: the weights {', '.join(ruined)} are not finite; lower the rate")
    tensors |= {_HISTORY + name: np.array(values, np.float64) for name, values in training["history"].items()}
    training["history"] = list(training["history"])
    training["callbacks"], arrays = callback_states.apart(training["callbacks"])
    tensors |= arrays
    write_atomically(path, _encode({**_describe(model), "training": training}, tensors))


def load_checkpoint(path: Any, model: Model) -> None:
    """Restore a checkpoint into a compiled model; the next `fit` resumes from there."""
    path = readable(path)
    content = read(path)
    training = content.document.get("training")
    if training is None:
        raise FileError(f"{path} is not a checkpoint: read it with load_model")
    if not model.compiled:
        raise ArgumentError("load_checkpoint needs a compiled model: call model.compile(...) first")
    if content.document.get("architecture") != _as_parsed(model.get_config()):
        raise FileError(f"{path} was saved by a model of another architecture: read it with load_model")
    with described_by(path):
        training = {"calls": 0, "callbacks": {}, **training}  # which a file may be too old to have
        training["callbacks"] = callback_states.together(training["callbacks"], content.below(callback_states.PREFIX))
        training["history"] = {name: content.tensors[_HISTORY + name].tolist() for name in training["history"]}
        for name in model.training_state.to_json():
            if name not in training:
                raise KeyError(f"{name} of the training state")
        state = type(model.training_state).from_json(training)
        signature = signature_of(content.document, model)
    restore(path, content.below(WEIGHTS, OPTIMIZER), arrays_of(model, with_optimizer=True), model)
    with described_by(path):
        set_seeds(model, content.document["seeds"])
    model.signature = signature or model.signature
    model.training_state = state


def verify(path: Any) -> None:
    """Check a file's SHA-256. Raises `FileError` if the file is missing, cut or altered."""
    read(Path(path))


def weights_sha256(model: Model) -> str:
    """SHA-256 of all weights (name, type, shape, bytes), the same on every machine."""
    sha256 = hashlib.sha256()
    _hash_tensors(sha256, ((name.removeprefix(WEIGHTS), array) for name, array in arrays_of(model).items()))
    return sha256.hexdigest()


# -- a model as tensors and a document ---------------------------------------------------------------------------------


def _describe(model: Model) -> dict[str, Any]:
    settings = model.compile_config()
    described = {"architecture": model.get_config(), "seeds": _seeds_of(model), "draws": model.training_state.draws()}
    if model.signature is not None:
        model.signature.check_fits(model.input_shape, model.output_shape)
        described["signature"] = model.signature.to_json()
    return described if settings is None else {**described, "compile": settings}


def signature_of(document: dict[str, Any], model: Model) -> Signature | None:
    """The signature in a file's document, checked against the model; None if there is none."""
    if document.get("signature") is None:
        return None
    signature = Signature.from_json(document["signature"])
    signature.check_fits(model.input_shape, model.output_shape)
    return signature


def _seeds_of(model: Model) -> dict[str, int]:
    """The seeds of the layers that draw random numbers, by the layers' names."""
    seeds = {path: getattr(layer, "seed", None) for path, layer in by_path(model.layers)}
    return {name: seed for name, seed in seeds.items() if isinstance(seed, int)}


def set_seeds(model: Model, seeds: dict[str, int]) -> None:
    """Give the layers that draw random numbers the seeds in a file."""
    if seeds.keys() != _seeds_of(model).keys() or not all(type(s) is int and 0 <= s < 2**64 for s in seeds.values()):
        raise ArgumentError(f"the seeds {seeds} are not those of the layers")
    for path, layer in by_path(model.layers):
        if path in seeds:
            layer.seed = seeds[path]  # type: ignore[attr-defined]


def arrays_of(model: Model, with_optimizer: bool = False) -> dict[str, np.ndarray]:
    """The model's arrays by their names in a file; copies unless they are on the CPU."""
    if not model.built:
        raise ArgumentError("the model has no weights yet: give it an Input, or fit it first")
    slots = {}
    if with_optimizer:
        model.optimizer.build(model.parameters)  # which moves the weights into one flat array
        slots = model.optimizer.slots(model.parameters)
    arrays: dict[str, np.ndarray] = {}
    for weight in model.weights:
        if WEIGHTS + weight.path in arrays:
            raise ArgumentError(f"two weights are called {weight.path!r}: give add_weight(name=...) another name")
        arrays[WEIGHTS + weight.path] = storage.get(weight.value)
    return arrays | {OPTIMIZER + name: array for name, array in slots.items()}


def _fits(array: np.ndarray, tensor: np.ndarray | None) -> bool:
    return tensor is not None and tensor.shape == array.shape and tensor.dtype == array.dtype


def restore(path: Path, tensors: dict[str, np.ndarray], arrays: dict[str, np.ndarray], model: Model) -> None:
    """Copy a file's tensors into the model if they fit `arrays`, the model's, exactly."""
    for name, array in arrays.items():
        if name not in tensors:
            raise FileError(f"{path} has no {name}, which the model needs: it was saved by another model")
        if not _fits(array, tensors[name]):
            tensor = tensors[name]
            raise FileError(
                f"{path}: {name} is {tensor.dtype} {tensor.shape} in the file "
                f"and {array.dtype} {array.shape} in the model: it was saved by another model"
            )
        if array.dtype.kind == "i" and (tensors[name] < 0).any():
            raise FileError(f"{path} is damaged: {name} is {tensors[name].min()}, below zero")
    for name in sorted(tensors.keys() - arrays.keys()):
        raise FileError(f"{path} has {one_line(name)}, which the model lacks: it was saved by another model")
    for weight in model.weights:
        if WEIGHTS + weight.path in arrays:
            weight.assign(tensors[WEIGHTS + weight.path])
    slots = {name.removeprefix(OPTIMIZER): tensors[name] for name in arrays if name.startswith(OPTIMIZER)}
    if slots:
        model.optimizer.set_slots(model.parameters, slots)


# -- tensors and a document as bytes -----------------------------------------------------------------------------------


def _encode(document: dict[str, Any], tensors: dict[str, np.ndarray]) -> bytes:
    import safetensors.numpy

    document = _as_parsed({"format_version": FORMAT_VERSION, "gpucnn": __version__, **document})
    document["sha256"] = content_sha256(document, tensors)
    contiguous = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in tensors.items()}
    data = safetensors.numpy.save(contiguous, {"gpucnn": _json(document)})
    length = int.from_bytes(data[:8], "little")
    if length > LONGEST_JSON:
        raise FileError(f"names, architecture and history take {length} bytes; the format allows {LONGEST_JSON}")
    return data


def content_sha256(document: dict[str, Any], tensors: dict[str, np.ndarray]) -> str:
    """The SHA-256 that a file stores, of its document without `sha256` and its tensors."""
    hashed = {key: value for key, value in document.items() if key != "sha256"}
    sha256 = hashlib.sha256(_json(hashed, sort_keys=True).encode())
    _hash_tensors(sha256, sorted(tensors.items()))
    return sha256.hexdigest()


def _hash_tensors(sha256: Any, tensors: Iterable[tuple[str, np.ndarray]]) -> None:
    for name, array in tensors:
        little_endian = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
        sha256.update(_json([name, little_endian.dtype.str, array.shape]).encode())
        sha256.update(little_endian.reshape(-1).view(np.uint8))


def _json(value: Any, sort_keys: bool = False) -> str:
    return json.dumps(_without_nan(value), sort_keys=sort_keys, separators=(",", ":"), allow_nan=False)


def _without_nan(value: Any) -> Any:
    """JSON has no NaN and no infinity: `{"float": "nan"}` stands for it."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return value


def _as_parsed(value: Any) -> Any:
    """What a JSON value looks like after a round trip: tuples are lists, keys are strings."""
    return parse(_json(value))


# -- bytes as tensors and a document -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Content:
    """What an intact file holds."""

    document: dict[str, Any]
    tensors: dict[str, np.ndarray]

    def below(self, *prefixes: str) -> dict[str, np.ndarray]:
        """The tensors whose names begin with one of these prefixes."""
        return {name: array for name, array in self.tensors.items() if name.startswith(prefixes)}


def readable(filepath: Any) -> Path:
    """The path of a file to read. Raises `ArgumentError` for the old suffixes of Keras."""
    check("a file", "filepath", filepath, PathLike)
    path = Path(filepath)
    if path.suffix in (".h5", ".hdf5"):
        raise ArgumentError(
            f"{path} has the suffix of Keras 2: gpucnn reads and writes {MODEL_SUFFIX}, and .keras and .weights.h5, "
            "the suffixes of Keras 3"
        )
    return path


def _writable(filepath: Any, overwrite: bool) -> Path:
    path = readable(filepath)
    if path.suffix != MODEL_SUFFIX:
        raise ArgumentError(f"{path} must end in {MODEL_SUFFIX}, such as {path.name or 'model'}{MODEL_SUFFIX}")
    return formats.new_path(path, overwrite)


def read(path: Path) -> Content:
    """The verified content. Raises `FileError` for anything but an intact file of gpucnn."""
    import safetensors.numpy

    data, header = _bytes_of(path)
    with _intact(path, data):
        document = parse(parse(header).get("__metadata__", {}).get("gpucnn", "{}"))
        version = document.get("format_version")
        if version is None:
            raise FileError(f"{path} is not a file of gpucnn")
        if version != FORMAT_VERSION:
            writer = one_line(document.get("gpucnn"))
            raise FileError(
                f"{path} has format version {one_line(version)}, this gpucnn {__version__} reads {FORMAT_VERSION}: "
                f"read it with gpucnn {writer}, which wrote it"
            )
        tensors = safetensors.numpy.load(data)
        if content_sha256(document, tensors) != document["sha256"]:
            raise ValueError("its content does not match its SHA-256")
    return Content(document, tensors)


def _bytes_of(path: Path) -> tuple[bytes, bytes]:
    """All bytes, and those of the header alone, once the declared length makes sense."""
    with explained("read", path):
        check_regular(path)
        with open(path, "rb") as file:
            start = file.read(8)
            with _intact(path, start), explained("read", path):
                length = int.from_bytes(start, "little")
                if len(start) < 8 or length > os.fstat(file.fileno()).st_size - 8:
                    raise ValueError("it is cut short or not a safetensors file")
                if length > LONGEST_JSON:
                    raise ValueError(f"its header of {length} bytes is longer than {LONGEST_JSON}")
                header = file.read(length)
                return start + header + file.read(), header


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises `FileError` if the file is missing, too long or damaged."""
    with explained("read", path):
        check_regular(path)
        with open(path, "rb") as file:
            text = file.read(LONGEST_JSON + 1)
    with _intact(path, text):
        if len(text) > LONGEST_JSON:
            raise ValueError(f"it is longer than {LONGEST_JSON} bytes")
        return parse(text)


def parse(text: str | bytes) -> dict[str, Any]:
    """A JSON object. Raises `ValueError` for a repeated name, and for NaN."""
    value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    if not isinstance(value, dict):
        raise ValueError("its metadata is not a JSON object")
    return value


def _object(pairs: list[tuple[str, Any]]) -> Any:
    if len(pairs) == 1 and pairs[0][0] == "float" and pairs[0][1] in ("nan", "inf", "-inf"):
        return float(pairs[0][1])
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("its metadata gives a name twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not valid JSON")


@contextmanager
def _intact(path: Path, data: bytes) -> Iterator[None]:
    """Every error in the body becomes a `FileError`: the file is not what it should be."""
    try:
        yield
    except FileError:
        raise
    except Exception as error:
        for start, kind in _OTHER_KINDS.items():
            if data.startswith(start):
                raise FileError(f"{path} looks like {kind}: gpucnn reads its own {MODEL_SUFFIX} files") from error
        raise FileError(f"{path} is damaged: {_why(error)}") from error


@contextmanager
def described_by(path: Path) -> Iterator[None]:
    """The same while objects are made from a file: their constructors may raise anything."""
    try:
        yield
    except Exception as error:
        raise FileError(f"{path} does not describe a model: {_why(error)}") from error


def _why(error: Exception) -> str:
    return one_line(f"{error} is missing" if isinstance(error, KeyError) else error)
