"""Recorded steps train as steps launched one by one do, to the bit, and never wait for the host."""

import gc
import json
import sys

import numpy as np
import pytest
from recorded_training import OPTIMIZERS, assert_equal, both_ways, digits, small

import gpucnn
from gpucnn import callbacks, layers, optimizers
from gpucnn.devices import choose, emulator, storage
from gpucnn.errors import TrainingError
from gpucnn.models import resident

pytestmark = pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))


@pytest.fixture(autouse=True)
def _on_the_emulator():
    gpucnn.use("cuda", device="emulator")


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimizers_train_as_they_do_step_by_step(monkeypatch, optimizer):
    x, y = digits()
    assert_equal(*both_ways(monkeypatch, lambda: small(optimizer()), x=x, y=y))


@pytest.fixture
def replayed(monkeypatch):
    """How many batches each replay does."""
    counts, replay = [], resident.Resident.replay
    monkeypatch.setattr(resident.Resident, "replay", lambda self, n, k: (counts.append(k), replay(self, n, k))[1])
    return counts


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_many_batches_are_replayed_as_one(monkeypatch, replayed, batch_size):
    x, y = digits(samples=39)
    assert_equal(*both_ways(monkeypatch, small, x=x, y=y, batch_size=batch_size, validation_data=(x[:9], y[:9])))
    assert (resident.TOGETHER in replayed) == (batch_size < 3)


@pytest.mark.parametrize(
    ("several", "reports", "replays"),
    [
        (6, [0, 5, 6, 11, 12, 17, 18, 18], [6, 6, 6, 1]),
        (18, [0, 17, 18, 18], [18, 1]),
        (1000, [0, 18], [18, 1]),
    ],
    ids=["a third of an epoch", "all full batches", "more than an epoch"],
)
def test_steps_per_execution_says_how_many_batches_are_one(monkeypatch, replayed, several, reports, replays):
    x, y = digits(samples=37)
    seen = {"1": [], "0": []}
    for graph, of_graph in seen.items():
        monkeypatch.setenv("GPUCNN_GRAPH", graph)
        model = small()
        model.compile("adam", "sparse_categorical_crossentropy", steps_per_execution=several)
        keep = callbacks.LambdaCallback(
            on_train_batch_begin=lambda batch, logs, kept=of_graph: kept.append(batch),
            on_train_batch_end=lambda batch, logs, kept=of_graph: kept.append((batch, logs["loss"])),
        )
        model.fit(x, y, epochs=2, batch_size=2, verbose=0, callbacks=[keep])
    assert seen["1"] == seen["0"]
    assert [entry if isinstance(entry, int) else entry[0] for entry in seen["1"]] == reports * 2
    assert replayed == replays * 2


class Stop(callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = batch > 5


def test_an_epoch_in_one_launch_is_counted_stopped_and_diverges_as_steps_do(monkeypatch, replayed):
    x, y = digits(samples=37)

    def epoch_at_once(**settings):
        model = small(**settings)
        model.steps_per_execution = 19
        return model

    fit = {"x": x, "y": y, "batch_size": 2, "validation_data": (x[:5], y[:5]), "callbacks": [Stop()]}
    assert_equal(*both_ways(monkeypatch, epoch_at_once, **fit))
    assert [count for count in replayed if count > 2] == [18]
    monkeypatch.setenv("GPUCNN_GRAPH", "1")
    x[25] = np.nan
    model = epoch_at_once()
    with pytest.raises(TrainingError, match="epoch 1, batch 12 "):
        model.fit(x, y, epochs=1, batch_size=2, shuffle=False, verbose=0)
    assert model.training_state.batch == 12 and int(model.optimizer.iterations[0]) == 12


@pytest.mark.parametrize(("device", "ends"), [("emulator", [15, 31, 32, 33, 34, 35]), ("cpu", list(range(36)))])
def test_steps_per_execution_auto_is_as_many_as_are_replayed_as_one(device, ends):
    gpucnn.use("cuda" if device == "emulator" else "njit", device=device)
    x, y = digits()
    seen, model = [], small()
    model.compile("adam", "sparse_categorical_crossentropy", steps_per_execution="auto")
    keep = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    model.fit(x, y, batch_size=1, verbose=0, callbacks=[keep])
    assert seen == ends
    again = gpucnn.Sequential.from_config(model.get_config())
    again.compile_from_config(model.compile_config())
    assert again.steps_per_execution == "auto"


@pytest.mark.parametrize("value", ["atuo", 0, 2.5, None])
def test_other_steps_per_execution_are_refused(value):
    with pytest.raises(gpucnn.errors.ArgumentError, match="steps_per_execution"):
        small().compile("adam", "mse", steps_per_execution=value)


@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.int32])
@pytest.mark.parametrize("shuffle", [True, False])
def test_images_of_any_dtype_are_gathered_in_the_same_order(monkeypatch, dtype, shuffle):
    x, y = digits(dtype=dtype)
    assert_equal(*both_ways(monkeypatch, small, x=x, y=y, shuffle=shuffle, validation_data=(x[:9], y[:9])))


