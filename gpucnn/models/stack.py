"""A row of layers: distinct names, and shapes that fit from layer to layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..config import serialize
from ..devices import storage
from ..errors import ArgumentError, ShapeError
from ..layers.layer import Layer, Shape


def check_new(layer: Any, others: list[Layer]) -> None:
    """Raise `ArgumentError` unless this can be one more layer."""
    if isinstance(layer, type) and issubclass(layer, Layer):
        raise ArgumentError(f"add({layer.__name__}) got the class: write {layer.__name__}(...)")
    if not isinstance(layer, Layer):
        raise ArgumentError(f"add({layer!r}) needs a layer of gpucnn.layers, such as Dense(10)")
    if any(layer is other for other in others):
        raise ArgumentError(f"{layer.name} is in the model already: make a second {type(layer).__name__}(...)")


def append(layers: list[Layer], layer: Layer, input_shape: tuple[int, ...] | None) -> None:
    """Add a layer, built if the shape of the inputs is known; if it does not fit, the row is left as it was."""
    layers.append(layer)
    try:
        if input_shape is not None:
            build(layers, input_shape, len(layers) - 1)
    except Exception:
        layers.pop()
        raise


def descriptions(layers: list[Layer]) -> list[dict[str, Any]]:
    """The layers as JSON values, with their names."""
    described = [serialize(layer) for layer in layers]
    for layer, description in zip(layers, described, strict=True):
        description["config"]["name"] = layer.name
    return described


def find(layers: list[Layer], name: str | None, index: int | None) -> Layer:
    """The layer with this name or at this place. Raises `ArgumentError` if there is none."""
    if (name is None) == (index is None):
        raise ArgumentError("get_layer needs either name= or index=")
    if index is not None:
        if not -len(layers) <= index < len(layers):
            raise ArgumentError(f"get_layer(index={index}): the model has {len(layers)} layers")
        return layers[index]
    for layer in layers:
        if layer.name == name:
            return layer
    raise ArgumentError(f"there is no layer {name!r}; the model has {', '.join(layer.name for layer in layers)}")


def name_uniquely(layer: Layer, others: list[Layer]) -> None:
    """Number the layer's name if it is taken. Raises `ArgumentError` if the user chose it."""
    taken = {other.name for other in others}
    if layer.given_name is not None and layer.name in taken:
        raise ArgumentError(f"two layers are called {layer.name!r}: give one of them another name")
    base, number = layer.name, 0
    while layer.name in taken:
        number += 1
        layer.name = f"{base}_{number}"


def build(layers: list[Layer], input_shape: tuple[int, ...], first: int = 0) -> None:
    """Make the weights of the layers from place `first` on, for inputs of `input_shape` (without
    the batch axis).

    Raises `ShapeError` if a layer does not fit, with all sizes on the way to it.
    """
    shape: Shape | None = layers[first - 1].output_shape if first else (None, *input_shape)
    for i in range(first, len(layers)):
        layer = layers[i]
        layer.stream = i
        assert shape is not None
        if layer.built and layer.input_shape != shape:
            raise ShapeError(
                f"{layer.name} is built for inputs {layer.input_shape} and cannot take {shape}: make a new layer"
            )
        try:
            layer.ensure_built(shape)
        except ShapeError as error:
            sizes = _sizes_so_far(layers[:i], input_shape)
            raise ShapeError(f"{error} (layer {i + 1}, {layer.name}). {sizes}") from error
        shape = layer.output_shape


def apply(layers: list[Layer], x: np.ndarray, call: int, training: bool) -> np.ndarray:
    """The output of the layers for a batch x on the host; `call` numbers the draws in training."""
    step, y = storage.put(np.array([call], np.int64)), storage.put(np.ascontiguousarray(x))
    for layer in layers:
        y = layer.forward(y, step, training)[0]
    return storage.get(y)


def _sizes_so_far(layers: list[Layer], input_shape: tuple[int, ...]) -> str:
    sizes = [f"input {input_shape}"]
    sizes += [f"{layer.name} {layer.output_shape[1:]}" for layer in layers if layer.output_shape]
    return "Sizes so far: " + " → ".join(sizes)
