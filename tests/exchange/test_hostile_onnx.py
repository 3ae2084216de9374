"""A file of ONNX that is damaged or malicious is refused in one line: nothing is allocated, read elsewhere, or run."""

import os
import random
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from model_files import assert_is_one_line
from needs import posix_here
from onnx_files import gemm, onnx_file, relu, tensor

from gpucnn import models
from gpucnn.errors import FileError

pytest.importorskip("onnx", reason="onnx is not installed")
W = np.ones((4, 3), np.float32)
IMAGES = (None, 3, 8, 8)
K = np.ones((2, 3, 3, 3), np.float32)


def conv(**attributes):
    return ("Conv", ["x", "w"], ["y"], attributes)


def pool(**attributes):
    return ("MaxPool", ["x"], ["y"], attributes)


def with_graph_inside(proto):
    import onnx

    inner = onnx.AttributeProto(name="then_branch", type=onnx.AttributeProto.GRAPH, g=proto.graph)
    proto.graph.node[0].attribute.append(inner)


def with_reference(proto):
    proto.graph.node[0].attribute.add(name="alpha", type=1, ref_attr_name="alpha")


def with_function(proto):
    proto.functions.add(name="Relu", domain="")


def second_input(proto):
    proto.graph.input.add().CopyFrom(proto.graph.input[0])
    proto.graph.input[1].name = "also\n\x1b[31m"


def without_shape(proto):
    proto.graph.input[0].type.tensor_type.ClearField("shape")


def doublings(op, count):
    """x combined with itself again and again: 2^count operands when written out."""
    names = ["x", *(f"t{i}" for i in range(count))]
    nodes = [(op, [a, a], [b], {}) for a, b in pairwise(names)]
    return [*nodes, ("Mul", [names[-1], "x"], ["y"], {})]


def external(**where):
    return [("w", tensor("w", [4, 3], external={"offset": 0, "length": 48, **where}))]


