"""The nodes of an ONNX file between two tensors as layers; branches become Residual and Parallel."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import FileError, GpucnnError, one_line
from ...layers.parallel import Merge
from ..branches import DEEPEST, Branches, block
from . import expressions, nodes
from .building import Stack, Unreadable
from .call import BATCH, Call
from .expressions import X
from .folding import fold
from .reading import Node, Source

_LONGEST = 100
"""Operands in the formula of an activation, written out; a short file can spell out an endless one."""

_MERGES = ("Add", "Concat", "Sum")

_WITH_CHANNELS = (
    *("AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "GlobalAveragePool", "GlobalMaxPool"),
    *("InstanceNormalization", "MaxPool", "Resize"),
)
"""Operators that have the channels of images on axis 1."""


class Flow:
    """Which tensors of a file depend on its input, and the numbers that do not.

    constants  the arrays in the file, and those computed from them
    """

    def __init__(self, path: Path, source: Source) -> None:
        self.path, self.source, self.constants = path, source, dict(source.constants)
        inputs: dict[str, list[str]] = {source.input: []}
        self.users: defaultdict[str, set[str]] = defaultdict(set)
        self.nodes: dict[str, Node] = {}
        """The node that computes a tensor."""
        for node in source.nodes:
            takes = [name for name in node.inputs if name in inputs]
            if takes and node.op != "Shape":  # whose result is a constant
                for output in node.outputs[:1]:
                    inputs[output], self.nodes[output] = takes, node
                    for name in takes:
                        self.users[name].add(output)
        self.branches = Branches(inputs)

    def merges(self, node: Node) -> list[str]:
        """The tensors whose sum or concatenation the node is; none for other nodes."""
        takes = self.branches.inputs.get(node.outputs[0], ()) if node.op in _MERGES and node.outputs else ()
        return list(takes) if 1 < len(takes) == len(node.inputs) else []

    def is_elementwise(self, name: str) -> bool:
        """Whether a tensor may be part of the formula of an activation."""
        node = self.nodes[name]
        if node.op not in (*expressions.UNARY, *expressions.FORMULAS, "Identity", "Cast"):
            return False
        return all(self.constants[other].size == 1 for other in node.inputs if other in self.constants)


@dataclass(frozen=True)
class Fork:
    """Paths that part in the tensor `start` and meet in one node: the tensors on each of them."""

    start: str
    ends: list[str]
    inside: list[set[str]]


class PathReader:
    """Reads the nodes from one tensor to another into a stack.

    nodes  those on the way, in an order in which they can be computed
    """

    def __init__(
        self, flow: Flow, stack: Stack, path_nodes: Sequence[Node], start: str, end: str, depth: int = 0
    ) -> None:
        self.flow, self.stack, self.nodes, self.end, self.depth = flow, stack, path_nodes, end, depth
        self.constants = flow.constants
        self.values: dict[str, Any] = {start: X}
        """The tensors that later nodes can take, as expressions of the stack's output."""
        self.lengths = {start: 1}
        """The number of operands in each expression, written out."""
        self.uses = Counter(name for node in path_nodes for name in node.inputs)
        self.uses[end] += 1

    def read(self) -> None:
        """Append the layers. Raises `FileError` for nodes that cannot become layers."""
        path = self.flow.path
        forks, inside = self._forks()
        for node in self.nodes:
            if not inside.isdisjoint(node.outputs):
                continue
            try:
                if node.outputs[:1] and node.outputs[0] in forks:
                    self._merge(node, forks[node.outputs[0]])
                else:
                    self._read(node)
            except Unreadable as why:
                raise FileError(f"{path} cannot become a Sequential: {node} {why}") from None
            except FileError:
                raise
            except GpucnnError as error:
                raise FileError(f"{path} cannot become a Sequential: {node}: {error}") from error
            except Exception as error:  # attributes of other types or ranges than the operator has
                raise FileError(f"{path} is damaged: {node} is not valid ({one_line(error)})") from error
        if self.values.get(self.end) != X:
            raise FileError(f"{path} cannot become a Sequential: its output does not depend on its last node")

    # -- branches ------------------------------------------------------------------------------------------------------

    def _forks(self) -> tuple[dict[str, Fork], set[str]]:
        """The forks by the tensor in which their paths meet, without those inside others; and all tensors
        inside them, also constants that are computed from their sizes."""
        forks: dict[str, Fork] = {}
        inside: set[str] = set()
        for node in reversed(self.nodes):
            if not self.flow.merges(node) or node.outputs[0] in inside:
                continue
            fork = self._fork(node)
            names = set().union(*fork.inside)
            if node.op != "Concat" and all(map(self.flow.is_elementwise, names)):
                continue  # the formula of an activation, or a sum of activations
            forks[node.outputs[0]] = fork
            inside |= names
        return forks, self._with_sizes(inside)

    def _fork(self, node: Node) -> Fork:
        branches, ends = self.flow.branches, self.flow.merges(node)
        start = branches.fork(node.outputs[0])
        return Fork(start, ends, [branches.between(start, end) for end in ends])

    def _with_sizes(self, names: set[str]) -> set[str]:
        """The tensors, and the constants that are computed from their sizes."""
        found = set(names)
        for node in self.nodes if found else ():
            live = node.outputs[:1] and node.outputs[0] in self.flow.nodes
            if not live and not found.isdisjoint(node.inputs):
                found.update(node.outputs)
        return found

    def _merge(self, node: Node, fork: Fork) -> None:
        """Append the layer of a fork."""
        self._check(node, fork)
        first = [self.flow.nodes[name] for name in self.flow.users[fork.start] if name in set().union(*fork.inside)]
        if self.stack.flat is None and any(user.op in _WITH_CHANNELS for user in first):
            self.stack.put_channels_last()
        stacks = []
        for end, names in zip(fork.ends, fork.inside, strict=True):
            inside = self._with_sizes(names)
            path_nodes = [other for other in self.nodes if not inside.isdisjoint(other.outputs)]
            stacks.append(self.stack.branch())
            PathReader(self.flow, stacks[-1], path_nodes, fork.start, end, self.depth + 1).read()
        merge: Merge = "concatenate" if node.op == "Concat" else "add"
        if merge == "concatenate":
            axis = Call(node, self.constants, self.flow.source.opset, self.flow.source.batch).attribute("axis", 1)
        for path in stacks:
            if merge == "concatenate":
                path.put_last(axis % path.rank)
                if path.flat is not None:
                    path.keep_order()
            elif any(other.flat != path.flat for other in stacks):
                path.keep_order()
            elif any(other.channels_first for other in stacks):
                path.put_channels_last()
        for path in stacks:
            path.join_activations()
        self.stack.add(
            block([path.layers for path in stacks], merge),
            *(array for path in stacks for arrays in path.weights for array in arrays),
        )
        self.stack.channels_first, self.stack.flat = stacks[0].channels_first, stacks[0].flat
        self.values, self.lengths = {node.outputs[0]: X}, {node.outputs[0]: 1}

    def _check(self, node: Node, fork: Fork) -> None:
        """Raise `Unreadable` unless the paths are apart from each other and from the rest of the graph."""
        if self.depth >= DEEPEST:
            raise Unreadable(f"lies in branches that are inside each other more than {DEEPEST} deep")
        if self.values.get(fork.start) != X:
            raise Unreadable("merges branches that do not begin after a layer")
        inside = set().union(*fork.inside)
        crossing = len(inside) < sum(map(len, fork.inside))
        if crossing or any(not self.flow.users[name] <= inside | {node.outputs[0]} for name in inside):
            raise Unreadable(
                "merges paths that cross: branches are read that part in one tensor and meet in one Add or Concat"
            )
        self.uses.subtract(node.inputs)
        for name in self._with_sizes(inside):
            if name in self.flow.nodes:
                self.uses.subtract(self.flow.nodes[name].inputs)
        if any(self.uses[name] > 0 for name in self.values if name != node.outputs[0]):
            raise Unreadable("merges some of several branches: each must end in the same Add or Concat")

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def _read(self, node: Node) -> None:
        names = [name for name in node.inputs if name]
        live = [name for name in names if name in self.values]
        self.uses.subtract(node.inputs)
        if not live:
            return fold(node, self.constants)
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
            if stack is None and self.flow.merges(node):
                return self._merge(node, self._fork(node))
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
        return Call(node, self.constants, self.flow.source.opset, self.flow.source.batch)


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