@pytest.mark.parametrize(
    "weights",
    [{"class_weight": {0: 3.0, 2: 0.25}}, {"sample_weight": np.linspace(0.1, 2.0, 36)}],
    ids=["class", "sample"],
)
def test_weights_of_classes_and_samples_count(monkeypatch, weights):
    x, y = digits()
    assert_equal(*both_ways(monkeypatch, small, x=x, y=y, **weights))


@pytest.mark.parametrize(("metrics", "weight", "times"), [((), None, 0), (("mae",), None, 1), ((), np.ones(36), 1)])
def test_the_host_orders_the_samples_where_labels_or_weights_count(monkeypatch, metrics, weight, times):
    calls, permutation = [], gpucnn.random.permutation
    monkeypatch.setattr(gpucnn.random, "permutation", lambda n, **key: (calls.append(n), permutation(n, **key))[1])
    x, y = digits()
    small("adam", "mse", metrics).fit(x, np.eye(4)[y], epochs=1, batch_size=16, verbose=0, sample_weight=weight)
    assert calls == [36] * times


def test_penalties_and_constraints_count(monkeypatch):
    x, y = digits()
    settings = {"kernel_regularizer": "l2", "kernel_constraint": "max_norm"}
    assert_equal(*both_ways(monkeypatch, lambda: small(**settings), x=x, y=y))


@pytest.mark.parametrize("loss", ["categorical_crossentropy", "mse", gpucnn.losses.Huber(delta=0.3, reduction="sum")])
def test_losses_of_rows_with_metrics_on_the_host(monkeypatch, loss):
    x, y = digits()
    metrics = ("accuracy", "mae", lambda y_true, y_pred: np.abs(y_true - y_pred).max(axis=-1))
    recorded = both_ways(monkeypatch, lambda: small(loss=loss, metrics=metrics), x=x, y=np.eye(4, dtype=np.float32)[y])
    assert_equal(*recorded)


def test_numba_kernels_are_recorded_too(monkeypatch):
    gpucnn.use("numba", device="emulator")
    x, y = digits()
    assert_equal(*both_ways(monkeypatch, small, x=x, y=y, epochs=1))


def squared_error(y_true, y_pred):
    error = y_pred - y_true[:, None]
    return (error**2).mean(axis=-1), lambda dvalues: dvalues[:, None] * 2 * error / error.shape[-1]


def doubled(x):
    """A user's activation: NumPy on the host, wherever x is."""
    return storage.put(2 * storage.get(x)), lambda dy: storage.put(2 * storage.get(dy))


