"""Callbacks on a tiny stand-in for the model, and a few on a real one."""

import csv
import json
import math
import os
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import gpucnn
from gpucnn import callbacks, metrics, optimizers, progress, saving
from gpucnn.errors import ArgumentError, FileError, TrainingError


class Optimizer:
    def __init__(self, learning_rate=0.1):
        self.learning_rate = learning_rate


class Model:
    """What callbacks see of a model."""

    def __init__(self, *names):
        self.metrics = [metrics.get(name, (1,), (1, 2)) for name in names]
        self.optimizer = Optimizer()
        self.stop_training = False
        self.weights = [np.zeros(1)]
        self.saved = []
        self.history = None

    def get_weights(self):
        return [w.copy() for w in self.weights]

    def set_weights(self, weights):
        self.weights = weights

    def save(self, path, overwrite):
        self.saved.append(("model", path, overwrite))

    def save_weights(self, path, overwrite):
        self.saved.append(("weights", path, overwrite))


def run(callback, epochs, model=None, before=lambda model, epoch: None, start=0):
    """`fit` as callbacks see it, with these logs at the ends of epochs; returns the model and what the logs became."""
    model = model or Model("accuracy")
    hooks = callbacks.CallbackList([callback], model=model, epochs=len(epochs), steps=1)
    seen = []
    hooks.on_train_begin()
    for epoch, logs in enumerate(epochs, start):
        before(model, epoch)
        logs = dict(logs)
        hooks.on_epoch_begin(epoch)
        hooks.on_epoch_end(epoch, logs)
        seen.append(logs)
        if model.stop_training:
            break
    hooks.on_train_end(seen[-1])
    return model, seen


def by_name(name, *values):
    return [{name: value} for value in values]


# -- the list ----------------------------------------------------------------------------------------------------------


class Recorder(callbacks.Callback):
    def __init__(self):
        self.calls = []

    def on_train_begin(self, logs=None):
        self.calls.append(("on_train_begin", logs))

    def on_batch_end(self, batch, logs=None):
        self.calls.append(("on_batch_end", batch, logs))

    def on_test_batch_begin(self, batch, logs=None):
        self.calls.append(("on_test_batch_begin", batch, logs))

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(("on_epoch_end", epoch, logs))


def test_list_forwards_every_hook_and_old_batch_names():
    recorder = Recorder()
    hooks = callbacks.CallbackList([[recorder]], model="model", verbose=0, epochs=3, steps=7)
    hooks.on_train_begin()
    hooks.on_train_batch_end(4, {"loss": 1.0})
    hooks.on_test_batch_begin(2)
    hooks.on_epoch_end(1, {"loss": 2.0})
    hooks.on_predict_end()
    assert recorder.calls == [
        ("on_train_begin", None),
        ("on_batch_end", 4, {"loss": 1.0}),
        ("on_test_batch_begin", 2, None),
        ("on_epoch_end", 1, {"loss": 2.0}),
    ]
    assert recorder.model == "model"
    assert recorder.params == {"verbose": 0, "epochs": 3, "steps": 7}


@pytest.mark.parametrize("hook", callbacks.HOOKS)
def test_each_hook_reaches_its_callback(hook):
    seen = []
    hooks = callbacks.CallbackList([callbacks.LambdaCallback(**{hook: lambda *arguments: seen.append(arguments)})])
    numbered = "batch" in hook or "epoch" in hook
    getattr(hooks, hook)(*([3] if numbered else []), {"loss": 1.0})
    assert seen == [((3,) if numbered else ()) + ({"loss": 1.0},)]
    assert callable(getattr(callbacks.Callback(), hook))
    getattr(callbacks.Callback(), hook)(*([3] if numbered else []))


def test_logs_may_come_from_a_function_that_is_called_once_and_only_if_needed():
    made = []

    def logs():
        made.append(1)
        return {"loss": 1.0}

    callbacks.CallbackList([callbacks.History()]).on_train_batch_end(0, logs)
    assert not made
    first, second = Recorder(), Recorder()
    callbacks.CallbackList([first, second]).on_train_batch_end(0, logs)
    assert len(made) == 1
    assert first.calls == second.calls == [("on_batch_end", 0, {"loss": 1.0})]


