"""The list of callbacks, History, LambdaCallback and TerminateOnNaN."""

import json
import math

import pytest
from stand_in_model import StandIn, follows_batches, run

from gpucnn import callbacks
from gpucnn.errors import ArgumentError, TrainingError


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
    calls = []

    def logs():
        calls.append(1)
        return {"loss": 1.0}

    callbacks.CallbackList([callbacks.History()]).on_train_batch_end(0, logs)
    assert not calls
    first, second = Recorder(), Recorder()
    callbacks.CallbackList([first, second]).on_train_batch_end(0, logs)
    assert len(calls) == 1
    assert first.calls == second.calls == [("on_batch_end", 0, {"loss": 1.0})]


def test_logs_of_a_callback_that_takes_them_late_are_computed_when_it_looks():
    calls, kept = [], []

    class Late(callbacks.Callback):
        takes_late_logs = True

        def on_train_batch_end(self, batch, logs=None):
            kept.append(logs["loss"] if batch else None)

    def logs():
        calls.append(1)
        return {"loss": 2.0}

    late = callbacks.CallbackList([Late(), Late()])
    late.on_train_batch_end(0, logs)
    assert not calls
    late.on_train_batch_end(1, logs)
    assert kept == [None, None, 2.0, 2.0] and len(calls) == 1


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
    assert follows_batches(callbacks.CallbackList([callback], verbose=0)) is expected


def test_list_adds_history_and_progress_once():
    kinds = lambda hooks: [type(c).__name__ for c in hooks.callbacks]  # noqa: E731
    assert kinds(callbacks.CallbackList(add_history=True, verbose="auto")) == ["History", "ProgbarLogger"]
    both = [callbacks.ProgbarLogger(), callbacks.History()]
    assert callbacks.CallbackList(both, add_history=True, add_progbar=True).callbacks == both
    assert callbacks.CallbackList(callbacks.CallbackList(both)).callbacks == both
    assert kinds(callbacks.CallbackList(None, verbose=0)) == []
    assert kinds(callbacks.CallbackList(verbose=1, add_progbar=False)) == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (callbacks.EarlyStopping, r"the class EarlyStopping: write EarlyStopping\(\.\.\.\)"),
        ("early_stopping", "'early_stopping' is not a callback"),
    ],
)
def test_list_refuses_anything_but_callbacks(wrong, words):
    with pytest.raises(ArgumentError, match=words):
        callbacks.CallbackList([callbacks.History(), wrong])


@pytest.mark.parametrize("name", ["RemoteMonitor", "SwapEMAWeights", "OrbaxCheckpoint"])
def test_callbacks_that_only_keras_has_are_refused_by_name(name):
    with pytest.raises(ArgumentError, match=f"callbacks.{name} is not in gpucnn"):
        getattr(callbacks, name)


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


def test_a_missing_curve_names_the_available_ones():
    history = callbacks.History()
    with pytest.raises(KeyError, match="nothing yet"):
        history.history["loss"]
    history.history = {"loss": [1.0], "accuracy": [0.5]}
    with pytest.raises(KeyError, match="'acc' is not in this history, which has 'loss', 'accuracy'"):
        history.history["acc"]
    assert history.history.get("acc") is None


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
    model = StandIn()
    hooks = callbacks.CallbackList([callbacks.TerminateOnNaN()], model=model)
    hooks.on_train_batch_end(0, {"loss": 1.0})
    hooks.on_train_batch_end(1, None)
    assert not model.stop_training
    hooks.on_train_batch_end(2, {"loss": loss})
    assert model.stop_training
    assert capsys.readouterr().out == f"Batch 2: the loss is {loss}, training ends\n"
    with pytest.raises(TrainingError, match=f"the loss is {loss} at batch 2"):
        callbacks.TerminateOnNaN(raise_error=True).on_train_batch_end(2, {"loss": loss})


def test_history_plots_its_curves():
    history = callbacks.History()
    history.on_train_begin()
    history.on_epoch_end(0, {"loss": 1.0, "accuracy": 0.5})
    assert len(history.plot().axes) == 2
