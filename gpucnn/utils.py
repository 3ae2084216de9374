"""Keras' `utils`: one-hot labels, seeds, normalisation."""

from __future__ import annotations

import random as python_random
from typing import Annotated, Any

import numpy as np

from . import random
from .arguments import Bounds, Count, Seed, checked, numbers
from .errors import DataError, ShapeError
from .retired import absent


@checked
def to_categorical(x: Any, num_classes: Count | None = None) -> np.ndarray:
    """One-hot rows of class numbers.

    x            integers of [0, num_classes), (n, …) or (n, …, 1)
    num_classes  the largest label + 1 by default
    →            (n, …, num_classes) float32

    >>> to_categorical([0, 2, 1])
    array([[1., 0., 0.],
           [0., 0., 1.],
           [0., 1., 0.]], dtype=float32)
    """
    labels = numbers("x", x)
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if labels.size == 0 and num_classes is None:
        raise DataError("to_categorical got no label in x: give num_classes")
    odd = labels[~np.isfinite(labels) | (labels != np.floor(labels))]
    if odd.size:
        raise DataError(f"to_categorical got the label {odd[0]}: give whole class numbers, counted from 0")
    classes = int(num_classes or max(int(labels.max()) + 1, 1))
    if classes >= 2**31:
        raise DataError(f"to_categorical got the label {classes - 1}: give class numbers, counted from 0")
    odd = labels[(labels < 0) | (labels >= classes)]
    if odd.size:
        raise DataError(
            f"to_categorical got the label {int(odd[0])}, out of range for {classes} classes, 0 … {classes - 1}"
        )
    rows = np.zeros((labels.size, classes), np.float32)
    rows[np.arange(labels.size), labels.reshape(-1).astype(np.int64)] = 1.0
    return rows.reshape(*labels.shape, classes)


@checked
def set_random_seed(seed: Seed) -> None:
    """Seed gpucnn's generator and, as Keras does, Python's `random` and NumPy's global generator.

    NumPy's takes the seed modulo 2³².
    """
    random.set_random_seed(int(seed))
    python_random.seed(int(seed))
    np.random.seed(int(seed) % 2**32)  # noqa: NPY002 - the user's code may draw from it


@checked
def normalize(x: Any, axis: int = -1, order: Annotated[float, Bounds(infinite=True)] = 2) -> np.ndarray:
    """Divide x by its norms of this order along `axis`; where a norm is 0, x stays 0."""
    x = numbers("x", x)
    if not -x.ndim <= axis < x.ndim:
        raise ShapeError(f"normalize(axis={axis}): x has {x.ndim} axes")
    norms = np.linalg.norm(x, order, axis, keepdims=True)
    return x / np.where(norms == 0, 1, norms)


_FOLDER = "`gpucnn train --data FOLDER` reads a folder of images, with one subfolder for each class"
_ITERABLE = "fit takes any iterable of batches (x, y)"
_REGISTER = "decorate your class with @gpucnn.register"
_PILLOW = "use PIL.Image.open and numpy.asarray"

__getattr__ = absent(
    __name__,
    {
        "np_utils": "write gpucnn.utils.to_categorical",
        "plot_model": "model.summary() shows the layers",
        "model_to_dot": "model.summary() shows the layers",
        "get_file": "gpucnn.datasets loads published data sets; pooch.retrieve downloads other files",
        "Progbar": "fit(verbose=1) shows a bar",
        "Sequence": _ITERABLE,
        "PyDataset": _ITERABLE,
        "split_dataset": "fit takes validation_split=",
        "image_dataset_from_directory": _FOLDER,
        "text_dataset_from_directory": "gpucnn reads only images",
        "audio_dataset_from_directory": "gpucnn reads only images",
        "timeseries_dataset_from_array": _ITERABLE,
        "pad_sequences": "numpy.pad does it",
        "load_img": _PILLOW,
        "save_img": "use PIL.Image.fromarray and save",
        "img_to_array": _PILLOW,
        "array_to_img": "use PIL.Image.fromarray",
        "register_keras_serializable": _REGISTER,
        "get_custom_objects": _REGISTER,
        "custom_object_scope": _REGISTER,
        "CustomObjectScope": _REGISTER,
        "multi_gpu_model": "gpucnn trains on one device",
        "enable_interactive_logging": "pass verbose= to fit",
        "disable_interactive_logging": "pass verbose= to fit",
        "HDF5Matrix": "load the arrays with NumPy",
        "clear_session": "there is no global session to clear",
    },
)

__path__: list[str] = []
"""As packages have it: `from gpucnn.utils import np_utils` then gives the reason, as from gpucnn.layers."""