@pytest.mark.parametrize(
    ("callback", "expected"),
    [
        (callbacks.History(), False),
        (callbacks.EarlyStopping(), False),
        (callbacks.ModelCheckpoint("m.safetensors"), False),
        (callbacks.ModelCheckpoint("m.safetensors", save_freq=3), True),
        (callbacks.BackupAndRestore("b"), False),
        (callbacks.BackupAndRestore("b", save_freq=3), True),
        (callbacks.TerminateOnNaN(), True),
        (callbacks.LambdaCallback(on_epoch_end=print), False),
        (callbacks.LambdaCallback(on_train_batch_begin=print), True),
        (Recorder(), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_list_knows_whether_batch_hooks_are_needed(callback, expected):
    assert callbacks.CallbackList([callback], verbose=0).overrides_batch_hooks is expected


def test_list_adds_history_and_progress_once():
    kinds = lambda hooks: [type(c).__name__ for c in hooks.callbacks]  # noqa: E731
    assert kinds(callbacks.CallbackList(add_history=True, verbose="auto")) == ["History", "ProgbarLogger"]
    given = [callbacks.ProgbarLogger(), callbacks.History()]
    assert callbacks.CallbackList(given, add_history=True, add_progbar=True).callbacks == given
    assert callbacks.CallbackList(callbacks.CallbackList(given)).callbacks == given
    assert kinds(callbacks.CallbackList(None, verbose=0)) == []
    assert kinds(callbacks.CallbackList(verbose=1, add_progbar=False)) == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (callbacks.EarlyStopping, r"the class EarlyStopping: write EarlyStopping\(\.\.\.\)"),
        ("early_stopping", "'early_stopping' is not a callback"),
    ],
)
def test_list_refuses_what_is_no_callback(wrong, words):
    with pytest.raises(ArgumentError, match=words):
        callbacks.CallbackList([callbacks.History(), wrong])


@pytest.mark.parametrize("name", ["TensorBoard", "RemoteMonitor", "SwapEMAWeights", "OrbaxCheckpoint"])
def test_callbacks_that_only_keras_has_are_refused_by_name(name):
    with pytest.raises(ArgumentError, match=f"callbacks.{name} is not in gpucnn"):
        getattr(callbacks, name)


# -- history -----------------------------------------------------------------------------------------------------------


def test_history_collects_the_logs_by_epoch():
    history = callbacks.History()
    model, _ = run(history, [{"loss": 3.0}, {"loss": 2.0, "val_loss": 4.0}], start=5)
    assert history.epoch == [5, 6]
    assert history.history == {"loss": [3.0, 2.0], "val_loss": [4.0]}
    assert model.history is history
    assert json.loads(json.dumps(history.history)) == history.history


def test_history_needs_neither_model_nor_logs():
    history = callbacks.History()
    history.on_epoch_end(0)
    assert (history.epoch, history.history) == ([0], {})


def test_missing_curve_names_those_that_are_there():
    history = callbacks.History()
    with pytest.raises(KeyError, match="nothing yet"):
        history.history["loss"]
    history.history = {"loss": [1.0], "accuracy": [0.5]}
    with pytest.raises(KeyError, match="'acc' is not in this history, which has 'loss', 'accuracy'"):
        history.history["acc"]
    assert history.history.get("acc") is None


# -- early stopping ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "values", "stopped_after"),
    [
        ({}, [3, 2, 2.5, 1], 3),
        ({"patience": 2}, [3, 2, 2.5, 2.1, 1], 4),
        ({"patience": 2}, [3, 2, 2.5, 1.5, 1.6, 1.7, 0], 6),
        ({"min_delta": 0.5}, [3, 2.6, 1], 2),
        ({"min_delta": -0.5}, [3, 2.4, 1.5, 1.4], 4),
        ({"baseline": 1.0, "patience": 2}, [3, 2, 1.5, 1.4, 1.3, 1.35], 6),
        ({"baseline": 1.0, "patience": 2}, [3, 0.9, 0.95, 0.94, 0.5], 4),
        ({"start_from_epoch": 3}, [1, 2, 3, 4, 5, 6], 5),
        ({"mode": "max"}, [1, 2, 1.5, 3], 3),
        ({"patience": 1}, [math.nan, 2, math.nan, 1], 3),
        ({}, [3, 2, 1], None),
    ],
)
def test_early_stopping_stops_after_this_many_epochs(settings, values, stopped_after):
    model, seen = run(callbacks.EarlyStopping(**settings), by_name("val_loss", *values))
    assert model.stop_training is (stopped_after is not None)
    assert len(seen) == (stopped_after or len(values))


