"""A file that is not intact is refused in one line, whatever it contains, and runs no code."""

import ast
import io
import json
import os
import pickle
import random
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from model_files import loaded_if_intact, parts_of, raw, written

import gpucnn
from gpucnn.errors import FileError
from gpucnn.models import saving
from gpucnn.models.loading import load_model
from gpucnn.models.saving import save_checkpoint, weights_sha256


def test_every_truncation_is_an_error(tiny):
    for length in reversed(range(tiny.stat().st_size)):
        os.truncate(tiny, length)
        with pytest.raises(FileError) as caught:
            load_model(tiny)
        assert str(tiny) in str(caught.value)


def test_every_flipped_bit_is_an_error_or_does_not_matter(tiny):
    right = weights_sha256(load_model(tiny))
    harmless = 0
    with open(tiny, "r+b", buffering=0) as file:
        data = file.read()
        for i, byte in enumerate(data):
            for bit in range(8):
                file.seek(i)
                file.write(bytes([byte ^ 1 << bit]))
                model = loaded_if_intact(tiny)
                if model is not None:
                    harmless += 1
                    assert weights_sha256(model) == right
            file.seek(i)
            file.write(bytes([byte]))
    assert harmless < 8  # the other spelling of an escape or exponent, not a hole in the hash


def test_a_thousand_mutations_are_errors_or_do_not_matter(tiny):
    right = weights_sha256(load_model(tiny))
    original = tiny.read_bytes()
    rng = random.Random(0)
    for _ in range(1000):
        data = bytearray(original)
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            i, j = sorted(rng.randrange(len(data) + 1) for _ in range(2))
            kind = rng.randrange(5)
            if kind == 0:
                data[i : i + 1] = rng.randbytes(1)
            elif kind == 1:
                del data[i : min(j, i + 30)]
            elif kind == 2:
                data[i:i] = rng.randbytes(rng.randrange(1, 9))
            elif kind == 3:
                data[i:j] = original[i:j][::-1]
            else:
                data[i:i] = original[i : min(j, i + 60)]
        tiny.write_bytes(data)
        model = loaded_if_intact(tiny)
        assert model is None or weights_sha256(model) == right


DENSE = {"kind": "Layer", "class_name": "Dense", "config": {"units": 1, "name": "dense"}}
TENSORS = {"weights/dense/kernel": np.ones((2, 1), np.float32), "weights/dense/bias": np.ones(1, np.float32)}


def architecture(*layers, shape=(2,)):
    return {"architecture": {"name": "m", "input_shape": list(shape), "layers": list(layers)}}


def dense(**config):
    return {**DENSE, "config": {**DENSE["config"], **config}}


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


