"""A row of layers: distinct names, and shapes that fit from layer to layer."""

from __future__ import annotations

from ..errors import ArgumentError, ShapeError
from ..layers.layer import Layer, Shape


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


def _sizes_so_far(layers: list[Layer], input_shape: tuple[int, ...]) -> str:
    sizes = [f"input {input_shape}"]
    sizes += [f"{layer.name} {layer.output_shape[1:]}" for layer in layers if layer.output_shape]
    return "Sizes so far: " + " → ".join(sizes)
