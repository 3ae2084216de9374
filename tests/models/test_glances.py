"""Progress shows the losses of a moment ago, for which a device that replays steps need not stop."""

import io

import numpy as np
import pytest
from test_resident import assert_equal, both_ways, digits, exploding, small

import gpucnn
from gpucnn import callbacks, progress
from gpucnn.callbacks.callback_list import LateLogs
from gpucnn.devices import emulator
from gpucnn.models import resident, resident_steps

pytestmark = pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))


class Glancing(callbacks.Callback):
    """Asks for late logs after every `each` batches, as the bar does."""

    takes_late_logs = True

    def __init__(self, each=1):
        self.each, self.seen = each, []

    def on_train_batch_end(self, batch, logs=None):
        if batch % self.each == 0:
            self.seen.append(dict(logs.lately()))


@pytest.fixture(autouse=True)
def _on_the_emulator():
    gpucnn.use("cuda", device="emulator")


@pytest.mark.parametrize(("batch_size", "each", "kept_bytes"), [(2, 1, 1 << 20), (1, 3, 1), (5, 2, 1)])
def test_glances_change_nothing(monkeypatch, batch_size, each, kept_bytes):
    monkeypatch.setattr(resident, "_KEPT_BYTES", kept_bytes)
    x, y = digits()
    glancing = [Glancing(each)]
    assert_equal(*both_ways(monkeypatch, small, x=x, y=y, batch_size=batch_size, callbacks=glancing))
    regularized = both_ways(monkeypatch, lambda: small(kernel_regularizer="l2"), x=x, y=y, callbacks=glancing)
    assert_equal(*regularized)


def test_a_glance_shows_what_the_one_before_it_has_noted(monkeypatch):
    x, y = digits()
    exact, late = [], Glancing()
    note = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: exact.append(dict(logs)))
    small().fit(x, y, batch_size=6, verbose=0, callbacks=[note])
    small().fit(x, y, batch_size=6, verbose=0, callbacks=[late])
    assert late.seen == [{}, *exact[:-1]]
    monkeypatch.setenv("GPUCNN_GRAPH", "0")
    at_once = Glancing()
    small().fit(x, y, batch_size=6, verbose=0, callbacks=[at_once])
    assert at_once.seen == exact


def test_a_loss_that_is_not_finite_is_named_with_its_batch(monkeypatch):
    expected = exploding(monkeypatch, "0")
    fit = gpucnn.Sequential.fit
    monkeypatch.setattr(gpucnn.Sequential, "fit", lambda self, *a, **k: fit(self, *a, **k, callbacks=[Glancing()]))
    glanced = exploding(monkeypatch, "1")
    assert glanced[0] == expected[0]
    assert_equal(glanced, expected)


@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 1.5, 36)], ids=["plain", "weighted"])
@pytest.mark.parametrize("metrics", [(), ("mae", "mse")], ids=["the loss alone", "metrics"])
def test_metrics_and_weights_are_taken_in_while_the_device_is_at_work(monkeypatch, metrics, weights):
    monkeypatch.setattr(resident_steps, "_TAKEN_IN", 8)
    x, y = digits()
    glances, glance = [], resident_steps.ResidentSteps.glance
    monkeypatch.setattr(
        resident_steps.ResidentSteps, "glance", lambda steps: (glances.append(steps.done), glance(steps))[1]
    )
    fit = {"x": x, "y": np.eye(4)[y], "batch_size": 2, "epochs": 1, "sample_weight": weights}
    monkeypatch.setattr(resident, "TOGETHER", 4)
    assert_equal(*both_ways(monkeypatch, lambda: small("adam", "mse", metrics), **fit))
    assert glances == ([8, 16] if metrics or weights is not None else [])


def test_a_loss_that_is_not_finite_is_found_behind_batches_that_were_taken_in(monkeypatch):
    monkeypatch.setattr(resident_steps, "_TAKEN_IN", 2)
    recorded, one_by_one = exploding(monkeypatch, "1"), exploding(monkeypatch, "0")
    assert recorded[0] == one_by_one[0]
    assert_equal(recorded, one_by_one)


def test_the_bar_asks_in_this_way(monkeypatch):
    x, y = digits()
    monkeypatch.setattr(progress, "is_interactive", lambda: True)
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    monkeypatch.setattr(progress.sys, "stdout", io.StringIO())
    calls = []
    for name in ("glance", "collect"):
        method = getattr(resident_steps.ResidentSteps, name)
        monkeypatch.setattr(
            resident_steps.ResidentSteps, name, lambda self, m=method, n=name: (calls.append(n), m(self))[1]
        )
    small().fit(x, y, batch_size=6, verbose=1)
    assert calls[:6] == ["glance"] * 6 and "collect" in calls[6:]


def test_late_logs_of_one_function_are_the_same_at_all_times():
    calls = []
    logs = LateLogs(lambda: calls.append(1) or {"loss": 0.5})
    assert logs.lately() == {"loss": 0.5} == dict(logs)
    assert calls == [1]
    assert np.isclose(logs["loss"], 0.5)