def own_activation():
    gpucnn.utils.set_random_seed(3)
    model = gpucnn.Sequential([gpucnn.Input((8, 8, 1)), layers.Flatten(), layers.Dense(4, activation=doubled)])
    model.compile("sgd", gpucnn.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


class Meddling(callbacks.Callback):
    """Changes what a step depends on, between two batches and between two epochs."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            self.model.optimizer.learning_rate = 0.02
            self.model.layers[5].rate = 0.5

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.model.layers[1].trainable = False
            self.model.optimizer.beta_1 = 0.5
            self.model.layers[0].scale = 1 / 200
            self.model.set_weights([w * 0.9 for w in self.model.get_weights()])


def test_changes_between_batches_and_epochs_meet_no_stale_recording(monkeypatch):
    x, y = digits()
    assert_equal(
        *both_ways(monkeypatch, small, x=x, y=y, epochs=3, callbacks=[Meddling()], validation_data=(x[:20], y[:20]))
    )


def test_settings_are_compared_only_where_something_was_assigned(monkeypatch):
    calls, plain_settings = [], resident.plain_settings
    monkeypatch.setattr(resident, "plain_settings", lambda things: (calls.append(1), plain_settings(things))[1])
    x, y = digits()
    following = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    small().fit(x, y, epochs=3, batch_size=2, verbose=0, callbacks=[following])
    assert len(calls) == 1  # before the first step


def test_callbacks_see_the_loss_and_metrics_so_far(monkeypatch):
    x, y = digits()
    seen = {"1": [], "0": []}
    for graph, logs_of in seen.items():
        monkeypatch.setenv("GPUCNN_GRAPH", graph)
        keep = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs, kept=logs_of: kept.append(dict(logs)))
        small().fit(x, y, epochs=2, batch_size=16, verbose=0, callbacks=[keep])
    assert seen["1"] == seen["0"]
    assert len(seen["1"]) == 6


def test_a_checkpoint_inside_an_epoch_counts_all_batches_so_far(monkeypatch, tmp_path):
    x, y = digits()
    states = []
    for graph in ("1", "0"):
        monkeypatch.setenv("GPUCNN_GRAPH", graph)
        model = small()
        stop = callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs, model=model: (
                states.append(model.training_state.to_json()) if batch == 1 else None
            )
        )
        model.fit(x, y, epochs=1, batch_size=16, verbose=0, callbacks=[stop])
    assert json.dumps(states[0]) == json.dumps(states[1])
    assert states[0]["loss_count"] == 32


def test_a_fit_after_an_interrupted_one_counts_only_its_own_batches(monkeypatch):
    class Interrupt(callbacks.Callback):
        takes_late_logs = True

        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                raise KeyboardInterrupt

    x, y = digits()
    found = []
    for graph in ("1", "0"):
        monkeypatch.setenv("GPUCNN_GRAPH", graph)
        model = small()
        with pytest.raises(KeyboardInterrupt):
            model.fit(x, y, batch_size=12, verbose=0, callbacks=[Interrupt()])
        batches = [(x[:18], y[:18]), (x[18:], y[18:])]
        found.append((model.fit(batches, verbose=0).history, model.get_weights(), model.optimizer.state()))
    assert_equal(*found)


def exploding(monkeypatch, graph):
    """The error, the weights and the state after a training whose third batch has a NaN."""
    monkeypatch.setenv("GPUCNN_GRAPH", graph)
    x, y = digits(samples=80)
    x[40] = np.nan
    model = small()
    with pytest.raises(TrainingError) as error:
        model.fit(x, y, epochs=2, batch_size=16, verbose=0, shuffle=False)
    return str(error.value), model.get_weights(), model.optimizer.state()


def test_a_loss_that_is_not_finite_leaves_the_model_as_before_that_batch(monkeypatch):
    recorded, one_by_one = exploding(monkeypatch, "1"), exploding(monkeypatch, "0")
    assert "epoch 1, batch 2" in recorded[0]
    assert_equal(recorded, one_by_one)
    assert all(np.isfinite(w).all() for w in recorded[1])


def infinite_gradient(monkeypatch, graph):
    """The same after a last batch whose loss is finite and whose gradient is not."""
    monkeypatch.setenv("GPUCNN_GRAPH", graph)
    model = gpucnn.Sequential([gpucnn.Input((3,)), layers.Dense(2, kernel_initializer="zeros")])
    model.compile("sgd", gpucnn.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"))
    x, y = np.ones((40, 3), np.float32), np.arange(40) % 2  # whose gradients cancel
    x[36:], y[36:] = 3e38, 0
    with pytest.raises(TrainingError) as error:
        model.fit(x, y, batch_size=4, verbose=0, shuffle=False)
    return str(error.value), model.get_weights(), model.optimizer.state()


def test_a_gradient_that_is_not_finite_leaves_the_model_as_before_that_batch(monkeypatch):
    recorded, one_by_one = infinite_gradient(monkeypatch, "1"), infinite_gradient(monkeypatch, "0")
    assert "norm is inf" in recorded[0] and "batch 9" in recorded[0]
    assert_equal(recorded, one_by_one)
    assert all(np.isfinite(w).all() for w in recorded[1])


def test_no_step_but_the_first_of_its_size_reads_uploads_or_allocates(monkeypatch):
    device, calls = choose.current(), []
    for name in ("put", "empty"):
        method = getattr(device, name)
        monkeypatch.setattr(device, name, lambda *a, method=method, name=name: (calls.append(name), method(*a))[1])
    get = storage.get
    monkeypatch.setattr(storage, "get", lambda array: (calls.append("get"), get(array))[1])
    x, y = digits(samples=96)
    per_batch = []

    class Note(callbacks.Callback):
        takes_late_logs = True

        def on_train_batch_end(self, batch, logs=None):
            per_batch.append(list(calls))
            calls.clear()

    small().fit(x, y, epochs=1, batch_size=16, verbose=0, callbacks=[Note()])
    assert len(per_batch) == 6
    assert per_batch[0]
    assert not any(per_batch[1:])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: small(optimizers.SGD(gradient_accumulation_steps=2)), "SGD does not do the same in each step"),
        (lambda: small(activity_regularizer="l2"), "conv2d has an activity_regularizer"),
        (lambda: small(loss=squared_error), "the loss squared_error computes on the host"),
        (lambda: own_activation(), "dense has the activation doubled (your function)"),
    ],
)
def test_what_cannot_be_recorded_is_said_once_and_trains(monkeypatch, capsys, make, words):
    x, y = digits()
    assert_equal(*both_ways(monkeypatch, make, x=x / 255, y=y, verbose=2))
    assert capsys.readouterr().out.count(words) == 1


@pytest.mark.parametrize(("several", "lines"), [(1, 1), ("auto", 0)])
def test_what_a_callback_for_each_batch_costs_is_said_once(capsys, several, lines):
    x, y = digits()
    model = small()
    model.steps_per_execution = several
    model.fit(x, y, epochs=2, batch_size=16, verbose=2, callbacks=[callbacks.LambdaCallback(on_train_batch_end=print)])
    text = capsys.readouterr().out
    assert text.count("is a launch of its own, which is slower on a GPU: LambdaCallback follows each batch") == lines


def test_generators_are_not_recorded(monkeypatch):
    x, y = digits()
    assert "generator" in resident.obstacle(None, (batch for batch in [(x, y)]))


@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 1.5, 36)], ids=["plain", "weighted"])
def test_evaluation_and_prediction_are_replayed_with_the_same_figures(monkeypatch, weights):
    x, y = digits()
    found = []
    for graph in ("1", "0"):
        monkeypatch.setenv("GPUCNN_GRAPH", graph)
        model = small(kernel_regularizer="l2")
        labels = np.eye(4, dtype=np.float32)[y]
        model.compile("sgd", "categorical_crossentropy", metrics=["accuracy", "mae"], weighted_metrics=["accuracy"])
        found.append(
            (model.evaluate(x, labels, 16, 0, weights), model.predict(x, 16, 0), model.predict(x[:3], verbose=0))
        )
    assert found[0][0] == found[1][0]
    for recorded, one_by_one in zip(found[0][1:], found[1][1:], strict=True):
        np.testing.assert_array_equal(recorded, one_by_one)
    assert found[0][1].shape == (36, 4) and found[0][2].shape == (3, 4)


def test_steps_of_an_evaluation_are_limited_and_seen_by_callbacks():
    x, y = digits()
    seen = []
    note = callbacks.LambdaCallback(on_test_batch_end=lambda batch, logs: seen.append((batch, logs["loss"])))
    model = small()
    whole = model.evaluate(x[:32], y[:32], batch_size=16, verbose=0, callbacks=[note])
    assert [batch for batch, _ in seen] == [0, 1] and seen[-1][1] == whole[0]
    assert model.evaluate(x, y, batch_size=16, steps=2, verbose=0) == whole
    assert len(model.predict(x, batch_size=16, steps=2, verbose=0)) == 32


@pytest.fixture
def records(monkeypatch):
    """A list that gets longer with each recording."""
    device, made = choose.current(), []
    record = device.record
    monkeypatch.setattr(device, "record", lambda run: (made.append(1), record(run))[1])
    return made


CALLS = {
    "fit": lambda model, x, y, **options: model.fit(x, y, verbose=0, **options).history,
    "evaluate": lambda model, x, y, **options: model.evaluate(x, y, verbose=0, **options),
    "predict": lambda model, x, y, **options: model.predict(x, verbose=0, **options).tolist(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_was_recorded_serves_the_next_call_with_other_data(monkeypatch, records, call):
    x, y = digits()
    outcomes = []
    for graph in ("1", "0"):
        monkeypatch.setenv("GPUCNN_GRAPH", graph)
        model, outcome = small(), []
        for images, labels in ((x, y), (255 - x, y[::-1]), (x, y)):
            outcome.append(call(model, images, labels, batch_size=8))
        outcomes.append((outcome, [w.tolist() for w in model.get_weights()]))
    assert outcomes[0] == outcomes[1]
    assert len(records) == 2  # eight images and four


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    "other",
    [
        lambda model, x, y: (x[:20], y[:20], {"batch_size": 8}),
        lambda model, x, y: (x.astype(np.uint8), y, {"batch_size": 8}),
        lambda model, x, y: (x, y, {"batch_size": 9}),
        lambda model, x, y: model.compile("sgd", "sparse_categorical_crossentropy") or (x, y, {"batch_size": 8}),
        lambda model, x, y: setattr(model.layers[5], "rate", 0.5) or (x, y, {"batch_size": 8}),
        lambda model, x, y: setattr(model, "precision", "tf32") or (x, y, {"batch_size": 8}),
        lambda model, x, y: on_the_cpu(model, x) or (x, y, {"batch_size": 8}),
    ],
    ids=["fewer", "bytes", "another batch size", "compiled anew", "another rate", "another precision", "moved"],
)
def test_what_was_recorded_serves_no_call_that_differs(monkeypatch, call, other):
    x, y = digits()
    outcomes = []
    for graph in ("1", "0"):
        monkeypatch.setenv("GPUCNN_GRAPH", graph)
        model = small()
        before = call(model, x, y, batch_size=8)
        x_, y_, options = other(model, x, y)
        outcomes.append((before, call(model, x_, y_, **options), [w.tolist() for w in model.get_weights()]))
    assert outcomes[0] == outcomes[1]


def on_the_cpu(model, x):
    """Move the model to the CPU and back, which changes where its weights are."""
    gpucnn.use("auto", device="cpu")
    model.predict(x[:2], verbose=0)
    gpucnn.use("cuda", device="emulator")


def test_what_was_recorded_is_given_up_where_it_needs_much_memory(monkeypatch, records):
    x = digits()[0]
    free = iter(range(1 << 50, 0, -(1 << 40)))
    monkeypatch.setattr(choose.current(), "free_bytes", lambda: next(free))
    monkeypatch.setattr(resident, "_SPARED", 1 << 20)
    model = small()
    for _ in range(2):
        model.predict(x, batch_size=12, verbose=0)
    assert len(records) == 2


def test_what_was_recorded_holds_no_array_of_the_callers():
    x, y = digits()
    held = sys.getrefcount(x), sys.getrefcount(y)
    model = small()
    for call in CALLS.values():
        call(model, x, y, batch_size=8)
    gc.collect()
    assert (sys.getrefcount(x), sys.getrefcount(y)) == held


@pytest.mark.parametrize("kept_bytes", [1, 3000])
def test_what_batches_leave_is_read_before_its_place_is_full(monkeypatch, kept_bytes):
    monkeypatch.setattr(resident, "_KEPT_BYTES", kept_bytes)
    x, y = digits()
    assert_equal(*both_ways(monkeypatch, small, x=x, y=y, batch_size=1, validation_data=(x, y)))
