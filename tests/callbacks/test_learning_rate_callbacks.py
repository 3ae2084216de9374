"""ReduceLROnPlateau and LearningRateScheduler."""

import math

import numpy as np
import pytest
from stand_in_model import StandIn, by_name, run

from gpucnn import callbacks, optimizers
from gpucnn.errors import ArgumentError


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
    model = StandIn()
    watch = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: after.append(model.optimizer.learning_rate))
    _, seen = run(callbacks.CallbackList([reduce, watch]), by_name("val_loss", *values), model)
    np.testing.assert_allclose(after, rates)
    np.testing.assert_allclose([logs["learning_rate"] for logs in seen], [0.1, *rates[:-1]])


def test_reduce_lr_on_plateau_says_what_it_does(capsys):
    run(callbacks.ReduceLROnPlateau(patience=1, verbose=1), by_name("val_loss", 1, 1))
    assert capsys.readouterr().out == "Epoch 2: learning rate reduced to 0.01\n"


def test_reduce_lr_on_plateau_refuses_a_schedule_before_training():
    model = StandIn()
    model.optimizer = optimizers.SGD(optimizers.schedules.CosineDecay(0.1, 10))
    with pytest.raises(ArgumentError, match="CosineDecay"):
        run(callbacks.ReduceLROnPlateau(), by_name("val_loss", 1), model)


def test_learning_rate_scheduler_sets_the_rate_of_each_epoch(capsys):
    rates = []
    scheduler = callbacks.LearningRateScheduler(lambda epoch, lr: lr / 2 if epoch else lr, verbose=1)
    watch = callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: rates.append(model.optimizer.learning_rate))
    model = StandIn()
    _, seen = run(callbacks.CallbackList([scheduler, watch]), [{"loss": 1.0}] * 3, model)
    assert rates == [0.1, 0.05, 0.025]
    assert [logs["learning_rate"] for logs in seen] == rates
    assert capsys.readouterr().out.splitlines()[1] == "Epoch 2: learning rate 0.05"


@pytest.mark.parametrize(
    "schedule", [lambda epoch: 0.5**epoch, lambda *arguments: 0.5 ** arguments[0], lambda epoch, lr=1: 0.5**epoch]
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
    with pytest.raises(ArgumentError, match=r"LearningRateScheduler\(schedule=0\.1\): give a function"):
        callbacks.LearningRateScheduler(0.1)
