"""A model as an ONNX file: IR version 8, opset 17, which all runtimes since 2022 read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ...files import write_atomically
from ...models.model import Model
from ...models.signature import Signature
from ...version import __version__
from . import layers
from .graph import Graph, Tensor

IR_VERSION, OPSET = 8, 17

INPUT, OUTPUT = "input", "output"
"""The names of the graph's tensors."""

_LARGEST = 2**31 - 1
"""Bytes that a file of protocol buffers can have."""


def export(model: Model, filepath: Any, *, prepare: bool = False) -> None:
    """Write a model for inference to an ONNX file.

    The input is `input`, float32 (N, …) with channels last, as the model takes it; the output is
    `output`, float32 (N, …). The metadata hold `classes`, a JSON list of names, and `signature`, if
    the model has them.

    prepare  the input is instead uint8 (N, H, W, C), images of the model's size: inversion and
             division of the model's signature are part of the graph

    Raises `ArgumentError` for a model that is not built, a layer that ONNX cannot express, and, with
    `prepare`, a model without a signature or one that centres its images.
    """
    write_atomically(filepath, encoded(model, Path(filepath).stem, prepare))


def encoded(model: Model, name: str, prepare: bool = False) -> bytes:
    """The content of the file that `export` writes."""
    if not model.built:
        raise ArgumentError("the model has no weights yet: give it an Input, or fit it first")
    graph = Graph()
    helper, kinds = graph.onnx.helper, graph.onnx.TensorProto
    x = Tensor(INPUT, model.input_shape)
    if prepare:
        x = _prepared(graph, x, _signature_to_prepare(model))
    for layer in model.layers:
        x = layers.write(graph, x, layer)
    graph.enter("")
    graph.end(x, OUTPUT)
    shapes = [["N", *shape[1:]] for shape in (model.input_shape, model.output_shape)]
    inputs = helper.make_tensor_value_info(INPUT, kinds.UINT8 if prepare else kinds.FLOAT, shapes[0])
    outputs = helper.make_tensor_value_info(OUTPUT, kinds.FLOAT, shapes[1])
    proto = helper.make_model(
        helper.make_graph(graph.nodes, name or model.name, [inputs], [outputs], graph.constants),
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="gpucnn",
        producer_version=__version__,
    )
    if model.signature is not None:
        signature = json.dumps(model.signature.to_json(), ensure_ascii=False)
        classes = json.dumps(model.signature.classes, ensure_ascii=False)
        helper.set_model_props(proto, {"classes": classes, "signature": signature})
    if proto.ByteSize() > _LARGEST:
        raise ArgumentError(f"the model takes {proto.ByteSize()} bytes, and an ONNX file holds at most {_LARGEST}")
    graph.onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


def _signature_to_prepare(model: Model) -> Signature:
    """The model's signature, if ONNX can express how it prepares an image."""
    signature = model.signature
    if signature is None:
        raise ArgumentError(
            "prepare (--prepare): the model has no signature, so how an image becomes its input is not known; "
            "set model.signature, or leave prepare out"
        )
    if signature.divisor is None:
        raise ArgumentError(
            "prepare (--prepare): the model was trained on floats, and how they were made from images is not known; "
            "leave prepare out"
        )
    if signature.centre:
        raise ArgumentError(
            "prepare (--prepare): the model takes digits that are cut out and centred, which ONNX cannot express; "
            "leave prepare out and give centred images"
        )
    return signature


def _prepared(graph: Graph, x: Tensor, signature: Signature) -> Tensor:
    """8-bit pixels as the model takes them: float32, inverted if need be, divided."""
    graph.enter("prepare")
    x = graph.apply(x, "Cast", to=graph.onnx.TensorProto.FLOAT)
    if signature.invert:
        x = graph.apply(graph.apply(x, "Neg"), "Add", 255.0)
    return graph.apply(x, "Div", float(np.float32(signature.divisor)))