def test_early_stopping_restores_the_weights_of_the_best_epoch(capsys):
    def train(model, epoch):
        model.weights = [np.full(1, float(epoch))]

    stop = callbacks.EarlyStopping(patience=2, restore_best_weights=True, verbose=1)
    model, _ = run(stop, by_name("val_loss", 3, 1, 2, 2, 9), before=train)
    assert model.weights[0] == 1
    assert (stop.best_epoch, stop.stopped_epoch, stop.best) == (1, 3, 1)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "Epoch 4: early stopping\nRestoring the weights of the best epoch, 2\n"


def test_early_stopping_restores_the_best_epoch_below_the_baseline_too():
    def train(model, epoch):
        model.weights = [np.full(1, float(epoch))]

    stop = callbacks.EarlyStopping(patience=3, baseline=0.5, restore_best_weights=True)
    model, seen = run(stop, by_name("val_loss", 3, 2, 2.5, 4), before=train)
    assert len(seen) == 3
    assert model.weights[0] == 1


def test_early_stopping_can_be_used_again():
    stop = callbacks.EarlyStopping()
    run(stop, by_name("val_loss", 1, 2))
    model, seen = run(stop, by_name("val_loss", 5, 4, 3))
    assert len(seen) == 3
    assert not model.stop_training


@pytest.mark.parametrize(
    ("metric", "monitor", "better"),
    [
        ("accuracy", "val_accuracy", [0.1, 0.2]),
        ("acc", "acc", [0.1, 0.2]),
        ("mse", "val_mse", [0.2, 0.1]),
        ("accuracy", "loss", [0.2, 0.1]),
    ],
)
def test_auto_mode_asks_the_metric_which_way_is_better(metric, monitor, better):
    model, _ = run(callbacks.EarlyStopping(monitor), by_name(monitor, *better), Model(metric))
    assert not model.stop_training
    model, _ = run(callbacks.EarlyStopping(monitor), by_name(monitor, *better[::-1]), Model(metric))
    assert model.stop_training


def test_unknown_direction_asks_for_the_mode():
    def mine(y_true, y_pred):
        return y_pred

    with pytest.raises(ArgumentError, match="'val_mine' should rise or fall: give mode='max' or mode='min'"):
        run(callbacks.EarlyStopping("val_mine"), by_name("val_mine", 1, 2), Model(mine))
    run(callbacks.EarlyStopping("val_mine", mode="max"), by_name("val_mine", 1, 2), Model(mine))
    with pytest.raises(ArgumentError, match="mode='maximum'"):
        callbacks.EarlyStopping(mode="maximum")


def test_missing_monitor_gets_one_warning_that_names_what_is_there():
    for callback in (callbacks.EarlyStopping(), callbacks.ReduceLROnPlateau()):
        with pytest.warns(
            UserWarning, match=r"'val_loss', which .* Available are loss, accuracy; val_… needs"
        ) as caught:
            model, _ = run(callback, [{"loss": 1.0, "accuracy": 0.5}] * 3)
        assert len(caught) == 1
        assert not model.stop_training
    with pytest.warns(UserWarning, match="Available are none$"):
        run(callbacks.EarlyStopping("los"), [{}])


