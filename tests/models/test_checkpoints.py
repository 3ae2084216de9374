"""A run resumed from a checkpoint ends with the same bits."""

import json

import pytest
from model_files import assert_equal_to_the_bit, parts_of, state_of, written

import gpucnn
from gpucnn import Input, Sequential, callbacks, layers, optimizers
from gpucnn.errors import ArgumentError, FileError
from gpucnn.models.loading import load_model
from gpucnn.models.saving import load_checkpoint, save_checkpoint


class StopAt(callbacks.Callback):
    """Saves a checkpoint after so many batches, and raises."""

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


def test_an_invalid_training_state_is_refused(trained, tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, trained)
    document, tensors = parts_of(path)
    right = document["training"]
    callbacks_of = [[], 3, {"A": 3}, {"A": [3]}, {"A": {"b": {}}}, {"A": [{"b": {"array": "weights/dense/bias"}}]}]
    changed = [{"more": 1}, {"epoch": "one"}, {"_latest": {}}, *({"callbacks": value} for value in callbacks_of)]
    for wrong in ({"epoch": 1}, [], 3, *({**right, **change} for change in changed)):
        written(path, {**document, "training": wrong}, tensors)
        with pytest.raises(FileError, match="does not describe"):
            load_checkpoint(path, load_model(path))


def test_numbers_that_json_lacks_survive(trained, tmp_path):
    path = tmp_path / "c.safetensors"
    history = {"loss": [float("nan"), float("inf"), -float("inf"), 5e-324, 0.1]}
    trained.training_state.history = history
    save_checkpoint(path, trained)
    text = json.loads(path.read_bytes()[8:].split(b"\x00")[0].rpartition(b"}")[0] + b"}")["__metadata__"]["gpucnn"]
    json.loads(text, parse_constant=pytest.fail)
    load_checkpoint(path, trained)
    assert [value.hex() for value in trained.training_state.history["loss"]] == [v.hex() for v in history["loss"]]


def test_a_checkpoint_from_before_callbacks_were_kept_resumes(problem, small_model, tmp_path):
    path = tmp_path / "c.safetensors"
    whole = small_model()
    whole.fit(*problem, epochs=2, verbose=0)
    gpucnn.utils.set_random_seed(0)
    half = small_model()
    half.fit(*problem, verbose=0)
    save_checkpoint(path, half)
    document, tensors = parts_of(path)
    for name in ("calls", "callbacks"):
        del document["training"][name]
    del document["draws"]
    written(path, document, tensors)
    resumed = load_model(path)
    load_checkpoint(path, resumed)
    resumed.fit(*problem, epochs=2, verbose=0, callbacks=[callbacks.EarlyStopping("loss")])
    assert_equal_to_the_bit(state_of(whole), state_of(resumed))
