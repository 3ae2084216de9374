"""Models and weights in files: every bit comes back, and file names are checked."""

import hashlib
import os
import re
import struct

import numpy as np
import pytest
import safetensors.numpy
from custom_layer import Scale
from model_files import assert_equal_to_the_bit, parts_of, state_of

from gpucnn import Input, Sequential, layers
from gpucnn.errors import ArgumentError, FileError
from gpucnn.models import saving
from gpucnn.models.loading import load_model
from gpucnn.models.saving import load_checkpoint, save_checkpoint, weights_sha256


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


def test_layers_of_users_are_loaded_by_register_or_custom_objects(tmp_path):
    class Unregistered(Scale):
        pass

    path = tmp_path / "model.safetensors"
    for layer in (Scale(), Unregistered()):
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
    def weights_hash(name="a", shape=(2, 3), first=0.0, swapped=False):
        sizes = (shape[1], shape[0]) if swapped else shape
        model = Sequential([Input((6,)), layers.Dense(sizes[0], name=name), layers.Dense(sizes[1], name="b")])
        model.set_weights([np.zeros(w.shape) for w in model.weights])
        model.layers[0].set_weights([np.full((6, sizes[0]), first), np.zeros(sizes[0])])
        return weights_sha256(model)

    other = {"value": {"first": -0.0}, "name": {"name": "c"}, "shape": {"shape": (3, 3)}, "order": {"swapped": True}}
    assert weights_hash() == weights_hash()
    assert weights_hash() != weights_hash(**other[changed])


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
    with pytest.raises(FileError, match="has weights/batch_normalization/beta, which the model lacks"):
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


def test_a_file_of_weights_is_neither_a_model_nor_a_checkpoint(trained, tmp_path):
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


@pytest.mark.parametrize("name", ["m.h5", "m.hdf5"])
def test_old_files_of_keras_are_refused_with_the_suffix_that_is_read(trained, tmp_path, name):
    for call in (trained.save, trained.save_weights, trained.load_weights, load_model):
        with pytest.raises(ArgumentError, match=r"has the suffix of Keras 2: .* \.keras and \.weights\.h5"):
            call(tmp_path / name)


def test_other_suffixes_are_refused_with_a_name_that_works(trained, tmp_path):
    with pytest.raises(ArgumentError, match=r"must end in \.safetensors, such as m\.safetensors"):
        trained.save(tmp_path / "m")
    with pytest.raises(ArgumentError, match=r"must end in \.safetensors"):
        save_checkpoint(tmp_path / "m.npz", trained)


def test_an_existing_file_is_kept_without_overwrite(trained, tmp_path):
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
    with pytest.raises(FileError, match=r"is a folder without model\.safetensors: give a \.safetensors file"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("action", "file", "instead"),
    [
        ("save", "m.onnx", "model.export('m.onnx')"),
        ("save", "m.py", "model.export('m.py')"),
        ("save", "m.weights.h5", "model.save_weights('m.weights.h5')"),
        ("save_weights", "m.onnx", "model.export('m.onnx')"),
        ("save_weights", "m.keras", "model.save('m.keras')"),
        ("export", "m.weights.h5", "model.save_weights('m.weights.h5')"),
        ("load_weights", "m.onnx", "models.load_model('m.onnx')"),
        ("load", "m.weights.h5", "model.load_weights('m.weights.h5')"),
    ],
)
def test_what_a_format_is_for_is_said_where_it_is_used_for_something_else(small_model, action, file, instead):
    call = load_model if action == "load" else getattr(small_model(), action)
    with pytest.raises(ArgumentError, match=re.escape(f"; write {instead}")):
        call(file)
    assert not os.path.exists(file)