# -- learning rate -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "values", "rates"),
    [
        ({"patience": 1}, [3, 3, 3, 1], [0.1, 0.01, 0.001, 0.001]),
        ({"patience": 2, "factor": 0.5}, [3, 3, 3, 3, 3], [0.1, 0.1, 0.05, 0.05, 0.025]),
        ({"patience": 1, "cooldown": 2}, [3, 3, 3, 3, 3], [0.1, 0.01, 0.01, 0.001, 0.001]),
        ({"patience": 1, "min_lr": 0.03}, [3, 3, 3, 3], [0.1, 0.03, 0.03, 0.03]),
        ({"patience": 1, "min_delta": 1.0}, [3, 2.5, 1], [0.1, 0.01, 0.01]),
        ({"patience": 1, "mode": "max"}, [1, 2, 1], [0.1, 0.1, 0.01]),
    ],
)
def test_reduce_lr_on_plateau_follows_these_rates(settings, values, rates):
    """The rate of a row is that after its epoch; the logs hold the one with which the epoch was trained."""
    after = []
    reduce = callbacks.ReduceLROnPlateau(**settings)
    model = Model()
    watch = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: after.append(model.optimizer.learning_rate))
    _, seen = run(callbacks.CallbackList([reduce, watch]), by_name("val_loss", *values), model)
    np.testing.assert_allclose(after, rates)
    np.testing.assert_allclose([logs["learning_rate"] for logs in seen], [0.1, *rates[:-1]])


def test_reduce_lr_on_plateau_says_what_it_does(capsys):
    run(callbacks.ReduceLROnPlateau(patience=1, verbose=1), by_name("val_loss", 1, 1))
    assert capsys.readouterr().err == "Epoch 2: learning rate reduced to 0.01\n"


def test_reduce_lr_on_plateau_refuses_a_schedule_before_training():
    model = Model()
    model.optimizer = optimizers.SGD(optimizers.schedules.CosineDecay(0.1, 10))
    with pytest.raises(ArgumentError, match="CosineDecay"):
        run(callbacks.ReduceLROnPlateau(), by_name("val_loss", 1), model)


def test_learning_rate_scheduler_sets_the_rate_of_each_epoch(capsys):
    rates = []
    scheduler = callbacks.LearningRateScheduler(lambda epoch, lr: lr / 2 if epoch else lr, verbose=1)
    watch = callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: rates.append(model.optimizer.learning_rate))
    model = Model()
    _, seen = run(callbacks.CallbackList([scheduler, watch]), [{"loss": 1.0}] * 3, model)
    assert rates == [0.1, 0.05, 0.025]
    assert [logs["learning_rate"] for logs in seen] == rates
    assert capsys.readouterr().err.splitlines()[1] == "Epoch 2: learning rate 0.05"


@pytest.mark.parametrize(
    "schedule", [lambda epoch: 0.5**epoch, lambda *given: 0.5 ** given[0], lambda epoch, lr=1: 0.5**epoch]
)
def test_schedules_of_one_or_more_arguments_are_called_alike(schedule):
    model, _ = run(callbacks.LearningRateScheduler(schedule), [{}, {}])
    assert model.optimizer.learning_rate == 0.5


def test_schedule_whose_signature_is_unknown_gets_both_arguments():
    class Opaque:
        __signature__ = "unreadable"

        def __call__(self, epoch, lr):
            return lr / 2

    model, _ = run(callbacks.LearningRateScheduler(Opaque()), [{}])
    assert model.optimizer.learning_rate == 0.05


def test_type_error_inside_a_schedule_is_not_swallowed():
    def broken(epoch, lr):
        return lr + "a"

    with pytest.raises(TypeError, match="unsupported operand"):
        run(callbacks.LearningRateScheduler(broken), [{}])


def test_learning_rate_scheduler_needs_no_logs():
    scheduler = callbacks.LearningRateScheduler(lambda epoch, lr: lr)
    scheduler.on_epoch_end(0)


@pytest.mark.parametrize("returned", [None, "0.1", True, math.nan])
def test_schedule_must_return_a_number(returned):
    with pytest.raises(ArgumentError, match="must return the learning rate"):
        run(callbacks.LearningRateScheduler(lambda epoch, lr: returned), [{}])


def test_schedule_must_be_a_function():
    with pytest.raises(ArgumentError, match=r"LearningRateScheduler\(0\.1\)"):
        callbacks.LearningRateScheduler(0.1)


# -- checkpoints -------------------------------------------------------------------------------------------------------


