"""Callbacks after an interruption: all that they kept in mind is in the checkpoint."""

import numpy as np
import pytest
from stand_in_model import run

import gpucnn
from gpucnn import Input, Sequential, callbacks, layers, models, optimizers
from gpucnn.errors import ArgumentError
from gpucnn.models.saving import load_checkpoint, save_checkpoint, weights_sha256

EPOCHS, BATCHES = 7, 3
LOSSES = [5.0, 3.0, 4.0, 3.5, 3.2, 3.1, 3.05]


class Off(Exception):
    """The process ends here."""


class Losses(callbacks.Callback):
    """Puts known losses into the logs."""

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = LOSSES[epoch]


class Counts(callbacks.Callback):
    """A callback of the user's own with state: counts, text, arrays, in lists and dicts."""

    def __init__(self):
        self.batches = 0
        self.mean = np.zeros((2, 2), np.float32)
        self.notes = {"first": None, "rates": [0.5, float("inf")], "names": ["a", "b"]}

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        self.mean += 1

    def on_epoch_begin(self, epoch, logs=None):
        self.notes["rates"].append(float(epoch))

    def get_state(self):
        return {"batches": self.batches, "notes": {**self.notes, "mean": [self.mean]}}

    def set_state(self, state):
        self.batches, self.notes = state["batches"], state["notes"]
        (self.mean,) = self.notes.pop("mean")


class Crash(callbacks.Callback):
    """Ends the process after so many batches, or at the beginning of an epoch."""

    def __init__(self, after=None, at_epoch=None):
        self.left, self.at_epoch = after, at_epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise Off

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.at_epoch:
            raise Off


def trained(folder, save_freq="epoch", crash=None, more=()):
    """What a training in this folder leaves behind, for a comparison; None if it crashes."""
    gpucnn.utils.set_random_seed(1)
    model = Sequential([Input((2,)), layers.Dropout(0.5), layers.Dense(1)])
    model.compile(optimizers.SGD(0.1), "mse")
    counts = Counts()
    hooks = [
        callbacks.BackupAndRestore(folder / "backup", save_freq=save_freq),
        Losses(),
        callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5),
        callbacks.ReduceLROnPlateau("val_loss", factor=0.125, patience=2, cooldown=1),
        callbacks.EarlyStopping("val_loss", patience=4, restore_best_weights=True),
        callbacks.ModelCheckpoint(folder / "best.safetensors", save_best_only=True, save_weights_only=True),
        callbacks.ModelCheckpoint(str(folder / "{epoch}-{batch}.safetensors"), save_freq=4, save_weights_only=True),
        callbacks.CSVLogger(folder / "log.csv"),
        counts,
        *([crash] if crash else []),
        *more,
    ]
    x = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
    try:
        history = model.fit(x, x[:, :1], batch_size=4, epochs=EPOCHS, verbose=0, callbacks=hooks)
    except Off:
        return None
    weights = weights_sha256(model)
    model.load_weights(folder / "best.safetensors")
    return {
        "weights": weights,
        "best": weights_sha256(model),
        "epochs": history.epoch,
        "history": history.history,
        "rate": float(model.optimizer.learning_rate),
        "files": sorted(path.name for path in folder.iterdir()),
        "csv": (folder / "log.csv").read_text(),
        "counts": repr(counts.get_state()),
    }


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    result = trained(tmp_path_factory.mktemp("unbroken"))
    assert result["epochs"] == list(range(6))  # EarlyStopping ended it
    return result


@pytest.mark.parametrize("at_epoch", range(1, 6))
def test_a_training_resumed_after_an_epoch_ends_as_the_unbroken_one(tmp_path, unbroken, at_epoch):
    assert trained(tmp_path, crash=Crash(at_epoch=at_epoch)) is None
    assert trained(tmp_path) == unbroken


