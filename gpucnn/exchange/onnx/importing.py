"""An ONNX file as a Sequential: the graph must be one path of layers that gpucnn has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...config import check_name
from ...errors import FileError, GpucnnError, one_line
from ...layers import Input
from ...layers.layer import at_most
from ...models import saving
from ...models.sequential import Sequential
from ...models.signature import Signature
from . import expressions, nodes
from .building import Stack, Unreadable
from .call import BATCH, Call
from .expressions import X
from .reading import Node, Source, read


def load(filepath: Any, *, channels_last: bool = False) -> Sequential:
    """The model in an ONNX file, with its weights.

    It takes and returns arrays in the file's order of axes, with `Permute` layers where gpucnn's
    differs.

    channels_last  the model takes images as (N, H, W, C) though the file takes (N, C, H, W); outputs
                   keep the file's order

    The names of the classes and the preparation are restored if gpucnn wrote the file. Nothing in
    the file is executed. Raises `FileError` for a damaged file, a graph with branches, and nodes
    that no layer of gpucnn stands for.
    """
    path = Path(filepath)
    source = read(path)
    return _Importer(path, source, channels_last).model()


_LONGEST = 100
"""Operands in the formula of an activation, written out; a short file can spell out an endless one."""


class _Importer:
    def __init__(self, path: Path, source: Source, channels_last: bool) -> None:
        self.path, self.source, self.constants = path, source, dict(source.constants)
        turned = channels_last and len(source.shape) > 1
        if turned and source.producer == "gpucnn":
            raise FileError(f"{path} takes images with channels last already: leave channels_last out")
        shape = (*source.shape[1:], source.shape[0]) if turned else source.shape
        most = 4 * sum(array.size for array in source.constants.values())
        self.stack = Stack(shape, channels_first=turned, most=most)
        self.values: dict[str, Any] = {source.input: X}
        """The tensors that later nodes can take, as expressions of the stack's output."""
        self.lengths = {source.input: 1}
        """The number of operands in each expression, written out."""
        self.uses = Counter(name for node in source.nodes for name in node.inputs)
        self.uses[source.output] += 1

    def model(self) -> Sequential:
        for node in self.source.nodes:
            try:
                self._read(node)
            except Unreadable as why:
                raise FileError(f"{self.path} cannot become a Sequential: {node} {why}") from None
            except GpucnnError as error:
                raise FileError(f"{self.path} cannot become a Sequential: {node}: {error}") from error
            except Exception as error:  # attributes of other types or ranges than the operator has
                raise FileError(f"{self.path} is damaged: {node} is not valid ({one_line(error)})") from error
        if self.values.get(self.source.output) != X:
            raise FileError(f"{self.path} cannot become a Sequential: its output does not depend on its last node")
        with saving.described_by(self.path):
            self.stack.finish()
            with at_most(sum(array.size for arrays in self.stack.weights for array in arrays)):
                model = Sequential([Input(self.stack.input_shape), *self.stack.layers], name=self._name())
            model.set_weights([array for arrays in self.stack.weights for array in arrays])
            model.signature = self._signature(model)
        return model

    def _read(self, node: Node) -> None:
        names = [name for name in node.inputs if name]
        live = [name for name in names if name in self.values]
        self.uses.subtract(node.inputs)
        if not live:
            return self._fold(node, names)
        if any(name not in self.values and name not in self.constants for name in names):
            raise Unreadable(
                "takes a tensor that an earlier node took: the graph branches, and a Sequential has one path"
            )
        if node.op == "Shape" and self.values[live[0]] == X:
            self.constants[node.outputs[0]] = np.array([BATCH, *self.stack.extents])
            return None
        length = 1 + sum(self.lengths.get(name, 1) for name in names)
        if length > _LONGEST:
            raise Unreadable("belongs to a formula that is not an activation of gpucnn")
        self.lengths[node.outputs[0]] = length
        expression = self._expression(node)
        if expression is None:
            self._add_layers(node, live[0])
            expression = X
        else:
            self.values[node.outputs[0]] = expression
        waiting = [name for name in self.values if self.uses[name] > 0 and name != node.outputs[0]]
        if expression == X or not waiting:
            self._settle(node, expression)
        return None

    def _settle(self, node: Node, expression: Any) -> None:
        """Turn an expression that all later nodes depend on into layers."""
        if expression != X:
            stack = self.stack.log_of_sigmoid() if expression == ("Log", X) else expressions.layers_of(expression)
            if stack is None:
                raise Unreadable("completes a formula that is not an activation of gpucnn")
            for layer in stack:
                self.stack.add(layer)
            self.values = {}
        self.values[node.outputs[0]] = X
        self.lengths = {node.outputs[0]: 1}

    def _expression(self, node: Node) -> Any:
        """What an elementwise node computes; None for other nodes."""
        if node.op in ("Identity", "Cast"):
            value = self.values[node.inputs[0]]
            kinds = (9,) if expressions.is_condition(value) else (1, 10, 11, 16)  # bool; floats
            if node.op == "Cast" and node.attributes.get("to") not in kinds:
                raise Unreadable("does not convert to floats")
            return value
        call = self._call(node)
        if node.op in expressions.UNARY:
            return expressions.of_node(node.op, [self.values[node.inputs[0]]], _numbers_of(call))
        operands: list[Any] = []
        for name in node.inputs if node.op in expressions.FORMULAS else ():
            constant = self.constants.get(name)
            if constant is not None and (constant.size != 1 or constant.ndim > self.stack.rank):
                return None
            operands.append(self.values[name] if constant is None else float(constant.reshape(())))
        return expressions.of_node(node.op, operands, []) if operands else None

    def _add_layers(self, node: Node, name: str) -> None:
        if node.op == "Shape":
            raise Unreadable("reads the size of a formula: export the model with fixed sizes")
        if self.values[name] != X or any(self.uses[other] > 0 for other in self.values):
            raise Unreadable("takes one of several tensors in use: the graph branches, and a Sequential has one path")
        constants = [place for place, other in enumerate(node.inputs[:2]) if other in self.constants]
        call = self._call(node)
        if node.op in ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min") and constants:
            array = self.constants[node.inputs[constants[0]]]
            nodes.add_affine(self.stack, call, array, reverse=constants[0] == 0)
        else:
            nodes.add_layers(self.stack, call)
        self.values = {}

    def _call(self, node: Node) -> Call:
        return Call(node, self.constants, self.source.opset, self.source.batch)

    def _fold(self, node: Node, names: list[str]) -> None:
        """Compute a node of constants alone, of the few kinds that exporters leave."""
        compute = _FOLDED.get(node.op)
        if compute is None or not names or any(name not in self.constants for name in names):
            raise Unreadable("does not depend on the input: export the model with its constants folded")
        self.constants[node.outputs[0]] = compute([self.constants[name] for name in names], node)

    def _name(self) -> str | None:
        name = self.path.stem.replace("-", "_")
        try:
            check_name(name)
        except GpucnnError:
            return None
        return name

    def _signature(self, model: Sequential) -> Signature | None:
        text = self.source.metadata.get("signature")
        if text is None:
            return None
        signature = Signature.from_json(saving.parse(text))
        signature.check_fits(model.input_shape, model.output_shape)
        return replace(signature, divisor=1.0, invert=False) if self.source.pixels else signature