HOSTILE = {
    "a program as class": architecture({"kind": "Layer", "class_name": "os.system", "config": {"command": "true"}}),
    "a module to import": architecture(
        {**DENSE, "module": "os", "class_name": "system", "registered_name": "os.system"}
    ),
    "a class of Python": architecture({**DENSE, "class_name": "__import__", "config": {"name": "os"}}),
    "a lambda": architecture({**DENSE, "class_name": "Lambda", "config": {"function": "lambda x: x"}}),
    "another kind": architecture({"kind": "Optimizer", "class_name": "SGD", "config": {}}),
    "an abstract base": architecture({"kind": "Layer", "class_name": "Layer", "config": {}}),
    "an unknown argument": architecture(dense(command="true")),
    "a function as initializer": architecture(dense(kernel_initializer={"class_name": "eval", "config": {}})),
    "far too many units": architecture(dense(units=10**9)),
    "more units than any number": architecture(dense(units=10**400)),
    "a kernel of the size of the world": architecture(
        {
            "kind": "Layer",
            "class_name": "Conv2D",
            "config": {"filters": 1, "kernel_size": [10**6, 10**6], "padding": "same"},
        },
        shape=(10**6, 10**6, 1),
    ),
    "negative units": architecture(dense(units=-5)),
    "no units": architecture(dense(units=None)),
    "units in words": architecture(dense(units="one")),
    "units in a fraction": architecture(dense(units=1.5)),
    "one layer too many": architecture(DENSE, dense(name="dense_1")),
    "one layer too few": architecture(),
    "too many layers": architecture(*[{"kind": "Layer", "class_name": "Flatten", "config": {}}] * 13000),
    "the same name twice": architecture(DENSE, DENSE),
    "a deep description": architecture(dense(kernel_initializer=nested(400))),
    "no layers": {"architecture": {"name": "m", "input_shape": [2]}},
    "layers that are a number": {"architecture": {"name": "m", "input_shape": [2], "layers": 3}},
    "layers that are words": architecture("Dense", "Dense"),
    "layers without kind": architecture({"class_name": "Dense"}),
    "no name": {"architecture": {"input_shape": [2], "layers": [DENSE]}},
    "a list": {"architecture": [DENSE]},
    "no seeds": {**architecture(DENSE), "seeds": None},
    "the seed of a layer that has none": {**architecture(DENSE), "seeds": {"dense": 3}},
    "a seed in words": {
        **architecture({"kind": "Layer", "class_name": "Dropout", "config": {"rate": 0.5, "name": "d"}}, DENSE),
        "seeds": {"d": "__class__"},
    },
    "no input shape": {"architecture": {"name": "m", "input_shape": None, "layers": [DENSE]}},
    "a negative input": architecture(DENSE, shape=(-2,)),
    "an infinite input": architecture(DENSE, shape=({"float": "inf"},)),
    "a wrong input": architecture(DENSE, shape=(3,)),
    "line breaks": architecture({**DENSE, "class_name": "Dense\n\x1b[31mgpucnn: all is well\n"}),
    "a kind with line breaks": architecture({**DENSE, "kind": "Layer\nall is well\x1b[2J"}),
    "a format with line breaks": {**architecture(DENSE), "format_version": "2\n\x1b[2J"},
    "half a letter": architecture({**DENSE, "class_name": "\ud800"}),
    "half of a compile": {**architecture(DENSE), "compile": {"optimizer": {}}},
    "an unknown optimizer": {
        **architecture(DENSE),
        "compile": {
            "optimizer": {"kind": "Optimizer", "class_name": "os.system", "config": {}},
            "loss": "mse",
            "metrics": [],
            "weighted_metrics": [],
            "steps_per_execution": 1,
        },
    },
}


@pytest.mark.parametrize("document", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_description_is_refused_at_once_and_in_one_line(tmp_path, document):
    path = written(tmp_path / "hostile.safetensors", document, TENSORS)
    start = time.perf_counter()
    with pytest.raises(FileError) as caught:
        load_model(path)
    assert time.perf_counter() - start < 5
    message = str(caught.value)
    assert message.startswith(str(path)) or "cannot" in message
    assert message.isprintable()
    assert len(message) < len(str(path)) + 450


def test_the_corpus_is_refused_for_what_is_wrong_with_it(tmp_path):
    path = written(tmp_path / "right.safetensors", architecture(DENSE), TENSORS)
    np.testing.assert_array_equal(load_model(path).predict(np.ones((1, 2), np.float32), verbose=0), [[3.0]])


WRONG_TENSORS = {
    "missing": {k: TENSORS[k] for k in ("weights/dense/bias",)},
    "one too many": {**TENSORS, "weights/other": np.ones(1, np.float32)},
    "of another shape": {**TENSORS, "weights/dense/kernel": np.ones((1, 2), np.float32)},
    "of another type": {**TENSORS, "weights/dense/kernel": np.ones((2, 1), np.float64)},
    "with a path that leads out": {"weights/../../../etc/passwd": np.ones(3, np.float32)},
    "without elements but of a huge shape": {**TENSORS, "weights/dense/kernel": np.ones((0, 10**12), np.float32)},
}


@pytest.mark.parametrize("tensors", WRONG_TENSORS.values(), ids=WRONG_TENSORS)
def test_tensors_that_do_not_fit_the_description_are_refused(tmp_path, tensors):
    with pytest.raises(FileError):
        load_model(written(tmp_path / "wrong.safetensors", architecture(DENSE), tensors))


def test_files_of_other_kinds_are_recognised(tmp_path):
    class Program:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "it ran",))

    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Program()))
    with pytest.raises(FileError, match="looks like a pickle, which can run any program"):
        load_model(path)
    assert not (tmp_path / "it ran").exists()

    other = io.BytesIO()
    np.savez(other, x=np.zeros(3))
    path.write_bytes(other.getvalue())
    with pytest.raises(FileError, match="looks like a zip archive"):
        load_model(path)

    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights.npy", bytes(50 << 20))
    path.write_bytes(bomb.getvalue())
    with pytest.raises(FileError, match="looks like a zip archive"):
        load_model(path)

    other = io.BytesIO()
    np.save(other, np.zeros(3))
    path.write_bytes(other.getvalue())
    with pytest.raises(FileError, match="looks like a NumPy array"):
        load_model(path)
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(FileError, match="looks like an HDF5 file"):
        load_model(path)
    path.write_bytes(b"")
    with pytest.raises(FileError, match="is damaged: it is cut short"):
        load_model(path)
    safetensors.numpy.save_file(TENSORS, path)
    with pytest.raises(FileError, match=r"is not a file of gpucnn$"):
        load_model(path)


