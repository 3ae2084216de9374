"""What a prediction rests on: the gradient of a class's score by the image, and class-activation maps.

The score is the output before the last softmax or sigmoid. There is no automatic differentiation:
each layer's forward pass returns its backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..devices import storage
from ..errors import ArgumentError, ShapeError
from ..layers import BatchNormalization, Dropout
from ..layers.activation import Activation
from ..layers.convolution_base import Convolution
from ..layers.layer import Activated, Layer, every
from .fusion import program
from .model import Model, computing
from .node import Forward
from .training_step import NO_STEP


def saliency(model: Model, images: Any, classes: Sequence[int] | np.ndarray) -> np.ndarray:
    """How much the score of a class changes with each pixel: the largest |d score / d x| of its channels.

    images   (n, H, W, C), as the model takes them
    classes  (n,) the class of each image whose score is explained
    →        (n, H, W) float32

    After Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks", 2013 (arXiv
    1312.6034). Overwrites the gradients of the weights. Raises `ShapeError` or `ArgumentError` for
    images or classes that do not fit, and for models with a layer that has no gradient.
    """
    _, gradient = _from_layer(model, images, classes, 0)
    return np.abs(gradient).max(axis=-1)


def grad_cam(model: Model, images: Any, classes: Sequence[int] | np.ndarray) -> np.ndarray:
    """Where the last convolution speaks for a class: Grad-CAM, ReLU(Σ α · A) over its maps A.

    α is the mean of the score's gradient over the positions of a map. The maps are taken after the
    activation, normalisation and dropout that follow the convolution.

    images   (n, H, W, C), as the model takes them
    classes  (n,) the class of each image whose score is explained
    →        (n, P, Q) float32, not negative, of the size of the maps

    After Selvaraju et al., "Grad-CAM", ICCV 2017 (arXiv 1610.02391). Overwrites the gradients of the
    weights. Raises `ShapeError` or `ArgumentError` for images, classes or models that do not fit.
    """
    maps, gradient = _from_layer(model, images, classes, _after_last_convolution(model))
    weights = gradient.mean(axis=(1, 2))
    return np.maximum(np.einsum("npqk,nk->npq", maps, weights), 0)


def _from_layer(
    model: Model, images: Any, classes: Sequence[int] | np.ndarray, place: int
) -> tuple[np.ndarray, np.ndarray]:
    """(what enters the layer at `place`, the gradient of the scores by it), both on the host."""
    x = np.ascontiguousarray(images, np.float32)
    dy = _directions(model, x, np.asarray(classes))
    with computing(model):
        step, entering = storage.put(NO_STEP), storage.put(x)
        for forward in _passes(model.layers[:place], logits=False):
            entering, _ = forward(entering, step, False)
        y, backwards = entering, []
        for forward in _passes(model.layers[place:], logits=isinstance(model.layers[-1], Activated)):
            y, backward = forward(y, step, False)
            backwards.append(backward)
        gradient = storage.put(dy)
        for backward in reversed(backwards):
            gradient = backward(gradient)
        return storage.get(entering), storage.get(gradient)


def _passes(layers: list[Layer], logits: bool) -> Iterator[Forward]:
    """The forward passes of these layers, computed together as in training where their backward passes hold
    without it: a first picture then waits for few kernels. With `logits`, the last stops before its activation."""
    for node in program(layers, logits):
        if node.needs_input:
            yield from (layer.forward for layer in node.layers)
        else:
            yield node.unpenalised


def _directions(model: Model, x: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The gradient of each image's score by the outputs, (n, outputs). Raises for what does not fit."""
    if not model.built:
        raise ArgumentError("the model is not built: put Input((28, 28, 1)) first, or call build((None, 28, 28, 1))")
    if x.ndim != 4 or x.shape[1:] != tuple(model.input_shape[1:]):
        expected = ", ".join(map(str, model.input_shape[1:]))
        raise ShapeError(f"images of shape {x.shape}: the model takes (n, {expected})")
    if classes.dtype.kind not in "iu":
        raise ArgumentError(f"classes are whole numbers, and here {classes.dtype}")
    if classes.shape != (len(x),):
        raise ShapeError(f"{len(x)} images and {classes.size} classes: give one for each")
    outputs = model.output_shape[1:]
    if len(outputs) != 1:
        raise ArgumentError(f"outputs of shape {outputs} are not one score for each class")
    count = max(2, math.prod(outputs))
    for number in classes:
        if not 0 <= number < count:
            raise ArgumentError(f"class {number}: the model has the classes 0 to {count - 1}")
    if outputs == (1,):
        return (2.0 * classes[:, None] - 1).astype(np.float32)
    return np.eye(count, dtype=np.float32)[classes]


def _convolves_images(layer: Layer) -> bool:
    return isinstance(layer, Convolution) and layer.rank == 2


def _after_last_convolution(model: Model) -> int:
    """The layer that takes the maps of the last convolution, once they are activated."""
    convolutions = [i for i, layer in enumerate(model.layers) if any(map(_convolves_images, every([layer])))]
    if not convolutions:
        raise ArgumentError("the model has no two-dimensional convolution whose maps could be weighed")
    place = convolutions[-1] + 1
    while place < len(model.layers) and isinstance(model.layers[place], (Activation, BatchNormalization, Dropout)):
        place += 1
    return place
