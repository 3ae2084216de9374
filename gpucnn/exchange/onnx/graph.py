"""The graph of an ONNX file while it is written: nodes, constants, and tensors with their layout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...layers.layer import Shape
from ..libraries import library


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph.

    name            its name in the graph
    shape           its extents as gpucnn has them: (None, …, channels)
    channels_first  whether the graph has it as (N, channels, …)
    """

    name: str
    shape: Shape
    channels_first: bool = False

    @property
    def rank(self) -> int:
        """The number of axes, batch included."""
        return len(self.shape)

    @property
    def channel_axis(self) -> int:
        """The number of the axis of the channels in the graph."""
        return 1 if self.channels_first else self.rank - 1


class Graph:
    """Nodes and constants in the order in which they are added; all names are distinct."""

    def __init__(self) -> None:
        self.onnx = library("onnx", "ONNX files", "onnx")
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._scope = ""
        self._names: set[str] = set()

    def enter(self, scope: str) -> None:
        """Name the next nodes and constants after this layer."""
        self._scope = scope

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Append a node; returns the name of its output."""
        name = self._new_name(op.lower())
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, word: str, values: Any, dtype: Any = np.float32) -> str:
        """Append an array; returns its name, `<layer>/<word>`."""
        name = self._new_name(word)
        array = np.ascontiguousarray(np.asarray(values, dtype)).reshape(np.shape(values))
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def apply(self, tensor: Tensor, op: str, *operands: Any, **attributes: Any) -> Tensor:
        """The tensor that an op makes of this one, elementwise; operands are names, or numbers for constants."""
        names = [value if isinstance(value, str) else self.constant(op.lower(), value) for value in operands]
        return replace(tensor, name=self.add(op, tensor.name, *names, **attributes))

    def layout(self, tensor: Tensor, channels_first: bool) -> Tensor:
        """The same tensor with its channels where they are needed; tensors of two axes have one layout."""
        if tensor.channels_first == channels_first or tensor.rank < 3:
            return replace(tensor, channels_first=channels_first and tensor.rank > 2)
        spatial = range(2, tensor.rank) if tensor.channels_first else range(1, tensor.rank - 1)
        perm = [0, *spatial, 1] if tensor.channels_first else [0, tensor.rank - 1, *spatial]
        return replace(tensor, name=self.add("Transpose", tensor.name, perm=perm), channels_first=channels_first)

    def end(self, tensor: Tensor, name: str) -> None:
        """Make this tensor, channels last, the output of the graph."""
        last = self.layout(tensor, channels_first=False)
        if not self.nodes or self.nodes[-1].output[0] != last.name:
            self.add("Identity", last.name)
        self.nodes[-1].output[0] = name

    def _new_name(self, word: str) -> str:
        name, number = f"{self._scope}/{word}", 1
        while name in self._names:
            number += 1
            name = f"{self._scope}/{word}_{number}"
        self._names.add(name)
        return name
