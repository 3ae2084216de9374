"""A stack of layers while a graph is read: their weights, and how the graph's tensor lies in gpucnn's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ... import layers
from ...layers.kernel_and_bias import KernelAndBias
from ...layers.layer import Layer
from ...layers.pooling import GlobalPooling
from . import expressions


class Unreadable(Exception):
    """Why a node cannot become layers; the words follow its name."""


class Stack:
    """The layers so far.

    shape           extents of gpucnn's tensor without the batch axis
    channels_first  the graph's tensor is (N, C, …) where gpucnn's is (N, …, C)
    flat            (C, …) if both are rows of values, the graph's in the order of these axes and
                    gpucnn's with the channels last
    most            how many elements all weights may have
    """

    def __init__(self, shape: tuple[int, ...], channels_first: bool = False, most: int = 0) -> None:
        self.input_shape = self.shape = shape
        self.channels_first = channels_first
        self.flat: tuple[int, ...] | None = None
        self.layers: list[Layer] = []
        self.weights: list[list[np.ndarray]] = []
        self._most = most

    @property
    def rank(self) -> int:
        """The number of axes, batch included."""
        return len(self.shape) + 1

    @property
    def extents(self) -> tuple[int, ...]:
        """The extents of the graph's tensor without the batch axis."""
        return (self.shape[-1], *self.shape[:-1]) if self.channels_first else self.shape

    @property
    def described(self) -> str:
        """The shape of the graph's tensor for messages."""
        return f"(N, {', '.join(map(str, self.extents))})"

    @property
    def channel_axis(self) -> int:
        """The axis of the graph's tensor that is gpucnn's last."""
        return 1 if self.channels_first else self.rank - 1

    def add(self, layer: Layer, *weights: np.ndarray) -> None:
        """Append a layer; its arrays come in the order of its weights."""
        shape = (None, *self.shape)
        self._most -= sum(array.size for array in weights)
        if self._most < 0:
            raise Unreadable("repeats the weights of other nodes: each layer of a Sequential has its own")
        layer.check_ndim(shape)
        output = layer.compute_output_shape(shape)[1:]
        if self.layers and (together := expressions.merged(self.layers[-1], layer)) is not None:
            self._pop()
            self._push(together)
        elif isinstance(layer, layers.Permute):
            self._permute(layer.dims)
        else:
            self.layers.append(layer)
            self.weights.append(list(weights))
        self.shape = output

    def _push(self, stack: list[Layer]) -> None:
        self.layers += stack
        self.weights += [[] for _ in stack]

    def _pop(self) -> Layer:
        self.weights.pop()
        return self.layers.pop()

    def _permute(self, dims: tuple[int, ...]) -> None:
        """Append a permutation, joined with the one before it."""
        if self.layers and isinstance(self.layers[-1], layers.Permute):
            before = self._pop()
            assert isinstance(before, layers.Permute)
            dims = tuple(before.dims[axis - 1] for axis in dims)
        if dims != tuple(sorted(dims)):
            self._push([layers.Permute(dims)])

    def set_bias(self, bias: np.ndarray) -> bool:
        """Add a vector to the outputs by the bias of the last layer, or False if it has none to set."""
        last = self.layers[-1] if self.layers else None
        if not isinstance(last, KernelAndBias) or last.use_bias or last.activation.name != "linear":
            return False
        self.layers[-1] = type(last).from_config({**last.get_config(), "use_bias": True})
        self.weights[-1].append(bias)
        return True

    def log_of_sigmoid(self) -> list[Layer] | None:
        """The layer for the logarithm of the last one, a sigmoid, which is removed; None after others."""
        last = self.layers[-1] if self.layers else None
        if type(last) is not layers.Activation or last.activation.name != "sigmoid":
            return None
        self._pop()
        return [layers.Activation("log_sigmoid")]

    def keep_order(self) -> None:
        """Bring gpucnn's tensor into the order of the graph's."""
        if self.flat is not None and self.rank == 2:
            channels, *spatial = self.flat
            self.flat = None
            self.add(layers.Reshape((*spatial, channels)))
            self.channels_first = True
            self.keep_order()
            self.add(layers.Flatten())
        if self.channels_first:
            self.channels_first = False
            self.add(layers.Permute((self.rank - 1, *range(1, self.rank - 1))))

    def put_channels_last(self) -> None:
        """Bring axis 1 of the graph's tensor, its channels, to gpucnn's last axis."""
        if self.rank > 2 and not self.channels_first:
            self.add(layers.Permute((*range(2, self.rank), 1)))
            self.channels_first = True

    def put_last(self, axis: int) -> None:
        """Bring an axis of the graph's tensor to gpucnn's last axis, if one of the two orders has it there."""
        if axis == 1:
            self.put_channels_last()
        elif axis == self.rank - 1:
            self.keep_order()
        if axis != self.channel_axis:
            raise Unreadable(f"works along axis {axis} of {self.rank}: the second and the last can be layers")

    def ordered(self, array: np.ndarray) -> np.ndarray:
        """An array whose first axis runs along the graph's row of values, in gpucnn's order."""
        if self.flat is None:
            return array
        return np.moveaxis(array.reshape(*self.flat, *array.shape[1:]), 0, len(self.flat) - 1).reshape(array.shape)

    def flatten(self) -> None:
        """Make rows of values of the graph's tensor."""
        if self.rank == 2:
            return
        last = self.layers[-1] if self.layers else None
        if isinstance(last, GlobalPooling) and self.channels_first and last.keepdims:
            self.layers[-1] = type(last)()
            self.shape, self.channels_first = self.shape[-1:], False
            return
        if self.channels_first and self.shape[-1] > 1 and math.prod(self.shape) > self.shape[-1]:
            self.flat = self.extents
        self.channels_first = False
        self.add(layers.Flatten())

    def reshape(self, target: tuple[int, ...]) -> None:
        """Read the values of the graph's tensor under another shape."""
        if len(target) == 1:
            return self.flatten()
        if target == self.extents and self.flat is None:
            return None
        self.keep_order()
        return self.add(layers.Reshape(target))

    def branch(self) -> Stack:
        """A stack without layers that begins with the output of this one."""
        branch = Stack(self.shape, self.channels_first, self._most)
        branch.flat = self.flat
        return branch

    def finish(self) -> None:
        """Bring the output into the graph's order, and write activations into the layers before them."""
        self.keep_order()
        if not self.layers:
            self._push([layers.Activation("linear")])
        self.join_activations()

    def join_activations(self) -> None:
        """Write activations into the layers before them."""
        stack, weights = self.layers, self.weights
        self.layers, self.weights = [], []
        for layer, arrays in zip(stack, weights, strict=True):
            last = self.layers[-1] if self.layers else None
            plain = isinstance(last, KernelAndBias) and last.activation.name == "linear"
            if last is not None and plain and type(layer) is layers.Activation:
                config: dict[str, Any] = {**last.get_config(), "activation": layer.get_config()["activation"]}
                self.layers[-1] = type(last).from_config(config)
            else:
                self.layers.append(layer)
                self.weights.append(arrays)


def spatial_rank(stack: Stack) -> int:
    """The number of axes but batch and channels. Raises `Unreadable` unless they are 1 to 3."""
    if not 3 <= stack.rank <= 5:
        raise Unreadable(f"works on {stack.rank} axes: sequences, images and volumes have 3 to 5")
    return stack.rank - 2
