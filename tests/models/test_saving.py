"""Models in files: every bit comes back, and whatever is not an intact file is refused in one line."""

import ast
import hashlib
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

import gpucnn
from gpucnn import Input, Sequential, callbacks, layers, optimizers, saving
from gpucnn.errors import ArgumentError, FileError
from gpucnn.saving import load_checkpoint, load_model, save_checkpoint, weights_sha256


@gpucnn.register
class Scaled(layers.Layer):
    """y = x · gamma."""

    def build(self, input_shape):
        self.gamma = self.add_weight(shape=input_shape[-1:], initializer="ones", name="gamma")

    def forward(self, x, step, training):
        def backward(dy, need_dx=True):
            self.gamma.gradient[...] = (dy * x).reshape(-1, x.shape[-1]).sum(axis=0)
            return dy * self.gamma.value if need_dx else None

        return x * self.gamma.value, backward


@pytest.fixture
def trained(problem, small_model):
    """A small model with traces of training in all of its state."""
    model = small_model()
    model.fit(*problem, batch_size=20, epochs=2, verbose=0)
    return model


@pytest.fixture
def tiny(tmp_path):
    """The path of a file of the smallest model, for all that has to be tried on each of its bytes."""
    model = Sequential([Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    path = tmp_path / "tiny.safetensors"
    model.save(path)
    return path


def state_of(model):
    arrays = {weight.path: weight.value.copy() for weight in model.weights}
    arrays.update((name, array.copy()) for name, array in model.optimizer.slots(model.parameters).items())
    return arrays


def assert_equal_to_the_bit(first, second):
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert array.dtype == second[name].dtype, name
        assert array.tobytes() == second[name].tobytes(), name


def written(path, document, tensors):
    """A file with this content and the right SHA-256, as somebody with bad intentions would write it."""
    document = {"format_version": saving.FORMAT_VERSION, "gpucnn": "9.9", "seeds": {}, **document}
    document["sha256"] = saving.content_sha256(document, tensors)
    path.write_bytes(safetensors.numpy.save(tensors, {"gpucnn": json.dumps(document)}))
    return path


def raw(path, header, data=b""):
    """A safetensors file with this header, however wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def loaded_if_intact(path):
    """The model in a file, None if it is refused as it should be; any other exception goes on its way."""
    try:
        return load_model(path)
    except FileError as error:
        assert_is_one_line(error, path)
    return None


def assert_is_one_line(error, path):
    assert str(error).isprintable()
    assert str(path) in str(error)


def parts_of(path):
    """The document and the tensors of a file."""
    content = saving._read(path)
    return content.document, content.tensors


# -- round trips -------------------------------------------------------------------------------------------------------


def test_a_model_comes_back_with_every_bit(trained, problem, tmp_path):
    x, y = problem
    path = tmp_path / "model.safetensors"
    trained.save(path)
    loaded = load_model(path)
    assert_equal_to_the_bit(state_of(trained), state_of(loaded))
    assert loaded.get_config() == trained.get_config()
    assert loaded.compile_config() == trained.compile_config()
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in trained.layers]
    assert [layer.stream for layer in loaded.layers] == [layer.stream for layer in trained.layers]
    assert weights_sha256(loaded) == weights_sha256(trained)
    assert loaded.predict(x, verbose=0).tobytes() == trained.predict(x, verbose=0).tobytes()
    assert loaded.evaluate(x, y, verbose=0) == trained.evaluate(x, y, verbose=0)


def test_a_loaded_model_trains_on_with_the_slots_it_had(trained, problem, tmp_path):
    trained.save(tmp_path / "model.safetensors")
    ends = []
    for model in (trained, load_model(tmp_path / "model.safetensors")):
        model.fit(*problem, batch_size=20, verbose=0, shuffle=False)
        ends.append(weights_sha256(model))
    assert ends[0] == ends[1]


def test_equal_models_give_equal_files(trained, tmp_path):
    files = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for path in files:
        trained.save(path)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_other_tools_read_the_weights_by_name(trained, tmp_path):
    trained.save_weights(tmp_path / "w.safetensors")
    tensors = safetensors.numpy.load_file(tmp_path / "w.safetensors")
    assert sorted(tensors) == sorted(f"weights/{weight.path}" for weight in trained.weights)
    assert "weights/conv2d/kernel" in tensors
    assert "weights/batch_normalization/moving_variance" in tensors


def test_without_compile_a_model_is_loaded_without_optimizer(trained, tmp_path):
    trained.save(tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors", compile=False)
    assert not loaded.compiled
    assert weights_sha256(loaded) == weights_sha256(trained)


def test_a_model_that_was_not_compiled_comes_back_so(tmp_path):
    model = Sequential([Input((3,)), layers.Dense(2)])
    saving.save_model(model, tmp_path / "model.safetensors")
    assert not load_model(tmp_path / "model.safetensors").compiled


def test_the_optimizer_can_be_left_out(trained, tmp_path):
    saving.save_model(trained, tmp_path / "model.safetensors", include_optimizer=False)
    assert all(name.startswith("weights/") for name in parts_of(tmp_path / "model.safetensors")[1])
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.compiled
    assert int(loaded.optimizer.batches[0]) == 0


def test_a_learning_rate_changed_while_training_is_kept(trained, tmp_path):
    trained.optimizer.learning_rate = 0.125
    trained.save(tmp_path / "model.safetensors")
    assert load_model(tmp_path / "model.safetensors").optimizer.learning_rate == 0.125


def test_layers_of_the_user_are_found_by_register_or_custom_objects(tmp_path):
    class Unregistered(Scaled):
        pass

    path = tmp_path / "model.safetensors"
    for layer in (Scaled(), Unregistered()):
        model = Sequential([Input((3,)), layer, layers.Dense(2)])
        model.layers[0].set_weights([np.array([1.0, 2.0, 3.0])])
        model.save(path)
        if isinstance(layer, Unregistered):
            with pytest.raises(FileError, match=r"unknown Layer 'Unregistered'.*@gpucnn.register"):
                load_model(path)
        loaded = load_model(path, custom_objects={"Unregistered": Unregistered})
        assert type(loaded.layers[0]) is type(layer)
        np.testing.assert_array_equal(loaded.layers[0].gamma.value, [1, 2, 3])


def test_a_loss_function_of_the_user_needs_custom_objects(tmp_path):
    def distance(y_true, y_pred):
        difference = y_pred - y_true
        return (difference**2).sum(axis=-1), lambda dvalues: 2 * difference * dvalues[:, None]

    model = Sequential([Input((3,)), layers.Dense(2)])
    model.compile("sgd", distance)
    path = tmp_path / "model.safetensors"
    model.save(path)
    with pytest.raises(FileError, match="distance"):
        load_model(path)
    x = np.ones((4, 3), np.float32)
    loaded = load_model(path, custom_objects={"distance": distance})
    assert loaded.evaluate(x, x[:, :2], verbose=0) == model.evaluate(x, x[:, :2], verbose=0)


def test_the_hash_of_the_weights_is_the_documented_one():
    model = Sequential([Input((2,)), layers.Dense(1, name="d")])
    model.set_weights([np.array([[1.0], [2.0]]), np.array([3.0])])
    expected = hashlib.sha256()
    expected.update(b'["d/kernel","<f4",[2,1]]' + struct.pack("<2f", 1, 2))
    expected.update(b'["d/bias","<f4",[1]]' + struct.pack("<f", 3))
    assert weights_sha256(model) == expected.hexdigest()


@pytest.mark.parametrize("changed", ["value", "name", "shape", "order"])
def test_the_hash_of_the_weights_sees_every_difference(changed):
    def made(name="a", shape=(2, 3), first=0.0, swapped=False):
        sizes = (shape[1], shape[0]) if swapped else shape
        model = Sequential([Input((6,)), layers.Dense(sizes[0], name=name), layers.Dense(sizes[1], name="b")])
        model.set_weights([np.zeros(w.shape) for w in model.weights])
        model.layers[0].set_weights([np.full((6, sizes[0]), first), np.zeros(sizes[0])])
        return weights_sha256(model)

    other = {"value": {"first": -0.0}, "name": {"name": "c"}, "shape": {"shape": (3, 3)}, "order": {"swapped": True}}
    assert made() == made()
    assert made() != made(**other[changed])


# -- weights alone -----------------------------------------------------------------------------------------------------


def test_weights_are_read_into_a_model_from_weights_models_and_checkpoints(trained, small_model, tmp_path):
    path = tmp_path / "file.safetensors"
    for save in (trained.save_weights, trained.save, lambda path: save_checkpoint(path, trained)):
        save(path)
        other = small_model(optimizer="sgd")
        before = other.weights[0].value
        other.load_weights(path)
        assert weights_sha256(other) == weights_sha256(trained)
        assert other.weights[0].value is before  # views of the flat array stay what they are


def test_weights_that_do_not_fit_change_nothing(trained, tmp_path):
    path = tmp_path / "w.safetensors"
    trained.save_weights(path)
    other = Sequential(
        [Input((8, 8, 1)), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Flatten(), layers.Dense(4)]
    )
    before = weights_sha256(other)
    with pytest.raises(
        FileError, match=r"dense/kernel is float32 \(36, 4\) in the file and float32 \(144, 4\) in the model"
    ):
        other.load_weights(path)
    assert weights_sha256(other) == before
    two, one = ([layers.BatchNormalization() for _ in range(count)] for count in (2, 0))
    with pytest.raises(FileError, match="has no weights/batch_normalization_1/gamma"):
        Sequential([Input((8, 8, 1)), layers.Conv2D(4, 3), *two]).load_weights(path)
    with pytest.raises(FileError, match="has weights/batch_normalization/beta, which the model has not"):
        Sequential([Input((8, 8, 1)), layers.Conv2D(4, 3), *one]).load_weights(path)


def test_with_skip_mismatch_what_fits_is_read_and_the_rest_named(trained, small_model, tmp_path):
    path = tmp_path / "w.safetensors"
    trained.save_weights(path)
    other = Sequential([Input((8, 8, 1)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(4), layers.Dense(2)])
    before = other.get_weights()
    with pytest.warns(UserWarning, match="does not fit dense/kernel, dense_1/kernel, dense_1/bias: left unchanged"):
        other.load_weights(path, skip_mismatch=True)
    np.testing.assert_array_equal(other.layers[0].get_weights()[0], trained.layers[0].get_weights()[0])
    np.testing.assert_array_equal(other.get_weights()[2], before[2])
    other = small_model()
    other.load_weights(path, skip_mismatch=True)  # no warning
    assert weights_sha256(other) == weights_sha256(trained)


def test_a_file_of_weights_is_no_model_and_no_checkpoint(trained, tmp_path):
    path = tmp_path / "w.safetensors"
    trained.save_weights(path)
    with pytest.raises(FileError, match=r"holds weights alone.*load_weights"):
        load_model(path)
    with pytest.raises(FileError, match="is not a checkpoint"):
        load_checkpoint(path, trained)


def test_models_without_weights_are_not_saved(tmp_path):
    model = Sequential([layers.Dense(3)])
    for save in (model.save, model.save_weights):
        with pytest.raises(ArgumentError, match="no weights yet"):
            save(tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_two_weights_of_one_name_are_refused(tmp_path):
    class Twice(layers.Layer):
        def build(self, input_shape):
            self.add_weight(shape=(1,), name="w")
            self.add_weight(shape=(1,), name="w")

    model = Sequential([Input((3,)), Twice()])
    with pytest.raises(ArgumentError, match=r"two weights are called 'twice/w'"):
        model.save_weights(tmp_path / "m.safetensors")


# -- names of files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.weights.h5", "m.hdf5"])
def test_files_of_keras_are_refused_with_our_suffix(trained, tmp_path, name):
    for call in (trained.save, trained.save_weights, trained.load_weights, load_model):
        with pytest.raises(ArgumentError, match=r"is a file of Keras: gpucnn reads and writes \.safetensors"):
            call(tmp_path / name)


def test_other_suffixes_are_refused_with_a_name_that_works(trained, tmp_path):
    with pytest.raises(ArgumentError, match=r"must end in \.safetensors, such as m\.safetensors"):
        trained.save(tmp_path / "m")
    with pytest.raises(ArgumentError, match=r"must end in \.safetensors"):
        save_checkpoint(tmp_path / "m.npz", trained)


def test_an_existing_file_is_kept_if_asked(trained, tmp_path):
    path = tmp_path / "m.safetensors"
    trained.save(path)
    before = path.read_bytes()
    for save in (trained.save, trained.save_weights):
        with pytest.raises(FileError, match=r"exists already: choose another name, or give overwrite=True"):
            save(path, overwrite=False)
    assert path.read_bytes() == before
    trained.save(tmp_path / "other.safetensors", overwrite=False)


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FileError, match=r"cannot read .*m\.safetensors: there is no such file"):
        load_model(tmp_path / "m.safetensors")
    with pytest.raises(FileError, match=r"cannot read .*: there is no folder .*gone"):
        load_model(tmp_path / "gone" / "m.safetensors")
    with pytest.raises(FileError, match=r"cannot read .*: it is a folder; give the path of a file"):
        load_model(tmp_path)


# -- checkpoints -------------------------------------------------------------------------------------------------------


class StopAt(callbacks.Callback):
    """Saves a checkpoint after so many batches, and breaks off."""

    class Off(Exception):
        pass

    def __init__(self, path, batches):
        super().__init__()
        self.path, self.left = path, batches

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            save_checkpoint(self.path, self.model)
            raise self.Off


@pytest.mark.parametrize("batches", range(1, 11))
def test_training_resumed_from_any_batch_ends_with_the_same_bits(problem, small_model, tmp_path, batches):
    x, y = problem
    path = tmp_path / "c.safetensors"
    fit = {"x": x, "y": y, "batch_size": 20, "epochs": 2, "verbose": 0, "validation_data": (x[:30], y[:30])}
    unbroken = small_model()
    history = unbroken.fit(**fit).history

    gpucnn.utils.set_random_seed(0)
    broken = small_model()
    with pytest.raises(StopAt.Off):
        broken.fit(**fit, callbacks=[StopAt(path, batches)])

    gpucnn.utils.set_random_seed(99)
    resumed = load_model(path)
    load_checkpoint(path, resumed)
    after = resumed.fit(**fit)
    assert_equal_to_the_bit(state_of(unbroken), state_of(resumed))
    assert after.history == history
    assert after.epoch == [0, 1]


def test_a_checkpoint_needs_the_same_compiled_architecture(trained, small_model, tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, trained)
    bare = load_model(path, compile=False)
    with pytest.raises(ArgumentError, match="needs a compiled model"):
        load_checkpoint(path, bare)
    other = Sequential([Input((8, 8, 1)), layers.Flatten(), layers.Dense(4)])
    other.compile("adam", "mse")
    with pytest.raises(FileError, match="another architecture"):
        load_checkpoint(path, other)
    other = small_model(optimizer=optimizers.SGD(momentum=0.9))
    other.optimizer.build(other.parameters)
    before = state_of(other)
    with pytest.raises(FileError, match="saved by another model"):
        load_checkpoint(path, other)
    assert_equal_to_the_bit(before, state_of(other))


def test_a_training_state_that_is_none_is_refused(trained, tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, trained)
    document, tensors = parts_of(path)
    for wrong in ({"epoch": 1}, {**document["training"], "more": 1}, {**document["training"], "epoch": "one"}, [], 3):
        written(path, {**document, "training": wrong}, tensors)
        with pytest.raises(FileError, match="does not describe"):
            load_checkpoint(path, load_model(path))


def test_numbers_that_json_has_not_survive(trained, tmp_path):
    path = tmp_path / "c.safetensors"
    history = {"loss": [float("nan"), float("inf"), -float("inf"), 5e-324, 0.1]}
    trained.training_state.history = history
    save_checkpoint(path, trained)
    text = json.loads(path.read_bytes()[8:].split(b"\x00")[0].rpartition(b"}")[0] + b"}")["__metadata__"]["gpucnn"]
    json.loads(text, parse_constant=pytest.fail)
    load_checkpoint(path, trained)
    assert [value.hex() for value in trained.training_state.history["loss"]] == [v.hex() for v in history["loss"]]


# -- damaged files -----------------------------------------------------------------------------------------------------


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


# -- hostile files -----------------------------------------------------------------------------------------------------

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
        "a type that NumPy has not": raw(path, {"a": {**entry, "dtype": "BF16", "shape": [2]}}, bytes(4)).read_bytes(),
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
def test_a_name_given_twice_is_refused(tiny, place):
    data = tiny.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + length].rstrip(), data[8 + length :]
    doubled = {
        "header": header[:-1] + b',"weights/dense/bias":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        "metadata": header.replace(b'{"__metadata__":{', b'{"__metadata__":{"gpucnn":"{}",'),
        "document": header.replace(b'{\\"format_version\\":1', b'{\\"gpucnn\\":1,\\"format_version\\":1'),
    }[place]
    assert doubled != header
    with pytest.raises(FileError, match="give a name twice"):
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


# -- no code from files ------------------------------------------------------------------------------------------------

FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "runpy", "ctypes", "code"}
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__", "import_module", "getattr", "globals"}


@pytest.mark.parametrize("name", ["saving", "runs", "config", "files"])
def test_nothing_that_reads_files_can_run_or_import_what_stands_in_them(name):
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
            if called == "getattr":  # of a name that the program itself gives
                assert isinstance(node.args[1], ast.Constant), place
            else:
                assert called not in FORBIDDEN_NAMES, place
            allowed = [
                k for k in node.keywords if k.arg == "allow_pickle" and getattr(k.value, "value", True) is not False
            ]
            assert not allowed, place