def test_model_checkpoint_fills_in_epoch_and_logs(tmp_path):
    path = str(tmp_path / "runs" / "{epoch:02d}-{val_loss:.2f}.safetensors")
    model, _ = run(callbacks.ModelCheckpoint(path), by_name("val_loss", 1.234, 0.5))
    names = [("model", str(tmp_path / "runs" / name), True) for name in ("01-1.23.safetensors", "02-0.50.safetensors")]
    assert model.saved == names
    assert (tmp_path / "runs").is_dir()


def test_model_checkpoint_keeps_the_best_alone(capsys):
    checkpoint = callbacks.ModelCheckpoint(
        "{epoch}.weights.safetensors", save_best_only=True, save_weights_only=True, verbose=1
    )
    model, _ = run(checkpoint, by_name("val_loss", 3, 4, math.nan, 2))
    assert [(kind, path) for kind, path, _ in model.saved] == [
        ("weights", "1.weights.safetensors"),
        ("weights", "4.weights.safetensors"),
    ]
    assert capsys.readouterr().err.splitlines() == [
        "Epoch 1: val_loss improved to 3.00000",
        "Epoch 1: saved 1.weights.safetensors",
        "Epoch 2: val_loss did not improve from 3.00000",
        "Epoch 3: val_loss did not improve from 3.00000",
        "Epoch 4: val_loss improved from 3.00000 to 2.00000",
        "Epoch 4: saved 4.weights.safetensors",
    ]


def test_model_checkpoint_starts_from_the_given_value():
    checkpoint = callbacks.ModelCheckpoint(
        "{epoch}.safetensors", "val_accuracy", save_best_only=True, initial_value_threshold=0.5
    )
    model, _ = run(checkpoint, by_name("val_accuracy", 0.4, 0.6, 0.5))
    assert [path for _, path, _ in model.saved] == ["2.safetensors"]


def test_model_checkpoint_keeps_every_one_when_it_cannot_tell_the_best():
    with pytest.warns(UserWarning, match="every checkpoint is kept. Available are loss"):
        model, _ = run(callbacks.ModelCheckpoint("{epoch}.safetensors", save_best_only=True), by_name("loss", 1, 2))
    assert len(model.saved) == 2


@pytest.mark.parametrize(
    ("every", "step", "saved"),
    [(2, 1, ["1-2", "1-4", "2-1", "2-3", "2-5"]), (3, 2, ["1-4", "2-2", "2-5"]), (100, 1, [])],
)
def test_model_checkpoint_counts_batches_across_epochs(every, step, saved):
    """`step` batches are reported at once, as with steps_per_execution."""
    model = Model()
    hooks = callbacks.CallbackList(
        [callbacks.ModelCheckpoint("{epoch}-{batch}.safetensors", save_freq=every)], model=model
    )
    hooks.on_train_begin()
    for epoch in range(2):
        hooks.on_epoch_begin(epoch)
        for batch in [*range(step - 1, 5, step), *([4] if 5 % step else [])]:
            hooks.on_train_batch_end(batch, lambda: {"loss": 1.0})
        hooks.on_epoch_end(epoch, {"loss": 1.0})
    assert [path.removesuffix(".safetensors") for _, path, _ in model.saved] == saved


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: callbacks.ModelCheckpoint("best.keras"),
            r"ends in '\.keras': gpucnn writes \.safetensors .* best\.safetensors",
        ),
        (lambda: callbacks.ModelCheckpoint("w.weights.h5", save_weights_only=True), r"ends in '\.h5'.* w\.safetensors"),
        (lambda: callbacks.ModelCheckpoint("best"), "ends in 'no suffix'"),
        (lambda: callbacks.ModelCheckpoint("{epoch:02d.safetensors"), r"write \{epoch:02d\}"),
        (lambda: callbacks.ModelCheckpoint("m.safetensors", period=5), "period=5: it is called save_freq today"),
        (lambda: callbacks.ModelCheckpoint("m.safetensors", save_best=True), "did you mean save_best_only"),
        (lambda: callbacks.ModelCheckpoint("m.safetensors", save_freq="batch"), "save_freq='batch'"),
        (lambda: callbacks.ModelCheckpoint("m.safetensors", save_freq=0), "save_freq=0"),
        (lambda: callbacks.BackupAndRestore("b", save_freq=True), "save_freq=True"),
        (lambda: callbacks.BackupAndRestore("b", double_checkpoint=True), "double_checkpoint=True"),
        (lambda: callbacks.BackupAndRestore(""), "backup_dir=''"),
        (lambda: callbacks.ReduceLROnPlateau(epsilon=1e-3), "epsilon=0.001: it is called min_delta today"),
        (lambda: callbacks.ReduceLROnPlateau(factor=1.0), "factor=1.0"),
        (lambda: callbacks.LambdaCallback(on_epoch_ends=print), "did you mean on_epoch_end"),
        (lambda: callbacks.LambdaCallback(on_epoch_end=3), "on_epoch_end=3"),
        (lambda: callbacks.CSVLogger("a.csv", separator="\t,"), "separator="),
        (lambda: callbacks.CallbackList(verbose=3), "verbose=3"),
    ],
)
def test_wrong_arguments_are_refused(make, words):
    with pytest.raises(ArgumentError, match=words):
        make()


