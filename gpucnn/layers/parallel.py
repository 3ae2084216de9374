"""Layers that hold layers: several paths from one input, whose results are merged.

A model stays a stack of layers; within one of them, the input may take several paths. What a path
holds is a layer like any other: it is trained, counted, saved and fused as if it stood in the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np

from ..config import serialize
from ..devices import choose
from ..errors import ArgumentError, ShapeError
from ..ops.merging import add, concatenate
from ..ops.reshaping import crop
from .input import InputLayer
from .layer import Backward, Layer, Shape, leaves

Merge = Literal["add", "concatenate"]


class Parallel(Layer):
    """Pass the input along several paths and merge their results.

    paths  lists of layers, each a path; an empty list is the input itself
    merge  "add": the sum, of results of one shape; "concatenate": one result behind the other along
           the channels

    The layers of a path are in `paths` and are called "parallel/conv2d" and so on in summaries and
    files. A user's own layers in it must be decorated with `@gpucnn.register` to be saved. Keras
    expresses the same with Add and Concatenate in functional models. Also takes the arguments of
    `Layer`. Raises `ArgumentError` for fewer than two paths, `ShapeError` for results that cannot be
    merged.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layer = layers.Parallel([[layers.Conv2D(4, 1)], [layers.Conv2D(8, 3, padding="same")], []])
    >>> layer(np.zeros((1, 5, 5, 3))).shape
    (1, 5, 5, 15)
    """

    def __init__(self, paths: Sequence[Any], merge: Merge = "concatenate", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.merge = merge
        self.paths = [self._path(path) for path in paths]
        if len(self.paths) < 2:
            raise ArgumentError(f"{type(self).__name__} needs two paths or more and got {len(self.paths)}")
        self.inner = [layer for path in self.paths for layer in path]
        if len({id(layer) for layer in self.inner}) < len(self.inner):
            raise ArgumentError(f"{type(self).__name__}: one layer stands in it twice: make a second one")
        taken: set[str] = set()
        for layer in self.inner:
            base, number = layer.name, 0
            while layer.name in taken:
                number += 1
                layer.name = f"{base}_{number}"
            taken.add(layer.name)
        self._arguments.update(self._held())
        if not self.trainable:
            self.trainable = False

    @staticmethod
    def _path(layers: Any) -> list[Layer]:
        path = list(layers) if isinstance(layers, Iterable) else [layers]
        for layer in path:
            if not isinstance(layer, Layer) or isinstance(layer, InputLayer):
                raise ArgumentError(
                    f"paths are lists of layers, such as [Conv2D(8, 3), ReLU()], and {layer!r} is not a layer"
                )
        return path

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights; setting it sets all layers inside."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = value
        for layer in self.inner:
            layer.trainable = value

    @property
    def stream(self) -> int:
        """The layer's place in the model, from which those inside derive the random numbers they draw."""
        return self._stream

    @stream.setter
    def stream(self, value: int) -> None:
        self._stream = value
        for number, layer in enumerate(leaves(self.inner)):
            layer.stream = (value + 1 << 16) + number

    def build(self, input_shape: Shape) -> None:
        """Build the layers of all paths."""
        for path in self.paths:
            shape = input_shape
            for layer in path:
                layer.ensure_built(shape)
                assert layer.output_shape is not None
                shape = layer.output_shape
        self.weights = [weight for layer in self.inner for weight in layer.weights]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of the sum, or the shape with the channels of all paths."""
        shapes = []
        for path in self.paths:
            shape = input_shape
            for layer in path:
                layer.check_ndim(shape)
                shape = layer.compute_output_shape(shape)
            shapes.append(shape)
        if any(shape[:-1] != shapes[0][:-1] for shape in shapes) or (self.merge == "add" and len(set(shapes)) > 1):
            listed = " and ".join(str(shape[1:]) for shape in shapes)
            cure = "give all paths the same strides and padding"
            if self.merge == "add":
                cure = "give all paths one shape, such as with shortcut=[Conv2D(filters, 1, strides=...)]"
            raise ShapeError(f"{self.name}: results of shapes {listed} cannot be merged by {self.merge!r}: {cure}")
        channels = shapes[0][-1] if self.merge == "add" else sum(shape[-1] for shape in shapes)
        return (*shapes[0][:-1], channels)

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward)."""
        return self.through(self.paths, x, step, training)[:2]

    def through(self, paths: Sequence[Sequence[Any]], x: Any, step: Any, training: bool) -> tuple[Any, Backward, float]:
        """(y, backward, penalties) along other parts than the layers that compute the same, such as fused
        ones; each has `forward`, which returns (y, backward) and perhaps a penalty."""
        results, backwards, penalties = [], [], 0.0
        for path in paths:
            y, of_path = x, []
            for part in path:
                y, backward_of_part, *penalty = part.forward(y, step, training)
                of_path.append(backward_of_part)
                penalties += sum(penalty)
            results.append(y)
            backwards.append(of_path)
        widths = [y.shape[-1] for y in results]

        def backward(dy: Any, need_dx: bool = True) -> Any:
            total = None
            for number, of_path in enumerate(backwards):
                dx = self._share(dy, widths, number)
                while of_path:  # emptied, which frees arrays early
                    dx = of_path.pop()(dx, need_dx=need_dx or bool(of_path))
                if need_dx:
                    total = dx if total is None else add(total, dx)
            return total

        merge, total = (add if self.merge == "add" else concatenate), results[0]
        for y in results[1:]:
            total = merge(total, y)
        return total, backward, penalties

    def _share(self, dy: Any, widths: list[int], number: int) -> Any:
        """The gradient of one path's result."""
        if self.merge == "add":
            return choose.current().copied(dy) if self._changes_gradients(number) else dy
        before, behind = sum(widths[:number]), sum(widths[number + 1 :])
        return crop(dy, padding=((0, 0),) * (dy.ndim - 1) + ((before, behind),))

    def _changes_gradients(self, number: int) -> bool:
        """Whether a penalty on the path's result is added to the gradient, which other paths read too."""
        path = self.paths[number]
        return bool(path) and path[-1].activity_regularizer is not None

    @property
    def trainable_weights(self) -> list[Any]:
        """The weights that training changes."""
        return [weight for layer in self.inner for weight in layer.trainable_weights]

    def update(self) -> None:
        """Update the layers inside."""
        for layer in self.inner:
            layer.update()

    def flops(self, input_shape: Shape) -> int:
        """Those of all paths, and the additions."""
        total = 0
        for path in self.paths:
            shape = input_shape
            for layer in path:
                total += layer.flops(shape)
                shape = layer.compute_output_shape(shape)
        if self.merge == "add":
            size = 1
            for extent in self.compute_output_shape(input_shape)[1:]:
                size *= extent
            total += size * (len(self.paths) - 1)
        return total

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON values, with the names of the layers inside."""
        return {**super().get_config(), **{name: _described(value) for name, value in self._held().items()}}

    def _held(self) -> dict[str, Any]:
        """The arguments that hold layers."""
        return {"paths": self.paths}


class Residual(Parallel):
    """Add the input to what layers make of it: y = layers(x) + x, a residual block.

    layers    the layers of the block, in a row
    shortcut  layers that the input passes on its way to the sum, such as a convolution of 1 × 1 where
              the block changes the shape; None for the input itself

    As in He, Zhang, Ren, Sun, CVPR 2016, section 3; put a ReLU behind it where the block ends in one.
    Also takes the arguments of `Layer`. Raises `ArgumentError` for an empty list, `ShapeError` if
    both results do not have one shape.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> block = layers.Residual([layers.Conv2D(3, 3, padding="same", activation="relu")])
    >>> block(np.zeros((1, 5, 5, 3))).shape
    (1, 5, 5, 3)
    >>> halved = [layers.Conv2D(8, 3, strides=2, padding="same")], [layers.Conv2D(8, 1, strides=2)]
    >>> layers.Residual(*halved)(np.zeros((1, 5, 5, 3))).shape
    (1, 3, 3, 8)
    """

    sets_itself = ("paths", "merge")

    def __init__(self, layers: Sequence[Any], shortcut: Any = None, **kwargs: Any) -> None:
        super().__init__([layers, [] if shortcut is None else shortcut], merge="add", **kwargs)
        if not self.paths[0]:
            raise ArgumentError("Residual(layers=[]): give the layers of the block")

    def _held(self) -> dict[str, Any]:
        return {"layers": self.paths[0], "shortcut": self.paths[1] or None}


def outputs(layers: Iterable[Layer], x: np.ndarray, path: str = "") -> Iterator[tuple[str, Layer, np.ndarray]]:
    """Each layer at any depth with its name, such as "residual/conv2d", and its output for an input x.

    A layer that holds others comes after those, so that the last output is that of all layers.
    """
    for layer in layers:
        if isinstance(layer, Parallel):
            results = []
            for inner in layer.paths:
                y = x
                for name, part, y in outputs(inner, x, f"{path}{layer.name}/"):
                    yield name, part, y
                results.append(y)
            x = sum(results[1:], results[0]) if layer.merge == "add" else np.concatenate(results, axis=-1)
        else:
            x = layer(x)
        yield f"{path}{layer.name}", layer, x


def _described(value: Any) -> Any:
    if isinstance(value, list):
        return [_described(item) for item in value]
    if not isinstance(value, Layer):
        return value
    description = serialize(value)
    description["config"]["name"] = value.name
    return description
