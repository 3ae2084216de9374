"""The content of an ONNX file, checked before anything is allocated or computed from it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import FileError, one_line
from ...files import check_regular, explained
from ..libraries import library

OPSETS = range(7, 29)
"""The versions of the operators that are read."""

_MOST_NODES = 20_000
_LARGEST = 2**31 - 1
"""Bytes that a file of protocol buffers can have."""

_DTYPES: dict[str, np.dtype[Any]] = {
    "FLOAT": np.dtype("<f4"),
    "DOUBLE": np.dtype("<f8"),
    "FLOAT16": np.dtype("<f2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "BOOL": np.dtype("?"),
}
"""The types of constants that are read."""

_FIELDS = {"FLOAT": "float_data", "DOUBLE": "double_data", "INT64": "int64_data"}
"""Where a tensor without raw data has its values; the others have them in `int32_data`."""


@dataclass(frozen=True)
class Node:
    """One node: its operator, its name, its tensors and its attributes."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"the node {one_line(self.name)} ({one_line(self.op)})"


@dataclass(frozen=True)
class Source:
    """A graph with one input and one output, in a valid order.

    shape      the extents of the input without the batch axis
    batch      the extent of the batch axis if the file fixes it
    pixels     whether the input is uint8
    constants  weights as float32, numbers of other types as they are
    """

    opset: int
    nodes: list[Node]
    constants: dict[str, np.ndarray]
    input: str
    shape: tuple[int, ...]
    batch: int | None
    pixels: bool
    output: str
    producer: str
    metadata: dict[str, str]


def read(path: Path) -> Source:
    """The graph in a file. Raises `FileError` for anything that is not a model of one path."""
    onnx = library("onnx", "ONNX files", "onnx")
    with explained("read", path):
        check_regular(path)
        if path.stat().st_size > _LARGEST:
            raise FileError(f"{path} has {path.stat().st_size} bytes: an ONNX file has at most {_LARGEST}")
        data = path.read_bytes()
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception as error:
        raise FileError(f"{path} is not an ONNX file, or it is damaged: {one_line(error)}") from error
    return _Reader(onnx, path, proto).source()