def test_a_header_that_lies_is_refused(tmp_path, tiny):
    path = tmp_path / "lie.safetensors"
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    lies = {
        "longer than the file": struct.pack("<Q", 2**63) + b"{}",
        "too long": struct.pack("<Q", saving.LONGEST_JSON + 1) + bytes(saving.LONGEST_JSON + 1),
        "no JSON": b"\x05" + bytes(7) + b"hello",
        "no object": b"\x02" + bytes(7) + b"[]",
        "deep": raw(path, b"[" * 10**5).read_bytes(),
        "a type that NumPy lacks": raw(path, {"a": {**entry, "dtype": "BF16", "shape": [2]}}, bytes(4)).read_bytes(),
        "a shape that is longer than the data": raw(path, {"a": {**entry, "shape": [10**9]}}, bytes(4)).read_bytes(),
        "a shape that overflows": raw(path, {"a": {**entry, "shape": [2**63, 2**63]}}, bytes(4)).read_bytes(),
        "overlapping tensors": raw(path, {"a": entry, "b": entry}, bytes(4)).read_bytes(),
        "metadata that are a list": raw(path, {"__metadata__": [], "a": entry}, bytes(4)).read_bytes(),
        "a document that is a number": raw(path, {"__metadata__": {"gpucnn": "3"}, "a": entry}, bytes(4)).read_bytes(),
        "NaN": raw(path, {"__metadata__": {"gpucnn": '{"x":NaN}'}, "a": entry}, bytes(4)).read_bytes(),
        "a huge number": raw(path, {"__metadata__": {"gpucnn": '{"x":' + "9" * 10**4 + "}"}}).read_bytes(),
        "no hash": raw(path, {"__metadata__": {"gpucnn": '{"format_version":1}'}, "a": entry}, bytes(4)).read_bytes(),
    }
    for name, data in lies.items():
        path.write_bytes(data)
        with pytest.raises(FileError) as caught:
            load_model(path)
        assert str(caught.value).startswith(str(path)), name
        assert "\n" not in str(caught.value), name


def test_a_header_longer_than_allowed_is_not_even_parsed(tmp_path):
    path = raw(tmp_path / "long.safetensors", {"__metadata__": {"padding": "x" * saving.LONGEST_JSON}})
    with pytest.raises(FileError, match=rf"its header of \d+ bytes is longer than {saving.LONGEST_JSON}$"):
        load_model(path)


