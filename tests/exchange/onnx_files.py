"""ONNX files for tests, written node by node."""

import numpy as np


def onnx_file(path, nodes, weights=(), x=(None, 4), y=(None, None), **changes):
    """A file whose graph takes `x` and returns `y`.

    nodes    (op, inputs, outputs, attributes)
    weights  (name, array or TensorProto)
    changes  functions of the ModelProto or values of its fields
    """
    from onnx import TensorProto, helper, numpy_helper

    opset = changes.pop("opset", 17)
    domain = changes.pop("domain", "")
    protos = [
        helper.make_node(op, list(inputs), list(outputs), domain=domain, **attributes)
        for op, inputs, outputs, attributes in nodes
    ]
    kept = [numpy_helper.from_array(np.asarray(w), n) if not isinstance(w, TensorProto) else w for n, w in weights]
    graph = helper.make_graph(
        protos,
        "graph",
        [helper.make_tensor_value_info("x", changes.pop("dtype", TensorProto.FLOAT), x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        kept,
    )
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    for change in changes.values():
        change(proto)
    path.write_bytes(proto.SerializeToString())
    return path


def tensor(name, dims, **fields):
    """A TensorProto with these dims, whatever it holds."""
    from onnx import TensorProto

    proto = TensorProto(name=name, dims=dims, data_type=fields.pop("kind", TensorProto.FLOAT))
    external = fields.pop("external", None)
    if external is not None:
        proto.data_location = TensorProto.EXTERNAL
        for key, value in external.items():
            proto.external_data.add(key=key, value=str(value))
    for field, value in fields.items():
        if field == "raw_data":
            proto.raw_data = value
        else:
            getattr(proto, field).extend(value)
    return proto


def relu(**attributes):
    return ("Relu", ["x"], ["y"], attributes)


def gemm(**attributes):
    return ("Gemm", ["x", "w"], ["y"], attributes)
