"""The ladder of sizes: how each layer of a model comes to its shape and its number of parameters.

Along each axis a window of k cells that moves in steps of s over d cells, with p zeros on each
side, has ⌊(d − k + 2p)/s⌋ + 1 positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..arguments import checked
from ..errors import ArgumentError
from ..layers.activation import Activation
from ..layers.augmentation import Augmentation
from ..layers.batch_normalization import BatchNormalization
from ..layers.dense import Dense
from ..layers.dropout import Dropout
from ..layers.kernel_and_bias import KernelAndBias
from ..layers.layer import Layer
from ..layers.parallel import Parallel
from ..layers.pooling import GlobalPooling
from ..layers.prelu import PReLU
from ..layers.rescaling import Rescaling
from ..layers.reshaping import Flatten
from ..ops.window import Sliding, span
from .sequential import Sequential

Reach = list[tuple[int, int, int]]
"""For each axis of the input: cells that one output sees, cells from one output to the next, and
the number of outputs."""

_BY_CELL = (Activation, Augmentation, BatchNormalization, Dropout, Flatten, PReLU, Rescaling)
"""Layers whose every value comes from the channels of one position."""


@dataclass(frozen=True)
class Rung:
    """What one layer makes of one image.

    size                the formula of the output's extents: one if it is the same for all axes, else
                        one for each; empty if the extents are those of the input, or follow no formula
    parameters_formula  that of `parameters`; empty without any
    flops               floating-point operations of the forward pass
    activation_bytes    memory of the output in float32
    receptive_field     cells of the model's input along each axis that one output depends on, those in
                        the padding included; None if a layer so far cannot be followed
    """

    name: str
    type: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    size: tuple[str, ...]
    parameters: int
    parameters_formula: str
    flops: int
    activation_bytes: int
    receptive_field: tuple[int, ...] | None


@checked
def ladder(model: Sequential) -> list[Rung]:
    """The layers of a model with their sizes for one image, first to last.

    Raises `ArgumentError` if the model is not built.

    >>> from gpucnn import Input, Sequential, layers, models
    >>> model = Sequential([Input((28, 28, 1)), layers.Conv2D(32, 5), layers.MaxPooling2D(2)])
    >>> for rung in models.ladder(model):
    ...     print(f"{rung.size[0]}, {rung.parameters_formula or 'no parameters'}")
    ⌊(28 − 5 + 2·0)/1⌋ + 1 = 24, (5·5·1 + 1)·32 = 832
    ⌊(24 − 2 + 2·0)/2⌋ + 1 = 12, no parameters
    """
    if not model.built:
        raise ArgumentError("the model is not built: put Input((28, 28, 1)) first, or call build((None, 28, 28, 1))")
    reach: Reach | None = [(1, 1, extent) for extent in model.input_shape[1:-1]]
    rungs = []
    for layer in model.layers:
        before, after = _extents(layer.input_shape), _extents(layer.output_shape)
        reach = _reach(layer, reach, before, after, model.input_shape[1:-1])
        rungs.append(
            Rung(
                name=layer.name,
                type=type(layer).__name__,
                input_shape=before,
                output_shape=after,
                size=_size(layer, before, after),
                parameters=layer.count_params(),
                parameters_formula=_parameters(layer),
                flops=layer.flops(layer.input_shape or ()),
                activation_bytes=4 * math.prod(after),
                receptive_field=tuple(field for field, _, _ in reach) or None if reach is not None else None,
            )
        )
    return rungs


def _extents(shape: tuple[int, ...] | None) -> tuple[int, ...]:
    return (shape or ())[1:]


def _size(layer: Layer, before: tuple[int, ...], after: tuple[int, ...]) -> tuple[str, ...]:
    if isinstance(layer, Flatten):
        return (f"{'·'.join(map(str, before))} = {after[0]:,}",)
    windows = layer.sliding((None, *before))
    formulas = tuple(_positions(*axis) for axis in zip(before, windows, after, strict=False))
    return formulas[:1] if len(set(formulas)) == 1 else formulas


def _positions(extent: int, window: Sliding, count: int) -> str:
    """The formula for the positions of a window along an axis of `extent` cells."""
    size, stride, dilation, (first, last) = window
    padding = f" + 2·{first}" if first == last else f" + {first} + {last}"
    if min(first, last) < 0:
        padding = f" − {-first} − {-last}"
    if size == stride == 1 and (first or last):
        return f"{extent}{padding} = {count}"
    filled = size if dilation == 1 else f"({dilation}·({size} − 1) + 1)"
    return f"⌊({extent} − {filled}{padding})/{stride}⌋ + 1 = {count}"


def _parameters(layer: Layer) -> str:
    shapes = [weight.shape for weight in layer.weights]
    if not shapes:
        return ""
    products = ["·".join(map(str, shape)) for shape in shapes]
    formula = " + ".join(products)
    if isinstance(layer, KernelAndBias) and layer.use_bias and layer.filters_last:
        inputs = len(shapes[0]) - (1 if shapes[0][-1:] == shapes[1] else 2)
        each, filters = ("·".join(map(str, part)) for part in (shapes[0][:inputs], shapes[0][inputs:]))
        formula = f"({each} + 1)·{filters}"
    elif len(shapes) > 1 and len(set(shapes)) == 1:
        formula = f"{len(shapes)}·{products[0]}"
    return f"{formula} = {layer.count_params():,}"


def _reach(
    layer: Layer, reach: Reach | None, before: tuple[int, ...], after: tuple[int, ...], image: tuple[int, ...]
) -> Reach | None:
    """What an output of the layer sees of the image, from what one of its inputs sees."""
    if reach is None:
        return None
    if isinstance(layer, Parallel):
        return _widest([_along(path, reach, image) for path in layer.paths])
    windows = layer.sliding((None, *before))
    if windows:
        return [
            (field + (span(window.size, window.dilation) - 1) * step, step * window.stride, count)
            for (field, step, _), window, count in zip(reach, windows, after[:-1], strict=True)
        ]
    if isinstance(layer, GlobalPooling) or (isinstance(layer, Dense) and len(before) == 1):
        everything = zip(reach, image, strict=True)
        return [(min(field + (count - 1) * step, extent), step, 1) for (field, step, count), extent in everything]
    return reach if isinstance(layer, (*_BY_CELL, Dense)) else None


def _along(path: list[Layer], reach: Reach | None, image: tuple[int, ...]) -> Reach | None:
    """What an output of a path sees of the image."""
    for layer in path:
        reach = _reach(layer, reach, _extents(layer.input_shape), _extents(layer.output_shape), image)
    return reach


def _widest(reaches: list[Reach | None]) -> Reach | None:
    """What is seen along all of these paths, which end in results of one size."""
    known = [reach for reach in reaches if reach is not None]
    if len(known) < len(reaches):
        return None
    return [max(of_axis) for of_axis in zip(*known, strict=True)]
