"""A model of the user's own from a Python file: a run keeps the name of the file, the function and
the SHA-256, and never imports it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..datasets.source import sha256
from ..errors import ArgumentError, FileError, warn
from ..files import executed
from ..layers.activation import Activated
from ..layers.layer import every
from ..models.sequential import Sequential
from .training import Training

_HOW = "build(input_shape, classes) returns a Sequential"
_TRAINING = Training("adam", batch_size=32, epochs=10)
"""How such a model is trained unless the user says otherwise: Keras' defaults, and ten epochs."""


@dataclass(frozen=True)
class OwnModel:
    """A function that builds a model, from a file that the user named.

    name    file and function, without a folder, such as mine.py:build
    sha256  that of the file
    """

    name: str
    sha256: str
    function: Callable[[tuple[int, ...], int], Any]

    def build(self, input_shape: tuple[int, ...], classes: int) -> Sequential:
        """The model with initial weights. Raises `ArgumentError` unless it can classify the images."""
        model = self.function(tuple(input_shape), classes)
        if not isinstance(model, Sequential):
            raise ArgumentError(f"{self.name} returned an object of {type(model).__name__}: return a Sequential")
        if model.compiled:
            raise ArgumentError(
                f"{self.name} returned a compiled model: leave compile to the command, which has --optimizer, --lr, "
                "--weight-decay and --schedule"
            )
        if not model.built:
            model.build((None, *input_shape))
        for what, shape, expected in (
            ("takes images", model.input_shape[1:], tuple(input_shape)),
            ("has outputs", model.output_shape[1:], (classes,)),
        ):
            if tuple(shape) != expected:
                raise ArgumentError(f"the model of {self.name} {what} of {tuple(shape)}, and {expected} are needed")
        own = sorted(
            {type(layer).__name__ for layer in every(model.layers) if not type(layer).__module__.startswith("gpucnn.")}
        )
        if own:
            warn(
                f"the commands that use this run later never import {self.name}, and cannot load its {', '.join(own)}: "
                "in a program that has imported your file, gpucnn.load_run can"
            )
        last = model.layers[-1]
        if isinstance(last, Activated) and last.activation.name == "linear":
            raise ArgumentError(f"the model of {self.name} ends without activation: give {last.name} 'softmax'")
        return model

    def training_for(self, dataset: str) -> Training:
        """The default recipe, with any data set."""
        return _TRAINING


def is_file(model: str) -> bool:
    """Whether this names a Python file and not a model of the zoo."""
    return re.search(r"\.py(:[^/\\]*)?$", model) is not None


def load(model: str) -> OwnModel:
    """Execute the file of FILE.py:FUNCTION and return its model.

    Raises `ArgumentError` or `FileError` if there is no such file or function.
    """
    path, function = _parts(model)
    return OwnModel(f"{path.name}:{function}", sha256(path), _function(path, function))


def load_again(folder: Path, name: str, digest: str | None, model: str | None) -> OwnModel:
    """The model with which a run was trained, from the same file, once more named by the user.

    Raises `ArgumentError` for another name and `FileError` for another content, before the file is
    executed.
    """
    if model is None:
        raise ArgumentError(f"{folder} was trained with your model {name}: give it again with --model {name}")
    path, function = _parts(model)
    if f"{path.name}:{function}" != name:
        raise ArgumentError(f"{folder} was trained with your model {name}, not with {path.name}:{function}: give that")
    actual = sha256(path)
    if actual != digest:
        raise FileError(f"{path} is not the file that {folder} was trained with: its SHA-256 is {actual}, not {digest}")
    return load(model)


def _parts(model: str) -> tuple[Path, str]:
    path, _, function = model.rpartition(":")
    if not path or not function:
        raise ArgumentError(f"the model {model!r} lacks a function: write FILE.py:build, where {_HOW}")
    return Path(path).expanduser(), function


def _function(path: Path, name: str) -> Callable[..., Any]:
    module = executed(path, "gpucnn_user_models")
    function = getattr(module, name, None)
    if not callable(function):
        mine = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        raise ArgumentError(f"{path} has no function {name!r}, only {', '.join(mine) or 'none'}: {_HOW}")
    try:
        inspect.signature(function).bind((28, 28, 1), 10)
    except TypeError as error:
        raise ArgumentError(
            f"{name} in {path} cannot be called with input_shape and classes ({error}): {_HOW}"
        ) from error
    return function