HOSTILE = {
    "a tensor of the size of the world": ([gemm()], [("w", tensor("w", [10**9, 10**9]))], "does not have as many"),
    "a tensor with more values than stated": ([gemm()], [("w", tensor("w", [1, 1], float_data=[1, 2]))], "as many"),
    "a tensor with half of its bytes": ([gemm()], [("w", tensor("w", [4, 3], raw_data=b"1234"))], "as many"),
    "a tensor without values": ([gemm()], [("w", tensor("w", [4, 3]))], "as many"),
    "a negative extent": ([gemm()], [("w", tensor("w", [-4, -3], raw_data=b"\0" * 48))], "has shape"),
    "a hundred axes": ([gemm()], [("w", tensor("w", [1] * 100, raw_data=b"1234"))], "has shape"),
    "text as a weight": ([gemm()], [("w", tensor("w", [4, 3], kind=8, string_data=[b"a"] * 12))], "of STRING"),
    "complex weights": ([gemm()], [("w", tensor("w", [1], kind=14, float_data=[1, 1]))], "of COMPLEX64"),
    "an unknown type": ([gemm()], [("w", tensor("w", [1], kind=99, raw_data=b"1"))], "unknown type 99"),
    "integers as weights": ([gemm()], [("w", np.ones((4, 3), np.int64))], "float32 with 2 axes is needed"),
    "the same tensor twice": ([gemm()], [("w", W), ("w", W)], "there twice"),
    "a circle": ([("Relu", ["a"], ["b"], {}), ("Relu", ["b"], ["a"], {}), relu()], [], "before anything writes it"),
    "a node that feeds itself": ([("Relu", ["y"], ["y"], {})], [], "before anything writes it"),
    "a tensor written twice": ([relu(), relu()], [], "which exists already"),
    "an input that is overwritten": ([("Relu", ["x"], ["x"], {}), relu()], [], "which exists already"),
    "an output that nothing writes": ([("Relu", ["x"], ["z"], {})], [], "nothing writes its output"),
    "an output from constants": ([("Identity", ["w"], ["y"], {})], [("w", W)], "does not depend on its last node"),
    "external data above the folder": ([gemm()], external(location="../secret"), "not below the folder"),
    "external data at the root": ([gemm()], external(location="/etc/passwd"), "not below the folder"),
    "external data behind a detour": ([gemm()], external(location="a/../../secret"), "not below the folder"),
    "external data without a place": ([gemm()], external(location=""), "not below the folder"),
    "external data with a zero byte": ([gemm()], external(location="a\0b"), "not below the folder"),
    "external data that is missing": ([gemm()], external(location="missing.bin"), "no such file"),
    "external data that is a folder": ([gemm()], external(location="folder"), "cannot read"),
    "external data beyond the end": ([gemm()], external(location="data.bin", offset=40), "too short"),
    "external data of another length": ([gemm()], external(location="data.bin", length=47), "takes 48 bytes"),
    "external data of a negative length": ([gemm()], external(location="data.bin", length=-1), "takes 48 bytes"),
    "external data at an endless offset": ([gemm()], external(location="data.bin", offset="9" * 50), "takes 48"),
    "no groups": ([conv(group=0)], [("w", K)], "does not fit"),
    "groups below zero": ([conv(group=-1)], [("w", K)], "does not fit"),
    "strides of zero": ([conv(strides=[0, 0])], [("w", K)], "extent below 1"),
    "strides below zero": ([conv(strides=[-1, 1])], [("w", K)], "extent below 1"),
    "strides in words": ([conv(strides="ab")], [("w", K)], "is not valid"),
    "strides of one axis": ([conv(strides=[1])], [("w", K)], "does not fit its input"),
    "pads below zero": ([conv(pads=[-1, 0, 0, 0])], [("w", K)], "does not fit its input"),
    "a window that is not its weight's": ([conv(kernel_shape=[5, 5])], [("w", K)], "does not fit its input"),
    "a weight of other channels": ([conv()], [("w", np.ones((2, 5, 3, 3), np.float32))], "does not fit 3 channels"),
    "a weight of no filters": ([conv()], [("w", np.ones((0, 3, 3, 3), np.float32))], "cannot become|damaged"),
    "a weight without an axis": ([conv()], [("w", np.float32(1))], "with 4 axes is needed"),
    "a filter larger than the image": ([conv()], [("w", np.ones((1, 3, 9, 9), np.float32))], "does not fit into 8"),
    "an axis in words": ([("Flatten", ["x"], ["y"], {"axis": "first"})], [], "is not valid"),
    "an axis far away": ([("Softmax", ["x"], ["y"], {"axis": 10**15})], [], "cannot become"),
    "no window": ([pool()], [], "has no kernel_shape"),
    "a window of zero": ([pool(kernel_shape=[0, 0])], [], "extent below 1"),
    "no operands": ([("Relu", [], ["y"], {})], [], "cannot become|not valid"),
    "no outputs": ([("Relu", ["x"], [], {}), relu()], [], "not valid|cannot become"),
    "a formula that doubles forever": (doublings("Mul", 500), [], "formula"),
    "a quotient that doubles forever": (doublings("Div", 500), [], "formula"),
    "weights used a million times": (
        [("MatMul", [f"t{i}" if i else "x", "w"], [f"t{i + 1}" if i < 999 else "y"], {}) for i in range(1000)],
        [("w", np.ones((4, 4), np.float32))],
        "repeats the weights",
    ),
    "too many nodes": ([("Relu", ["x"], [f"t{i}"], {}) for i in range(20_001)], [], "more than 20000"),
    "control flow": ([relu()], [], "with a graph inside", {"change": with_graph_inside}),
    "a reference to an attribute": ([relu()], [], "with a graph inside", {"change": with_reference}),
    "functions": ([relu()], [], "holds functions", {"change": with_function}),
    "an operator of a stranger": ([relu()], [], "of com.evil", {"domain": "com.evil"}),
    "an operator with line breaks": ([("R\n\x1b[31melu", ["x"], ["y"], {})], [], "is not a layer of gpucnn"),
    "two inputs": ([relu()], [], "has 2 inputs", {"change": second_input}),
    "an input without a shape": ([relu()], [], "does not say the shape", {"change": without_shape}),
    "an input of no fixed size": ([relu()], [], "must be fixed", {"x": (None, "H", "W", 3)}),
    "an input of size zero": ([relu()], [], "must be fixed", {"x": (None, 0)}),
    "an input of one axis": ([relu()], [], "of 1 axes", {"x": (3,)}),
    "an input of text": ([relu()], [], "takes STRING", {"dtype": 8}),
    "an input of the size of the world": ([gemm()], [("w", W)], "does not fit", {"x": (None, 2**31 - 1)}),
    "an old opset": ([relu()], [], "has opset 3", {"opset": 3}),
    "an opset of the future": ([relu()], [], "has opset 9999", {"opset": 9999}),
    "training": ([("Dropout", ["x", "", "t"], ["y"], {})], [("t", np.array(True))], "training mode"),
    "a batch that grows": ([("Reshape", ["x", "s"], ["y"], {})], [("s", np.array([2, 2], np.int64))], "of samples"),
    "a shape of floats": ([("Reshape", ["x", "s"], ["y"], {})], [("s", np.ones(2, np.float32))], "not a few integers"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(name, tmp_path):
    nodes, weights, words, *changes = HOSTILE[name]
    (tmp_path / "secret").write_bytes(b"\0" * 48)
    folder = tmp_path / "models"
    (folder / "folder").mkdir(parents=True)
    (folder / "data.bin").write_bytes(b"\0" * 80)
    images = any(node[0] in ("Conv", "MaxPool") for node in nodes)
    options = {"x": IMAGES} if images else {}
    path = onnx_file(folder / "m.onnx", nodes, weights, **{**options, **(changes[0] if changes else {})})
    tracemalloc.start()
    try:
        with pytest.raises(FileError, match=words) as caught:
            models.load_model(path)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()
    assert str(caught.value).isprintable() and "\n" not in str(caught.value)


@posix_here
def test_external_data_behind_a_link_is_refused(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 48)
    os.symlink(tmp_path / "secret", folder / "w.bin")
    path = onnx_file(folder / "m.onnx", [gemm()], external(location="w.bin"))
    with pytest.raises(FileError, match="not below the folder"):
        models.load_model(path)


def test_external_data_in_the_folder_are_read_once(tmp_path, rng):
    w = rng.normal(size=(4, 3)).astype(np.float32)
    (tmp_path / "w.bin").write_bytes(b"skip" + w.tobytes())
    path = onnx_file(tmp_path / "m.onnx", [gemm()], external(location="w.bin", offset=4))
    np.testing.assert_array_equal(models.load_model(path).get_weights()[0], w)
    again = [("w", external(location="w.bin")[0][1]), ("v", tensor("v", [4, 3], external={"location": "w.bin"}))]
    path = onnx_file(tmp_path / "m.onnx", [gemm()], again)
    with pytest.raises(FileError, match="too short"):
        models.load_model(path)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", b"\x80\x04K\x01.", b"\xff" * 100, b"\x08" * 7])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"m\.onnx (is not an ONNX file|has opset)"):
        models.load_model(path)


def test_a_folder_and_a_missing_file_are_refused(tmp_path):
    (tmp_path / "m.onnx").mkdir()
    for name in ("m.onnx", "missing.onnx"):
        with pytest.raises(FileError, match="cannot read"):
            models.load_model(tmp_path / name)


def loaded_if_intact(path):
    try:
        return models.load_model(path)
    except FileError as error:
        assert_is_one_line(error, path)
    return None


def test_truncations_and_a_thousand_mutations_end_in_a_model_or_in_one_line(small_model, tmp_path):
    path = tmp_path / "m.onnx"
    small_model().export(path)
    original = path.read_bytes()
    for length in range(0, len(original), 7):
        path.write_bytes(original[:length])
        assert loaded_if_intact(path) is None
    rng = random.Random(0)
    for _ in range(1000):
        data = bytearray(original)
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            i, j = sorted(rng.randrange(len(data) + 1) for _ in range(2))
            data[i : rng.choice((i + 1, min(j, i + 30)))] = rng.randbytes(rng.randrange(3))
        path.write_bytes(data)
        loaded_if_intact(path)
