"""EarlyStopping, and the direction in which a monitored value is better."""

import math

import numpy as np
import pytest
from stand_in_model import StandIn, by_name, run

from gpucnn import callbacks
from gpucnn.errors import ArgumentError


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
    assert err == ""
    assert out == "Epoch 4: early stopping\nRestoring the weights of the best epoch, 2\n"


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
def test_auto_mode_takes_the_direction_of_the_metric(metric, monitor, better):
    model, _ = run(callbacks.EarlyStopping(monitor), by_name(monitor, *better), StandIn(metric))
    assert not model.stop_training
    model, _ = run(callbacks.EarlyStopping(monitor), by_name(monitor, *better[::-1]), StandIn(metric))
    assert model.stop_training


def test_an_unknown_direction_needs_the_mode():
    def mine(y_true, y_pred):
        return y_pred

    with pytest.raises(ArgumentError, match="'val_mine' should rise or fall: give mode='max' or mode='min'"):
        run(callbacks.EarlyStopping("val_mine"), by_name("val_mine", 1, 2), StandIn(mine))
    run(callbacks.EarlyStopping("val_mine", mode="max"), by_name("val_mine", 1, 2), StandIn(mine))
    with pytest.raises(ArgumentError, match="mode='maximum'"):
        callbacks.EarlyStopping(mode="maximum")


def test_missing_monitor_gets_one_warning_that_names_the_logs():
    for callback in (callbacks.EarlyStopping(), callbacks.ReduceLROnPlateau()):
        with pytest.warns(
            UserWarning, match=r"'val_loss', which .* Available are loss, accuracy; val_… needs"
        ) as caught:
            model, _ = run(callback, [{"loss": 1.0, "accuracy": 0.5}] * 3)
        assert len(caught) == 1
        assert not model.stop_training
    with pytest.warns(UserWarning, match="Available are none$"):
        run(callbacks.EarlyStopping("los"), [{}])
