"""Files that Keras wrote are read without it; damaged and malicious ones are refused in one line."""

import io
import json
import random
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from model_files import assert_is_one_line
from needs import h5py_here

from gpucnn import Input, Sequential, layers, models
from gpucnn.errors import ArgumentError, FileError
from gpucnn.models.signature import Signature

DATA = Path(__file__).parent / "data"
pytestmark = h5py_here


@pytest.mark.parametrize("name", ["images", "path", "branches", "normalised"])
def test_the_outputs_are_those_of_keras(name):
    with np.load(DATA / f"{name}.npz") as arrays:
        x, y = arrays["x"], arrays["y"]
    model = models.load_model(DATA / f"{name}.keras")
    np.testing.assert_allclose(model.predict(x, verbose=0), y, atol=1e-5, rtol=1e-5)
    for weight in model.weights:
        weight.assign(np.zeros(weight.shape))
    model.load_weights(DATA / ("images.weights.h5" if name == "images" else f"{name}.keras"))
    np.testing.assert_allclose(model.predict(x, verbose=0), y, atol=1e-5, rtol=1e-5)


def test_what_compile_said_and_names_are_read(rng):
    model = models.load_model(DATA / "images.keras")
    assert [layer.name for layer in model.layers] == ["conv2d", "batch_normalization", "flatten", "dropout", "dense"]
    assert (model.optimizer.name, model.loss) and model.layers[0].kernel.regularizer.get_config() == {"l2": 0.01}
    model.fit(rng.uniform(size=(8, 6, 6, 1)), np.arange(8) % 3, verbose=0)


def test_a_file_of_ours_keeps_the_signature_and_is_the_same_each_time(small_model, tmp_path):
    model = small_model()
    model.signature = Signature(["a", "二", "c", "d"], (8, 8, 1), invert=True)
    for name in ("a.keras", "b.keras"):
        model.save(tmp_path / name)
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
    loaded = models.load_model(tmp_path / "a.keras")
    assert loaded.signature == model.signature and loaded.compiled
    for weight, original in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, original)
    with pytest.raises(FileError, match="exists already"):
        model.save(tmp_path / "a.keras", overwrite=False)


def test_weights_of_another_model_change_nothing(tmp_path):
    model, other = (Sequential([Input((4,)), layers.Dense(3), layers.Dense(n)]) for n in (2, 5))
    model.save_weights(tmp_path / "m.weights.h5")
    before = other.get_weights()
    with pytest.raises(
        FileError, match=r"layers/dense_1 have the shapes \(3, 2\), \(2,\) in the file, and \(3, 5\), \(5,\)"
    ):
        other.load_weights(tmp_path / "m.weights.h5")
    for weight, original in zip(other.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, original)
    with pytest.warns(UserWarning, match="does not fit dense_1: left unchanged"):
        other.load_weights(tmp_path / "m.weights.h5", skip_mismatch=True)
    np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])


def test_what_a_file_of_keras_cannot_hold_is_refused_by_name(tmp_path):
    class Mine(layers.Layer):
        def forward(self, x, step, training):
            return x, lambda dy, need_dx=True: dy

    def squared(y_true, y_pred):
        return ((y_true - y_pred) ** 2).mean(-1), lambda d: d

    dense = layers.Dense(2, activation=lambda x: (x, lambda dy: dy))
    for stack, words in [
        ([Mine(name="own")], r"the layer own \(Mine\)"),
        ([dense], "cannot be described|your activation"),
    ]:
        with pytest.raises(ArgumentError, match=words):
            Sequential([Input((4,)), *stack]).save(tmp_path / "m.keras")
    with pytest.raises(ArgumentError, match="RandomCrop of Keras resizes images in inference"):
        Sequential([Input((4, 4, 1)), layers.RandomCrop(2, 2)]).save(tmp_path / "m.keras")
    model = Sequential([Input((4,)), layers.Dense(2)])
    model.compile("sgd", squared)
    with pytest.raises(ArgumentError, match="compile uses your function squared"):
        model.save(tmp_path / "m.keras")
    assert list(tmp_path.iterdir()) == []