def _numbers_of(call: Call) -> list[float]:
    """The attributes of an operator of one tensor, in the order of `expressions.layers_of`."""
    op = call.node.op
    if op == "Clip":
        return [call.number("min", 1, -np.inf), call.number("max", 2, np.inf)]
    if op == "Gelu":
        return [float(call.attribute("approximate", "none") == "tanh")]
    return [call.attribute(name, default) for name, default in _ATTRIBUTES.get(op, ())]


_ATTRIBUTES: dict[str, tuple[tuple[str, float], ...]] = {
    "Celu": (("alpha", 1.0),),
    "Elu": (("alpha", 1.0),),
    "HardSigmoid": (("alpha", 0.2), ("beta", 0.5)),
    "LeakyRelu": (("alpha", 0.01),),
    "Selu": (("alpha", 1.67326319217681884765625), ("gamma", 1.05070102214813232421875)),
    "Shrink": (("bias", 0.0), ("lambd", 0.5)),
    "ThresholdedRelu": (("alpha", 1.0),),
}
"""The attributes of operators and their defaults."""


def _transposed(arrays: list[np.ndarray], node: Node) -> np.ndarray:
    return arrays[0].transpose(node.attributes.get("perm"))


def _of_sizes(
    compute: Callable[[list[np.ndarray], Node], np.ndarray],
) -> Callable[[list[np.ndarray], Node], np.ndarray]:
    """The same for a few integers alone, which a file computes from the size of a tensor."""

    def checked(arrays: list[np.ndarray], node: Node) -> np.ndarray:
        if any(array.dtype.kind != "i" or array.ndim > 1 or array.size > 16 for array in arrays):
            raise Unreadable("does not depend on the input: export the model with its constants folded")
        return compute(arrays, node)

    return checked


_FOLDED: dict[str, Callable[[list[np.ndarray], Node], np.ndarray]] = {
    "Concat": _of_sizes(lambda arrays, node: np.concatenate(arrays)),
    "Gather": _of_sizes(lambda arrays, node: arrays[0][arrays[1]]),
    "Identity": lambda arrays, node: arrays[0],
    "Transpose": _transposed,
    "Unsqueeze": _of_sizes(lambda arrays, node: arrays[0].reshape(-1)),
}
"""Nodes of constants, and of the sizes of tensors."""