@pytest.mark.parametrize("batches", range(2, 6 * BATCHES))
def test_a_training_resumed_in_an_epoch_ends_as_the_unbroken_one(tmp_path, unbroken, batches):
    """Crash is called before the backup is saved, so one batch is trained again."""
    assert trained(tmp_path, save_freq=1, crash=Crash(after=batches)) is None
    assert trained(tmp_path, save_freq=1) == unbroken


@pytest.mark.parametrize("batches", [5, 9, 13])
def test_a_backup_of_every_second_batch_goes_on_counting(tmp_path, unbroken, batches):
    assert trained(tmp_path, save_freq=2, crash=Crash(after=batches)) is None
    assert trained(tmp_path, save_freq=2) == unbroken


def test_a_training_that_was_stopped_early_is_not_trained_on(tmp_path, unbroken):
    class DiesAtTheEnd(callbacks.Callback):
        def on_train_end(self, logs=None):
            raise Off

    # BackupAndRestore deletes its file in on_train_end, but not before this callback has raised.
    assert trained(tmp_path, more=[DiesAtTheEnd()]) is None
    trains = []
    watch = callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: trains.append(batch))
    with pytest.warns(
        UserWarning, match=r"^EarlyStopping had stopped this training after epoch 6: it trains no further"
    ):
        again = trained(tmp_path, more=[watch])
    assert again == unbroken
    assert trains == []


def test_the_hooks_of_a_resumed_epoch(tmp_path):
    calls = []

    class Watch(callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            calls.append(("begin", epoch))

        def on_epoch_resume(self, epoch, logs=None):
            calls.append(("resume", epoch))

    trained(tmp_path, save_freq=1, crash=Crash(after=5), more=[Watch()])
    assert calls == [("begin", 0), ("begin", 1)]
    calls.clear()
    trained(tmp_path, save_freq=1, more=[Watch()])
    assert calls[:2] == [("resume", 1), ("begin", 2)]


def test_a_resumed_epoch_has_its_line_of_progress(tmp_path, problem, small_model, capsys):
    x, y = problem
    fit = {"batch_size": 16, "epochs": 2, "verbose": 2}
    for crash in (Crash(after=9), None):
        backup = callbacks.BackupAndRestore(tmp_path / "backup", save_freq=1)
        model = small_model()
        try:
            model.fit(x, y, **fit, callbacks=[backup, *([crash] if crash else [])])
        except Off:
            capsys.readouterr()
    assert capsys.readouterr().out.startswith("Epoch 2/2 - 6/6 - 0s - ")


# -- states ------------------------------------------------------------------------------------------------------------


def test_what_saves_a_training_is_called_last_and_restores_it_first():
    calls = []

    class Named(callbacks.Callback):
        def __init__(self, name):
            self.name = name

        def on_train_begin(self, logs=None):
            calls.append(("on_train_begin", self.name))

        def on_epoch_end(self, epoch, logs=None):
            calls.append(("on_epoch_end", self.name))

    class Saver(Named):
        saves_training = True

    run(callbacks.CallbackList([Named("a"), Saver("saver"), Named("b")]), [{}])
    assert calls == [
        *(("on_train_begin", name) for name in ("saver", "a", "b")),
        *(("on_epoch_end", name) for name in ("a", "b", "saver")),
    ]


def fitted(model, problem, *hooks, epochs=1):
    return model.fit(*problem, epochs=epochs, verbose=0, callbacks=list(hooks))


def test_states_find_their_callbacks_by_class_and_order(problem, small_model, tmp_path):
    first, second = Counts(), Counts()
    first.batches, second.batches = 100, 200
    model = small_model()
    fitted(model, problem, first, callbacks.EarlyStopping("loss"), second)
    save_checkpoint(tmp_path / "c.safetensors", model)
    load_checkpoint(tmp_path / "c.safetensors", model)
    again = [Counts(), Counts()]
    fitted(model, problem, again[0], Losses(), again[1], epochs=2)
    assert [count.batches for count in again] == [106, 206]


def test_another_number_of_callbacks_of_a_class_starts_them_anew_with_a_warning(problem, small_model, tmp_path):
    model = small_model()
    fitted(model, problem, Counts(), Counts())
    save_checkpoint(tmp_path / "c.safetensors", model)
    load_checkpoint(tmp_path / "c.safetensors", model)
    count = Counts()
    with pytest.warns(UserWarning, match="has the state of 2 Counts and fit was given 1: it starts anew"):
        fitted(model, problem, count, epochs=2)
    assert count.batches == 3


def test_a_checkpoint_may_be_loaded_saved_and_loaded_before_the_next_fit(problem, small_model, tmp_path):
    model = small_model()
    fitted(model, problem, Counts())
    path = tmp_path / "c.safetensors"
    for _ in range(3):
        save_checkpoint(path, model)
        model = models.load_model(path)
        load_checkpoint(path, model)
    count = Counts()
    fitted(model, problem, count, epochs=2)
    assert count.batches == 6
    np.testing.assert_array_equal(count.mean, np.full((2, 2), 6, np.float32))


def test_a_fit_that_resumes_nothing_gives_no_state(problem, small_model):
    model = small_model()
    for _ in range(2):
        count = Counts()
        fitted(model, problem, count)
        assert count.batches == 3


class Keeps(callbacks.Callback):
    def __init__(self, state):
        self.state = state

    def get_state(self):
        return self.state


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ([1], r"Keeps\.get_state\(\) returned a list: return a dict"),
        (
            {"model": object()},
            r"the state of Keeps holds an object of object: give numbers, text",
        ),
        ({"a": {1: 2}}, r"the state of Keeps has the name 1: names are text"),
        ({"a": np.array(["x"])}, r"the state of Keeps holds an array of dtype <U1: give numbers"),
    ],
)
def test_a_state_that_no_file_can_hold_is_named(problem, small_model, tmp_path, state, words):
    model = small_model()
    fitted(model, problem, Keeps(state))
    with pytest.raises(ArgumentError, match=words):
        save_checkpoint(tmp_path / "c.safetensors", model)
    assert list(tmp_path.iterdir()) == []


