"""A node of ONNX with its constants, and the window of a convolution or a pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import layers
from ...ops.window import Pads, positions, same_padding
from .building import Stack, Unreadable
from .reading import Node

Constants = dict[str, np.ndarray]

BATCH = -(1 << 40)
"""What stands for the number of samples among the sizes of a tensor."""


class Call:
    """A node with the constants among its operands."""

    def __init__(self, node: Node, constants: Constants, opset: int, batch: int | None) -> None:
        self.node, self.constants, self.opset, self.batch = node, constants, opset, batch

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute; the default if the node does not have it."""
        return self.node.attributes.get(name, default)

    def operand(self, place: int) -> np.ndarray | None:
        """A constant operand; None if it is left out. Raises `Unreadable` if it is computed."""
        name = self.node.inputs[place] if place < len(self.node.inputs) else ""
        if name and name not in self.constants:
            raise Unreadable(f"takes operand {place + 1} from another node: only weights in the file are read")
        return self.constants[name] if name else None

    def weight(self, place: int, *ranks: int) -> np.ndarray:
        """A constant operand of floats with one of these numbers of axes."""
        array = self.operand(place)
        if array is None or array.dtype != np.float32 or array.ndim not in ranks:
            shape = "missing" if array is None else f"{array.dtype} of shape {array.shape}"
            raise Unreadable(
                f"has a weight that is {shape}: float32 with {' or '.join(map(str, ranks))} axes is needed"
            )
        return array

    def integers(self, name: str, place: int) -> list[int] | None:
        """Integers that older files have as an attribute and newer ones as an operand; None for neither."""
        values = self.attribute(name) if name in self.node.attributes else self.operand(place)
        if values is None:
            return None
        array = np.asarray(values)
        if array.dtype.kind != "i" or array.ndim > 1 or array.size > 16:
            raise Unreadable(f"has {name} that are not a few integers")
        return [int(value) for value in array.reshape(-1)]

    def number(self, name: str, place: int, default: float) -> float:
        """The same for one number."""
        value = self.attribute(name) if name in self.node.attributes else self.operand(place)
        if value is None:
            return default
        if np.size(value) != 1:
            raise Unreadable(f"has {name} of {np.size(value)} numbers: one is needed")
        return float(np.asarray(value).reshape(()))

    def only(self, **values: Any) -> None:
        """Raise `Unreadable` for attributes with other values than these, which are the defaults."""
        for name, value in values.items():
            if self.attribute(name, value) != value:
                raise Unreadable(f"has {name}={self.attribute(name)!r}, which no layer has")

    def only_first_output(self) -> None:
        """Raise `Unreadable` if the node has further outputs."""
        if any(self.node.outputs[1:]):
            raise Unreadable("has a second output: a layer has one")


class Window:
    """The window of a convolution or a pooling, and the cells around the images."""

    def __init__(self, call: Call, size: Sequence[int], sizes: Sequence[int]) -> None:
        rank = len(sizes)
        self.size, self.strides = tuple(size), tuple(call.attribute("strides", [1] * rank))
        self.dilation = tuple(call.attribute("dilations", [1] * rank))
        pads = call.attribute("pads", [0] * (2 * rank))
        lengths = {
            len(self.size),
            len(self.strides),
            len(self.dilation),
            len(call.attribute("kernel_shape", self.size)),
        }
        if (
            lengths != {rank}
            or len(pads) != 2 * rank
            or min(pads, default=0) < 0
            or tuple(self.size) != tuple(call.attribute("kernel_shape", self.size))
        ):
            raise Unreadable("has a window that does not fit its input")
        if min((*self.size, *self.strides, *self.dilation)) < 1:
            raise Unreadable("has a window with an extent below 1")
        self.same: Pads = tuple(map(same_padding, sizes, self.size, self.strides, self.dilation))
        kind = call.attribute("auto_pad", "NOTSET")
        if kind == "SAME_UPPER":
            self.pads = self.same
        elif kind == "SAME_LOWER":
            self.pads = tuple((after, before) for before, after in self.same)
        elif kind in ("NOTSET", "VALID", ""):
            self.pads = tuple(zip(pads[:rank], pads[rank:], strict=True)) if kind != "VALID" else ((0, 0),) * rank
        else:
            raise Unreadable(f"has auto_pad={kind!r}")
        if call.attribute("ceil_mode", 0):
            self.pads = tuple(map(self._with_the_rest, range(rank), sizes))

    def _with_the_rest(self, axis: int, size: int) -> tuple[int, int]:
        """The padding of an axis, grown so that a last window that begins inside fits as well."""
        before, after = self.pads[axis]
        stride, dilation, window = self.strides[axis], self.dilation[axis], self.size[axis]
        count = positions(size, window, stride, dilation, (before, after))
        missing = count * stride + (window - 1) * dilation + 1 - size - before - after
        begins_inside = count * stride < size + before
        return (before, after + missing) if 0 < missing < stride and begins_inside else (before, after)

    @property
    def name(self) -> str | None:
        """ "valid" or "same"; None for another padding."""
        return "valid" if not any(map(any, self.pads)) else "same" if self.pads == self.same else None

    def pad_with_zeros(self, stack: Stack) -> str:
        """The padding of the layer; what it cannot do becomes a layer of zeros before it."""
        if self.name is None:
            rank = len(self.pads)
            stack.add(getattr(layers, f"ZeroPadding{rank}D")(self.pads if rank > 1 else self.pads[0]))
        return self.name or "valid"