def test_path_that_asks_for_a_missing_log_names_those_there_are():
    with pytest.raises(
        ArgumentError, match=r"filepath='\{val_acc\}\.safetensors': there are epoch, loss, val_accuracy"
    ):
        run(callbacks.ModelCheckpoint("{val_acc}.safetensors"), [{"loss": 1.0, "val_accuracy": 0.5}])


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot make the folder"):
        run(callbacks.ModelCheckpoint(tmp_path / "file" / "m.safetensors"), [{"loss": 1.0}])


class Interruption(RuntimeError):
    pass


def test_backup_and_restore_goes_on_where_training_was_interrupted(tmp_path, problem, small_model):
    x, y = problem
    end = {}

    def fit(name, *extra, epochs=4):
        model = small_model()
        model.fit(x, y, epochs=epochs, batch_size=16, verbose=0, callbacks=list(extra))
        end[name] = model.get_weights()

    def interrupt(epoch, logs):
        if epoch == 2:
            raise Interruption

    def backup():
        return callbacks.BackupAndRestore(tmp_path / "backup")

    gpucnn.utils.set_random_seed(1)
    fit("unbroken")
    gpucnn.utils.set_random_seed(1)
    with pytest.raises(Interruption):
        fit("broken", backup(), callbacks.LambdaCallback(on_epoch_begin=interrupt))
    assert (tmp_path / "backup" / "latest.safetensors").exists()
    gpucnn.utils.set_random_seed(1)
    trained = []
    fit("restored", backup(), callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: trained.append(epoch)))
    assert trained == [2, 3]
    for one, two in zip(end["unbroken"], end["restored"], strict=True):
        np.testing.assert_array_equal(one, two)
    assert not (tmp_path / "backup").exists()


def test_backup_is_saved_by_batches_and_kept_on_request(tmp_path, problem, small_model, monkeypatch):
    saved = []
    monkeypatch.setattr(saving, "save_checkpoint", lambda path, model: saved.append(model.training_state.batch))
    x, y = problem
    other = tmp_path / "mine.txt"
    other.write_text("mine")
    backup = callbacks.BackupAndRestore(tmp_path, save_freq=4, delete_checkpoint=False)
    small_model().fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[backup])
    assert saved == [4, 2, 6]
    assert other.read_text() == "mine"


def test_backup_deletes_nothing_else_in_its_folder(tmp_path):
    other = tmp_path / "mine.txt"
    other.write_text("mine")
    backup = callbacks.BackupAndRestore(tmp_path)
    backup.path.write_text("checkpoint")
    backup.on_train_end()
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


# -- CSV ---------------------------------------------------------------------------------------------------------------


def rows_of(path, separator=","):
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter=separator))


def test_csv_logger_writes_epochs_and_sorted_logs(tmp_path):
    path = tmp_path / "log.csv"
    run(callbacks.CSVLogger(path), [{"loss": 2.0, "accuracy": np.float32(0.5)}, {"loss": 1.0, "accuracy": 0.75}])
    assert path.read_text() == ("epoch,accuracy,loss,val_accuracy,val_loss\n0,0.5,2.0,NA,NA\n1,0.75,1.0,NA,NA\n")