STOP = callbacks.EarlyStopping("loss").get_state()
PLATEAU = callbacks.ReduceLROnPlateau("loss").get_state()
CHECKPOINT = callbacks.ModelCheckpoint("m.safetensors").get_state()


@pytest.mark.parametrize(
    ("callback", "state", "words"),
    [
        (callbacks.EarlyStopping("loss"), {}, "EarlyStopping .*: best is missing"),
        (callbacks.EarlyStopping("loss"), {**STOP, "wait": "x"}, "EarlyStopping .*: wait is 'x'"),
        (callbacks.EarlyStopping("loss"), {**STOP, "wait": -1}, "EarlyStopping .*: wait is -1"),
        (callbacks.EarlyStopping("loss"), {**STOP, "best": "x"}, "EarlyStopping .*: best is 'x'"),
        (callbacks.EarlyStopping("loss"), {**STOP, "best_weights": 3}, "EarlyStopping .*: best_weights is 3"),
        (callbacks.ReduceLROnPlateau("loss"), {**PLATEAU, "wait": None}, "ReduceLROnPlateau .*: wait is None"),
        (callbacks.ModelCheckpoint("m.safetensors"), {**CHECKPOINT, "best": []}, r"ModelCheckpoint .*: best is \[\]"),
        (callbacks.BackupAndRestore("b"), {"batches": [1, "x"]}, r"BackupAndRestore .*: batches is \[1, 'x'\]"),
        (callbacks.CSVLogger("a.csv"), {"rows": -1}, "CSVLogger .*: rows is -1"),
    ],
)
def test_a_state_from_a_file_is_checked(callback, state, words):
    with pytest.raises(ArgumentError, match=f"^the state of {words}$"):
        callback.set_state(state)