class _Reader:
    def __init__(self, onnx: Any, path: Path, proto: Any) -> None:
        self.onnx, self.path, self.proto = onnx, path, proto
        self.constants: dict[str, np.ndarray] = {}
        self._unread: dict[str, int] = {}
        """Bytes of each file next to the model that no tensor has taken."""

    def refuse(self, why: str) -> FileError:
        return FileError(f"{self.path} {why}")

    def source(self) -> Source:
        graph = self.proto.graph
        if not graph.node and not graph.input:
            raise self.refuse("is not an ONNX file: it holds no graph")
        opset = self._opset()
        if self.proto.functions or graph.sparse_initializer:
            kind = "functions" if self.proto.functions else "sparse tensors"
            raise self.refuse(f"holds {kind}, which cannot become layers: export it without them")
        for tensor in graph.initializer:
            self._add_constant(tensor.name, tensor)
        nodes = self._nodes()
        images, shape, batch, pixels = self._input()
        if len(graph.output) != 1:
            raise self.refuse(f"has {len(graph.output)} outputs: a Sequential has one")
        return Source(
            opset,
            nodes,
            self.constants,
            images,
            shape,
            batch,
            pixels,
            graph.output[0].name,
            self.proto.producer_name,
            {entry.key: entry.value for entry in self.proto.metadata_props},
        )

    def _opset(self) -> int:
        versions = [entry.version for entry in self.proto.opset_import if entry.domain in ("", "ai.onnx")]
        if len(versions) != 1 or versions[0] not in OPSETS:
            stated = one_line(versions[0]) if versions else "none"
            raise self.refuse(f"has opset {stated}: {OPSETS[0]} to {OPSETS[-1]} are read; export it with opset 17")
        return versions[0]

    def _input(self) -> tuple[str, tuple[int, ...], int | None, bool]:
        inputs = [entry for entry in self.proto.graph.input if entry.name not in self.constants]
        if len(inputs) != 1:
            names = one_line(", ".join(entry.name for entry in inputs))
            raise self.refuse(f"has {len(inputs)} inputs{f' ({names})' if inputs else ''}: a Sequential has one")
        name, kind = inputs[0].name, inputs[0].type.tensor_type
        elements = self.onnx.TensorProto
        if kind.elem_type not in (elements.FLOAT, elements.UINT8):
            raise self.refuse(f"takes {self._type_name(kind.elem_type)}: models of float32 or uint8 images are read")
        if not kind.HasField("shape"):
            raise self.refuse(f"does not say the shape of its input {one_line(name)}: export it with one")
        extents = [axis.dim_value if axis.HasField("dim_value") else None for axis in kind.shape.dim]
        if len(extents) < 2:
            raise self.refuse(f"takes inputs of {len(extents)} axes: a batch axis and at least one more are needed")
        batch, *shape = extents
        if not all(extent is not None and 0 < extent < 2**31 for extent in shape):
            stated = ", ".join("?" if extent is None else str(extent) for extent in extents)
            raise self.refuse(f"takes inputs of shape ({stated}): all extents but the first must be fixed")
        return name, tuple(extent for extent in shape if extent is not None), batch or None, kind.elem_type != 1

    def _nodes(self) -> list[Node]:
        """The nodes but for constants. Each name is written once, before it is read."""
        graph = self.proto.graph
        if len(graph.node) > _MOST_NODES:
            raise self.refuse(f"has {len(graph.node)} nodes, more than {_MOST_NODES}")
        written = {*self.constants, *(entry.name for entry in graph.input), ""}
        nodes = []
        for number, proto in enumerate(graph.node):
            node = Node(
                proto.op_type,
                proto.name or f"number {number + 1}",
                tuple(proto.input),
                tuple(proto.output),
                {attribute.name: self._attribute(proto, attribute) for attribute in proto.attribute},
            )
            if proto.domain not in ("", "ai.onnx"):
                raise self.refuse(f"uses {node} of {one_line(proto.domain)}: only operators of ONNX itself are read")
            for name in node.inputs:
                if name not in written:
                    raise self.refuse(f"is damaged: {node} reads {one_line(name)!r} before anything writes it")
            for name in node.outputs:
                if name and name in written:
                    raise self.refuse(f"is damaged: {node} writes {one_line(name)!r}, which exists already")
            written.update(node.outputs)
            if node.op == "Constant":
                self._add_constant_of(node)
            else:
                nodes.append(node)
        for entry in graph.output:
            if entry.name not in written:
                raise self.refuse(f"is damaged: nothing writes its output {one_line(entry.name)!r}")
        return nodes

    def _attribute(self, node: Any, attribute: Any) -> Any:
        kind = self.onnx.AttributeProto
        if attribute.ref_attr_name or attribute.type in (kind.GRAPH, kind.GRAPHS):
            raise self.refuse(f"uses {one_line(node.op_type)} with a graph inside: a Sequential has one path")
        if attribute.type in (kind.SPARSE_TENSOR, kind.SPARSE_TENSORS, kind.TENSORS, kind.TYPE_PROTO, kind.TYPE_PROTOS):
            raise self.refuse(f"uses {one_line(node.op_type)} with {one_line(attribute.name)}, which is not read")
        value = self.onnx.helper.get_attribute_value(attribute)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    def _add_constant_of(self, node: Node) -> None:
        (kind, value), *others = node.attributes.items() or [("", None)]
        if (
            others
            or len(node.outputs) != 1
            or kind not in ("value", "value_float", "value_floats", "value_int", "value_ints")
        ):
            raise self.refuse(f"is damaged or not read: {node} is not one array of numbers")
        if kind == "value":
            self._add_constant(node.outputs[0], value)
        else:
            dtype = np.float32 if "float" in kind else np.int64
            self.constants[node.outputs[0]] = np.asarray(value, dtype)

    def _add_constant(self, name: str, tensor: Any) -> None:
        """Keep an array of the file once its size agrees with its shape."""
        kind = self._type_name(tensor.data_type)
        called = f"the tensor {one_line(name)!r}"
        if name in self.constants:
            raise self.refuse(f"is damaged: {called} is there twice")
        if kind not in _DTYPES:
            raise self.refuse(f"holds {called} of {kind}: weights of float32 are read")
        shape, dtype = tuple(tensor.dims), _DTYPES[kind]
        if not all(0 <= extent < 2**31 for extent in shape) or len(shape) > 8:
            raise self.refuse(f"is damaged: {called} has shape {one_line(shape)}")
        count = math.prod(shape)
        if tensor.data_location == self.onnx.TensorProto.EXTERNAL:
            data = self._external(called, tensor, count * dtype.itemsize)
        elif tensor.HasField("raw_data"):
            data = tensor.raw_data
        else:
            values = getattr(tensor, _FIELDS.get(kind, "int32_data"))
            if len(values) == count:
                typed = np.asarray(values, np.uint16 if kind == "FLOAT16" else dtype)
                data = typed.tobytes()
            else:
                data = b"" if count else b" "
        if len(data) != count * dtype.itemsize:
            raise self.refuse(f"is damaged: {called} of shape {one_line(shape)} does not have as many values")
        array = np.frombuffer(data, dtype).reshape(shape)
        self.constants[name] = array.astype(np.float32) if dtype.kind == "f" else array

    def _external(self, called: str, tensor: Any, size: int) -> bytes:
        """Bytes of a file next to the model. Raises `FileError` for one elsewhere, or of another size."""
        where = {entry.key: entry.value for entry in tensor.external_data}
        folder = os.path.realpath(self.path.parent)
        location = where.get("location", "")
        target = os.path.realpath(os.path.join(folder, location.replace("\0", "?")))
        if not location or "\0" in location or os.path.commonpath([folder, target]) != folder:
            raise self.refuse(f"has {called} in {one_line(location)!r}, which is not below the folder of the model")
        numbers = [where.get("offset", "0"), where.get("length", str(size))]
        if not all(number.isdecimal() and len(number) < 19 for number in numbers) or int(numbers[1]) != size:
            raise self.refuse(f"is damaged: {called} takes {size} bytes, and {one_line(numbers[1])} are stated")
        with explained("read", target):
            check_regular(Path(target))
            with open(target, "rb") as file:
                length = os.fstat(file.fileno()).st_size
                self._unread[target] = self._unread.get(target, length) - size
                if int(numbers[0]) + size > length or self._unread[target] < 0:
                    raise self.refuse(f"has {called} in {one_line(location)}, which is too short")
                file.seek(int(numbers[0]))
                return file.read(size)

    def _type_name(self, number: int) -> str:
        try:
            return self.onnx.TensorProto.DataType.Name(number)
        except ValueError:
            return f"the unknown type {number}"