@pytest.mark.parametrize("place", ["header", "metadata", "document"])
def test_a_repeated_name_is_refused(tiny, place):
    data = tiny.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + length].rstrip(), data[8 + length :]
    doubled = {
        "header": header[:-1] + b',"weights/dense/bias":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        "metadata": header.replace(b'{"__metadata__":{', b'{"__metadata__":{"gpucnn":"{}",'),
        "document": header.replace(b'{\\"format_version\\":1', b'{\\"gpucnn\\":1,\\"format_version\\":1'),
    }[place]
    assert doubled != header
    with pytest.raises(FileError, match="gives a name twice"):
        load_model(raw(tiny, doubled, rest))


def test_a_later_format_is_refused_with_its_writer(tmp_path):
    path = tmp_path / "later.safetensors"
    written(path, {**architecture(DENSE), "format_version": 2}, TENSORS)
    with pytest.raises(FileError, match=r"has format version 2, this gpucnn .* reads 1: read it with gpucnn 9\.9"):
        load_model(path)


def test_altered_weights_with_the_old_hash_are_refused(tiny):
    document, tensors = parts_of(tiny)
    tensors = {**tensors, "weights/dense/bias": np.ones(1, np.float32)}
    tiny.write_bytes(safetensors.numpy.save(tensors, {"gpucnn": json.dumps(document)}))
    with pytest.raises(FileError, match="does not match its SHA-256"):
        load_model(tiny)


def test_an_altered_architecture_with_the_old_hash_is_refused(tiny):
    document, tensors = parts_of(tiny)
    document["architecture"]["layers"][0]["config"]["activation"] = "relu"
    tiny.write_bytes(safetensors.numpy.save(tensors, {"gpucnn": json.dumps(document)}))
    with pytest.raises(FileError, match="does not match its SHA-256"):
        load_model(tiny)


def test_reading_costs_at_most_twice_the_file_and_64_megabytes(tmp_path):
    """The goal for hostile files; the longest header full of the smallest JSON values is the worst of them."""
    path = tmp_path / "costly.safetensors"
    deep = b"[" * 400 + b"]" * 400
    values = b",".join([deep] * ((saving.LONGEST_JSON - 99) // (len(deep) + 1)))
    raw(path, b'{"__metadata__":[' + values + b"]}")
    assert path.stat().st_size > saving.LONGEST_JSON * 0.99
    assert cost_of_refusing(path) <= 2 * path.stat().st_size + (64 << 20)
    written(path, architecture(dense(units=10**9)), {"weights/x": np.ones(10**6, np.float32)})
    assert cost_of_refusing(path) <= 2 * path.stat().st_size + (1 << 20)


def cost_of_refusing(path):
    """The most bytes that reading this file takes."""
    tracemalloc.start()
    try:
        with pytest.raises(FileError):
            load_model(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_document_too_long_to_be_read_is_not_written(trained, tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, trained)
    before = path.read_bytes()
    trained.training_state.epochs = list(range(200_000))
    with pytest.raises(FileError, match="the format allows"):
        save_checkpoint(path, trained)
    assert path.read_bytes() == before


FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "runpy", "ctypes", "code"}
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__", "import_module", "getattr", "globals"}


@pytest.mark.parametrize("name", ["models/saving", "models/loading", "runs/run", "config", "files"])
def test_code_that_reads_files_can_neither_run_nor_import_their_content(name):
    path = Path(gpucnn.__file__).parent / f"{name}.py"
    for node in ast.walk(ast.parse(path.read_text())):
        place = f"{path}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            imported = {alias.name for alias in node.names}
            assert not {module.split(".")[0] for module in imported} & FORBIDDEN_MODULES, place
            assert "importlib" not in imported, place
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in {*FORBIDDEN_MODULES, "importlib"}, place
        elif isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if ast.unparse(node.func) == "re.compile":
                continue
            if called == "getattr":  # of a name that is written in the program
                assert isinstance(node.args[1], ast.Constant), place
            else:
                assert called not in FORBIDDEN_NAMES, place
            allowed = [
                k for k in node.keywords if k.arg == "allow_pickle" and getattr(k.value, "value", True) is not False
            ]
            assert not allowed, place