def test_csv_logger_keeps_validation_that_comes_every_other_epoch(tmp_path):
    path = tmp_path / "log.tsv"
    logs = [{"loss": 3.0}, {"loss": 2.0, "val_loss": 4.0, "learning_rate": [0.1, 0.2]}]
    run(callbacks.CSVLogger(str(path), separator="\t"), logs)
    assert rows_of(path, "\t") == [
        {"epoch": "0", "loss": "3.0", "val_loss": "NA", "learning_rate": "NA"},
        {"epoch": "1", "loss": "2.0", "val_loss": "4.0", "learning_rate": "[0.1, 0.2]"},
    ]


def test_csv_logger_appends_and_keeps_lines_and_columns_of_the_user(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text('epoch,loss,note\n0,3.5,"first, and best"\n\n1,3.0\n')
    run(callbacks.CSVLogger(path, append=True), [{"loss": 2.0, "accuracy": 0.5}], start=2)
    assert rows_of(path) == [
        {"epoch": "0", "loss": "3.5", "note": "first, and best", "accuracy": "NA"},
        {"epoch": "1", "loss": "3.0", "note": "NA", "accuracy": "NA"},
        {"epoch": "2", "loss": "2.0", "note": "NA", "accuracy": "0.5"},
    ]


@pytest.mark.parametrize("content", ["", "\n"])
def test_csv_logger_appends_to_an_empty_file(tmp_path, content):
    path = tmp_path / "log.csv"
    path.write_text(content)
    run(callbacks.CSVLogger(path, append=True), [{"loss": 2.0, "val_loss": 1.0}])
    assert rows_of(path) == [{"epoch": "0", "loss": "2.0", "val_loss": "1.0"}]


def test_csv_logger_replaces_the_file_only_after_the_first_epoch(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("precious\n")
    logger = callbacks.CSVLogger(path)
    logger.on_train_begin()
    assert path.read_text() == "precious\n"
    logger.on_epoch_end(0, {"loss": 1.0})
    assert path.read_text().startswith("epoch,loss")


@pytest.mark.parametrize("content", ["a,b\n1,2,3\n", "a,a\n1,2\n", "\u20ac".encode("utf-16")])
def test_csv_logger_leaves_a_file_that_it_cannot_read_alone(tmp_path, content):
    path = tmp_path / "log.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = path.read_bytes()
    with pytest.raises(FileError, match="not a CSV file with one header"):
        run(callbacks.CSVLogger(path, append=True), [{"loss": 1.0}])
    assert path.read_bytes() == before


def test_csv_logger_finds_a_missing_folder_before_training(tmp_path):
    with pytest.raises(FileError, match=r"cannot write .*log\.csv: there is no folder"):
        callbacks.CSVLogger(tmp_path / "no" / "log.csv").on_train_begin()


# -- lambda, NaN -------------------------------------------------------------------------------------------------------


def test_lambda_callback_takes_any_hook():
    seen = []
    callback = callbacks.LambdaCallback(
        on_train_begin=lambda logs: seen.append("begin"),
        on_batch_end=lambda batch, logs: seen.append(batch),
        on_test_end=lambda logs: seen.append("tested"),
        on_predict_end=None,
    )
    hooks = callbacks.CallbackList([callback])
    hooks.on_train_begin()
    hooks.on_train_batch_end(3, {})
    hooks.on_test_end({})
    hooks.on_predict_end()
    assert seen == ["begin", 3, "tested"]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_terminate_on_nan_stops_or_raises(loss, capsys):
    model = Model()
    hooks = callbacks.CallbackList([callbacks.TerminateOnNaN()], model=model)
    hooks.on_train_batch_end(0, {"loss": 1.0})
    hooks.on_train_batch_end(1, None)
    assert not model.stop_training
    hooks.on_train_batch_end(2, {"loss": loss})
    assert model.stop_training
    assert capsys.readouterr().err == f"Batch 2: the loss is {loss}, training ends\n"
    with pytest.raises(TrainingError, match=f"the loss is {loss} at batch 2"):
        callbacks.TerminateOnNaN(raise_error=True).on_train_batch_end(2, {"loss": loss})


# -- progress ----------------------------------------------------------------------------------------------------------


def drive(verbose, epochs=2, steps=2, kind="fit"):
    hooks = callbacks.CallbackList(model=Model(), verbose=verbose, epochs=epochs, steps=steps)
    if kind == "evaluate":
        hooks.on_test_begin()
        for batch in range(2):
            hooks.on_test_batch_end(batch, {"loss": 1.0})
        hooks.on_test_end({"loss": 0.5})
    elif kind == "predict":
        hooks.on_predict_begin()
        for batch in range(2):
            hooks.on_predict_batch_end(batch, {})
        hooks.on_predict_end()
    else:
        hooks.on_train_begin()
        for epoch in range(epochs):
            hooks.on_epoch_begin(epoch)
            for batch in range(2):
                hooks.on_train_batch_end(batch, {"loss": 1.0})
            hooks.on_test_begin()
            hooks.on_test_batch_end(0, {"loss": 9.0})
            hooks.on_test_end({"loss": 9.0})
            hooks.on_epoch_end(epoch, {"loss": 0.5, "val_loss": 9.0})
        hooks.on_train_end({})
    return hooks


@pytest.mark.parametrize("verbose", [1, 2, "auto", True])
def test_without_a_terminal_each_epoch_is_one_line(verbose, capsys):
    drive(verbose)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert [line[:15] for line in lines] == ["Epoch 1/2 - 2/2", "Epoch 2/2 - 2/2"]
    assert all(line.endswith(" - loss: 0.5000 - val_loss: 9.0000") for line in lines)


def test_single_epoch_has_no_title(capsys):
    drive(2, epochs=1)
    assert capsys.readouterr().err.startswith("2/2 - 0s - ")


def test_line_of_an_unknown_number_of_steps_counts_them(capsys):
    assert drive(2, epochs=1, steps=None).overrides_batch_hooks
    assert capsys.readouterr().err.startswith("2/2 - 0s - ")
    assert not drive(2).overrides_batch_hooks


@pytest.mark.parametrize("kind", ["fit", "evaluate", "predict"])
def test_verbose_0_writes_nothing(kind, capsys):
    drive(0, kind=kind)
    assert capsys.readouterr() == ("", "")


def test_evaluate_and_predict_write_one_line_when_asked(capsys):
    drive("auto", kind="evaluate")
    assert capsys.readouterr().err.endswith("- loss: 0.5000\n")
    drive("auto", kind="predict")
    assert capsys.readouterr().err == ""
    drive(2, kind="predict")
    assert capsys.readouterr().err.startswith("2/2 - 0s")


def test_on_a_terminal_there_is_a_bar_for_each_epoch(monkeypatch):
    from test_progress import Terminal

    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stdout=sys.stdout, stderr=terminal, modules=sys.modules))
    assert drive(1).overrides_batch_hooks
    drive(1, kind="evaluate")
    drive("auto", kind="predict")
    lines = terminal.lines()
    assert lines[0] == "Epoch 1/2"
    assert lines[1].startswith("2/2 " + "━" * 20)
    assert lines[1].endswith("- loss: 0.5000 - val_loss: 9.0000")
    assert lines[2] == "Epoch 2/2"
    assert lines[4].endswith("- loss: 0.5000")
    assert lines[5].endswith("/step")
    assert len(lines) == 7


def test_progress_of_a_real_fit_goes_to_standard_error(problem, small_model, capsys):
    x, y = problem
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small_model().fit(x, y, epochs=2, batch_size=32, validation_data=(x, y))
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(" - ")[:2] for line in err.splitlines()] == [["Epoch 1/2", "3/3"], ["Epoch 2/2", "3/3"]]
    assert " - val_accuracy: " in err


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may write anywhere")
def test_csv_logger_finds_a_protected_folder_before_training(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FileError, match="permission denied"):
        callbacks.CSVLogger(tmp_path / "log.csv").on_train_begin()


def test_history_plots_its_curves():
    history = callbacks.History()
    history.on_train_begin()
    history.on_epoch_end(0, {"loss": 1.0, "accuracy": 0.5})
    assert len(history.plot().axes) == 2