def test_the_missing_library_is_named(small_model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ArgumentError, match=r"need the package h5py: pip install 'gpucnn\[keras-files\]'"):
        small_model().save(tmp_path / "m.keras")


# -- hostile files -----------------------------------------------------------------------------------------------------


def parts():
    with zipfile.ZipFile(DATA / "images.keras") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path, content, **how):
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def with_layer(path, changes, **entry):
    """The file of Keras with its dense layer changed."""
    content = parts()
    config = json.loads(content["config.json"])
    dense = config["config"]["layers"][-1]
    dense.update(entry)
    dense["config"].update(changes)
    return packed(path, {**content, "config.json": json.dumps(config)})


LAYERS = {
    "far too many units": ({"units": 10**9}, {}, "more than the"),
    "units in words": ({"units": "one"}, {}, "units"),
    "an unknown argument": ({"command": "true"}, {}, "command='true', which gpucnn does not have"),
    "a program as class": ({}, {"class_name": "os.system", "module": "os"}, r"\(os.system\) is not in gpucnn"),
    "a lambda": ({"function": {"class_name": "__lambda__"}}, {"class_name": "Lambda"}, "holds code"),
    "a lambda as activation": (
        {"activation": {"class_name": "__lambda__", "config": {"value": "e30="}, "module": "builtins"}},
        {},
        "nothing in a file is run or imported",
    ),
    "a function as activation": (
        {"activation": {"class_name": "function", "config": "system", "module": "os", "registered_name": "system"}},
        {},
        "nothing in a file is run or imported",
    ),
    "a module to import": (
        {"kernel_initializer": {"module": "subprocess", "class_name": "Popen", "config": {"args": ["true"]}}},
        {},
        "Popen of subprocess, and nothing in a file is run or imported",
    ),
    "an initializer that does not exist": (
        {"kernel_initializer": {"module": "keras.initializers", "class_name": "Exploit", "config": {}}},
        {},
        "uses Exploit, which gpucnn does not have",
    ),
    "a layer as initializer": (
        {"kernel_initializer": {"module": "keras.layers", "class_name": "Dense", "config": {"units": 1}}},
        {},
        "nothing in a file is run or imported",
    ),
    "a name with control characters": ({"name": "a\n\x1b[31m"}, {}, "has characters that cannot be printed"),
    "channels first": ({"data_format": "channels_first"}, {}, "has its channels first"),
    "an abstract base": ({}, {"class_name": "KernelAndBias"}, "is not in gpucnn"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_hostile_description_is_refused_in_one_line(name, tmp_path):
    changes, entry, words = LAYERS[name]
    path = with_layer(tmp_path / "m.keras", changes, **entry)
    with pytest.raises(FileError, match=words) as caught:
        models.load_model(path)
    assert_is_one_line(caught.value, path)


def h5(change):
    """The weights of the file, changed by a function of the open file."""
    import h5py

    buffer = io.BytesIO(parts()["model.weights.h5"])
    with h5py.File(buffer, "r+") as file:
        change(file, h5py)
    return buffer.getvalue()


def replaced(**arguments):
    def change(file, h5py):
        group = file["layers/dense/vars"]
        del group["0"]
        group.create_dataset("0", **{"shape": (18, 3), "dtype": "f4", **arguments})

    return change


def linked(link):
    def change(file, h5py):
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = link(h5py)

    return change


def virtual(file, h5py):
    layout = h5py.VirtualLayout(shape=(18, 3), dtype="f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(18, 3))
    del file["layers/dense/vars/0"]
    file["layers/dense/vars"].create_virtual_dataset("0", layout)


WEIGHTS = {
    "values that are nowhere": (replaced(), "not all in the file"),
    "a kernel of the size of the world": (replaced(shape=(10**9, 10**9), chunks=(1, 1)), "not all in the file"),
    "values of another file": (replaced(external=[("/etc/passwd", 0, 216)]), "not all in the file"),
    "values that are packed": (replaced(data=np.zeros((18, 3), "f4"), compression="gzip"), "not all in the file"),
    "values of text": (replaced(dtype="S4", data=np.full((18, 3), b"abcd")), "weights are floats"),
    "values of integers": (replaced(dtype="i8", data=np.ones((18, 3), "i8")), "weights are floats"),
    "values of another shape": (replaced(shape=(3, 18), data=np.ones((3, 18), "f4")), "saved by another model"),
    "a link": (linked(lambda h5py: h5py.SoftLink("/layers/dense/vars/1")), "a link to other data"),
    "a link to a file": (linked(lambda h5py: h5py.ExternalLink("/etc/passwd", "/x")), "a link to other data"),
    "a link to itself": (linked(lambda h5py: h5py.SoftLink("/layers/dense/vars/0")), "a link to other data"),
    "values of other files": (virtual, "not all in the file"),
    "a group for an array": (lambda file, h5py: file["layers/conv2d/vars"].create_group("2"), "is a group"),
    "a missing layer": (lambda file, h5py: file["layers"].pop("dense"), "have the shapes none in the file"),
    "numbers with a gap": (lambda file, h5py: file["layers/dense/vars"].move("1", "7"), "not numbered in a row"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_hostile_weights_are_refused_in_one_line(name, tmp_path):
    change, words = WEIGHTS[name]
    data = h5(change)
    path = packed(tmp_path / "m.keras", {**parts(), "model.weights.h5": data})
    (tmp_path / "m.weights.h5").write_bytes(data)
    model = models.load_model(DATA / "images.keras")
    tracemalloc.start()
    try:
        for call in (lambda: models.load_model(path), lambda: model.load_weights(tmp_path / "m.weights.h5")):
            with pytest.raises(FileError, match=f"{words}|more than the") as caught:
                call()
            assert str(caught.value).isprintable()
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


def test_archives_that_are_not_what_they_should_be_are_refused(tmp_path):
    content = parts()
    path = tmp_path / "m.keras"
    for name in content:
        with pytest.raises(FileError, match=f"m.keras is damaged: .*{name}"):
            models.load_model(packed(path, {n: d for n, d in content.items() if n != name}))
    bomb = {**content, "model.weights.h5": bytes(10_000_000)}
    with pytest.raises(FileError, match="unpacks to more than 20 times its size"):
        models.load_model(packed(path, bomb, compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(FileError, match="its JSON is longer than"):
        models.load_model(packed(path, {**content, "config.json": b" " * (2 << 20)}))
    for data in (b"", b"text", b"\x89HDF", (DATA / "images.weights.h5").read_bytes()):
        path.write_bytes(data)
        with pytest.raises(FileError, match="it is not a zip archive"):
            models.load_model(path)
    for data in (b"", b"text", (DATA / "images.keras").read_bytes()):
        (tmp_path / "m.weights.h5").write_bytes(data)
        with pytest.raises(FileError, match="its weights are not an HDF5 file"):
            models.load_model(DATA / "images.keras").load_weights(tmp_path / "m.weights.h5")
    with pytest.raises(FileError, match="there is no such file"):
        models.load_model(tmp_path / "missing.keras")


def test_mutations_end_in_a_model_or_in_one_line(tmp_path):
    original, path = (DATA / "images.keras").read_bytes(), tmp_path / "m.keras"
    rng = random.Random(0)
    for round_ in range(300):
        data = bytearray(original)
        for _ in range(rng.choice((1, 2, 8))):
            i = rng.randrange(len(data))
            data[i : i + rng.choice((1, 1, 20))] = rng.randbytes(rng.randrange(1, 3))
        path.write_bytes(data[: rng.randrange(len(data))] if round_ % 5 == 0 else data)
        try:
            models.load_model(path, compile=False)
        except FileError as error:
            assert_is_one_line(error, path)
