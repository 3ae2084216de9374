"""Functional models of Keras: branches that part and meet again, as layers that hold layers, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import ArgumentError, one_line
from ...layers import Parallel
from ...layers.layer import Layer, Shape
from ..branches import DEEPEST, Branches

Description = dict[str, Any]

_MERGES = {"Add": "add", "Concatenate": "concatenate"}
_OTHER_MERGES = ("Average", "Dot", "Maximum", "Minimum", "Multiply", "Subtract")


# -- from Keras --------------------------------------------------------------------------------------------------------


def stack(config: Description, read: Callable[[Description], Description]) -> tuple[list[Description], list[str]]:
    """The layers of a functional model in a row, branches as Residual and Parallel, and the names of the
    layers at any depth in their order.

    read  describes one layer

    Raises `ArgumentError` for a graph that these layers cannot express.
    """
    entries = {entry["name"]: entry for entry in config["layers"]}
    if len(entries) < len(config["layers"]):
        raise ArgumentError("two of its layers have one name")
    inputs: dict[str, list[str]] = {}
    for name, entry in entries.items():
        inputs[name] = _inputs(name, entry, inputs)
    start = next((name for name, sources in inputs.items() if not sources), None)
    if start is None:
        raise ArgumentError("it has no InputLayer")
    reader = _Reader(entries, Branches(inputs), read)
    layers = reader.path(start, _output(config, inputs))
    unused = inputs.keys() - reader.taken - {start}
    if unused:
        raise ArgumentError(f"its layer {one_line(min(unused))} does not lead to the output")
    return layers, reader.order


class _Reader:
    """Turns the graph into nested descriptions.

    taken  the names of all nodes that became layers
    order  those of the layers, without merges, in the order of the model
    """

    def __init__(
        self, entries: dict[str, Description], branches: Branches, read: Callable[[Description], Description]
    ) -> None:
        self.entries, self.branches, self.read = entries, branches, read
        self.taken: set[str] = set()
        self.order: list[str] = []

    def path(self, start: str, end: str, depth: int = 0) -> list[Description]:
        """The layers from one node to another."""
        if depth > DEEPEST:
            raise ArgumentError(f"its branches lie inside each other more than {DEEPEST} deep")
        nodes = []
        while end != start:
            if end in self.taken:
                raise ArgumentError(
                    f"its layer {one_line(end)} is on paths that cross: branches are read that part in one tensor and "
                    "meet in one Add or Concatenate"
                )
            self.taken.add(end)
            nodes.append(end)
            end = self.branches.fork(end)
        layers = []
        for node in reversed(nodes):
            entry, sources = self.entries[node], self.branches.inputs[node]
            if entry["class_name"] not in _MERGES:
                layers.append(self.read(entry))
                self.order.append(node)
                continue
            fork = self.branches.fork(node)
            paths = [self.path(fork, source, depth + 1) for source in sources]
            if not any(paths):
                raise ArgumentError(
                    f"its layer {one_line(node)} merges a tensor with itself: one path must have a layer"
                )
            layers.append(_block(node, paths, _MERGES[entry["class_name"]]))
        return layers


def _block(name: str, paths: list[list[Description]], merge: str) -> Description:
    if merge == "add" and len(paths) == 2:
        first, second = paths if paths[0] else reversed(paths)
        return {
            "kind": "Layer",
            "class_name": "Residual",
            "config": {"layers": first, "shortcut": second or None, "name": name},
        }
    return {"kind": "Layer", "class_name": "Parallel", "config": {"paths": paths, "merge": merge, "name": name}}


def _inputs(name: str, entry: Description, known: dict[str, list[str]]) -> list[str]:
    """The nodes from which a layer takes its tensors. Raises `ArgumentError` for what Residual and
    Parallel cannot express."""
    kind, calls = entry["class_name"], entry["inbound_nodes"]
    called = f"its layer {one_line(name)} ({one_line(kind)})"
    if kind == "InputLayer":
        return []
    if kind in _OTHER_MERGES:
        raise ArgumentError(f"{called} merges branches in its own way: Add, and Concatenate of channels, are read")
    if len(calls) != 1:
        raise ArgumentError(f"{called} is called {len(calls)} times: each layer of a Sequential is called once")
    takes = [tensor["config"]["keras_history"][0] for tensor in _tensors(calls[0]["args"])]
    if any(value not in (None, False) for value in calls[0]["kwargs"].values()):
        raise ArgumentError(f"{called} is called with further arguments")
    if len(takes) != 1 and (kind not in _MERGES or len(takes) < 2):
        raise ArgumentError(f"{called} takes {len(takes)} tensors: a layer takes one, Add and Concatenate two or more")
    for source in takes:
        if source not in known:
            raise ArgumentError(f"{called} takes the output of {one_line(source)}, which is not before it")
    if kind == "Concatenate":
        rank = len(entry["build_config"]["input_shape"][0])
        if entry["config"].get("axis", -1) not in (-1, rank - 1):
            raise ArgumentError(f"{called} works along axis {one_line(entry['config']['axis'])}: channels are merged")
    return takes


def _output(config: Description, known: dict[str, list[str]]) -> str:
    output = config["output_layers"]
    last = output[0] if output and isinstance(output[0], list) else output
    if output is not last and len(output) > 1:
        raise ArgumentError(f"it has {len(output)} outputs: a Sequential has one")
    name = last[0]
    if not isinstance(name, str) or name not in known:
        raise ArgumentError(f"its output is that of {one_line(name)}, which is not one of its layers")
    return name


def _tensors(value: Any) -> list[Description]:
    if isinstance(value, list):
        return [tensor for item in value for tensor in _tensors(item)]
    return [value] if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__" else []


# -- to Keras ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Value:
    """The output of a layer in the graph that is written."""

    name: str
    shape: Shape


class Writer:
    """The layers of a functional model, in the order in which they compute.

    describe  a layer of Keras for a layer of gpucnn, without others inside; it may need several in a row
    """

    def __init__(self, first: Description, shape: Shape, describe: Callable[[Layer], list[Description]]) -> None:
        name = first["config"]["name"]
        self.entries: list[Description] = [{**first, "name": name, "inbound_nodes": []}]
        self._describe, self._names = describe, {name}
        self._value = _Value(name, shape)

    def add(self, layers: Sequence[Layer], prefix: str = "") -> None:
        """Append layers in a row; `prefix` begins the names of those inside others."""
        for layer in layers:
            name = f"{prefix}{layer.name}"
            if isinstance(layer, Parallel):
                self._add_branches(layer, name)
                continue
            parts = self._describe(layer)
            for number, description in enumerate(parts, 1):
                shape = layer.output_shape if number == len(parts) else self._value.shape
                self._append(description, f"{prefix}{description['config']['name']}", self._value, shape)

    def _add_branches(self, layer: Parallel, name: str) -> None:
        start, ends = self._value, []
        for path in layer.paths:
            self._value = start
            self.add(path, f"{name}_")
            ends.append(self._value)
        kind = "Add" if layer.merge == "add" else "Concatenate"
        config: Description = {"name": name, "trainable": True} | ({} if kind == "Add" else {"axis": -1})
        description = {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None}
        description["build_config"] = {"input_shape": [list(end.shape) for end in ends]}
        self._append(description, name, ends, layer.output_shape)

    def _append(self, description: Description, name: str, takes: Any, shape: Shape | None) -> None:
        base, number = name, 0
        while name in self._names:
            number += 1
            name = f"{base}_{number}"
        self._names.add(name)
        taken = [_tensor(value) for value in takes] if isinstance(takes, list) else _tensor(takes)
        entry = {**description, "config": {**description["config"], "name": name}, "name": name}
        self.entries.append({**entry, "inbound_nodes": [{"args": [taken], "kwargs": {}}]})
        self._value = _Value(name, shape or ())

    def model(self, name: str) -> Description:
        """The description of the model."""
        ends = {"input_layers": [self.entries[0]["name"], 0, 0], "output_layers": [self._value.name, 0, 0]}
        return {
            "module": "keras.src.models.functional",  # Keras has no public name for the class
            "class_name": "Functional",
            "config": {"name": name, "trainable": True, "layers": self.entries, **ends},
            "registered_name": "Functional",
            "build_config": {"input_shape": None},
        }


def _tensor(value: _Value) -> Description:
    config = {"shape": list(value.shape), "dtype": "float32", "keras_history": [value.name, 0, 0]}
    return {"class_name": "__keras_tensor__", "config": config}
