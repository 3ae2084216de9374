"""A warning stands at the line of the user's that caused it, and says which data it speaks of."""

import inspect
import warnings

import numpy as np
import pytest

import gpucnn
from gpucnn import Input, Sequential, callbacks, layers, losses
from gpucnn.errors import ArgumentError, DataError, ShapeError

X, Y = np.linspace(0, 1, 20 * 12, dtype=np.float32).reshape(20, 2, 2, 3), np.arange(20) % 2
BYTES = (X * 255).astype(np.uint8)


LOGITS, STOPPING = losses.SparseCategoricalCrossentropy(from_logits=True), callbacks.EarlyStopping("acc", mode="max")


def made(activation="softmax", units=2, loss="sparse_categorical_crossentropy", metrics=None):
    model = Sequential([Input((2, 2, 3)), layers.Flatten(), layers.Dense(units, activation=activation)])
    model.compile("sgd", loss, metrics=metrics)
    return model


def batches(count=1):
    for _ in range(count):
        yield X, Y


def load_other_weights(folder):
    made().save(folder / "m.safetensors")
    other = Sequential([Input((2, 2, 3)), layers.Flatten(), layers.Dense(3)])
    other.load_weights(folder / "m.safetensors", skip_mismatch=True)


def resume_with_fewer_callbacks(folder):
    model = made()
    model.fit(X, Y, verbose=0, callbacks=[callbacks.EarlyStopping("loss"), callbacks.EarlyStopping("loss")])
    model.save_checkpoint(folder / "c.safetensors")
    model.load_checkpoint(folder / "c.safetensors")
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[callbacks.EarlyStopping("loss")])


CALLS = {
    "the training images look unscaled": lambda _: made().fit(BYTES, Y, verbose=0),
    "the validation images look unscaled": lambda _: made().fit(X, Y, validation_data=(BYTES, Y), verbose=0),
    "the images look unscaled": lambda _: made().evaluate(BYTES, Y, verbose=0),
    "the images look unscaled ": lambda _: made().predict(BYTES, verbose=0),
    "the training images look unscaled ": lambda _: made().train_on_batch(BYTES, Y),
    "the images look unscaled  ": lambda _: made().test_on_batch(BYTES, Y),
    "the images look unscaled   ": lambda _: made().predict_on_batch(BYTES),
    "has no activation": lambda _: made(None).fit(X, Y, verbose=0),
    "is a softmax of one value": lambda _: made(units=1, loss="bce").fit(X, Y, verbose=0),
    "applies softmax itself": lambda _: made(loss=LOGITS).fit(X, Y, verbose=0),
    "did you mean 'accuracy'?": lambda _: made(metrics=["accuracy"]).fit(X, Y, verbose=0, callbacks=[STOPPING]),
    "is not among them": lambda _: made().fit(X, np.arange(20) // 10, validation_split=0.25, verbose=0),
    "which is not in the logs": lambda _: made().fit(X, Y, verbose=0, callbacks=[callbacks.EarlyStopping("val_loss")]),
    "ended after 1 of 3 batches in epoch 1": lambda _: made().fit(batches(), steps_per_epoch=3, verbose=0),
    "ended after 1 of 3 batches: ": lambda _: made().predict((x for x, _ in batches()), steps=3, verbose=0),
    "does not fit dense/kernel": load_other_weights,
    "has the state of 2 EarlyStopping": resume_with_fewer_callbacks,
}


@pytest.mark.parametrize("words", CALLS)
def test_a_warning_stands_at_the_line_of_the_user(words, tmp_path):
    call = CALLS[words]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(tmp_path)
    (warning,) = (entry for entry in caught if words.rstrip() in str(entry.message))
    lines, first = inspect.getsourcelines(call)
    assert warning.filename == __file__
    assert warning.lineno in range(first, first + len(lines))
    assert issubclass(warning.category, UserWarning)


def test_training_images_that_are_scaled_and_validation_images_that_are_not_are_told_apart():
    with pytest.warns(UserWarning, match="the validation images look unscaled") as caught:
        made().fit(X, Y, validation_data=(BYTES, Y), epochs=2, verbose=0)
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        ((X, Y[:5]), DataError, "in validation_data: x has 20 samples and y has shape"),
        ((X[:, :1], Y), ShapeError, "in validation_data: the model takes x of shape"),
        ((X, Y + 5), DataError, "in validation_data: the label at"),
        ((X, None), ArgumentError, "in validation_data: y is missing"),
        (X, ArgumentError, "validation_data must be"),
    ],
)
def test_errors_in_the_validation_data_say_so(data, error, words):
    with pytest.raises(error, match=f"^{words}"):
        made().fit(X, Y, validation_data=data, verbose=0)


def test_a_folder_beside_the_package_is_the_users(tmp_path, monkeypatch):
    """A path that begins like gpucnn's own is not taken for it."""
    script = tmp_path / "gpucnn_of_mine.py"
    script.write_text("from gpucnn.errors import warn\ndef call():\n    warn('here')\n")
    monkeypatch.setattr("gpucnn.errors._PACKAGE", f"{tmp_path / 'gpucnn'}/")
    namespace = {"__name__": "mine"}
    exec(compile(script.read_text(), str(script), "exec"), namespace)
    with pytest.warns(UserWarning, match="here") as caught:
        namespace["call"]()
    assert (caught[0].filename, caught[0].lineno) == (str(script), 3)
    assert gpucnn.errors.__file__ != str(script)
