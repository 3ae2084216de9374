"""The learning rate, the names and the arguments of optimizers."""

import importlib
import math

import numpy as np
import pytest
from every_optimizer import scalar
from refusals import refuses

from gpucnn import optimizers
from gpucnn.config import deserialize, serialize
from gpucnn.errors import ArgumentError
from gpucnn.ops import update
from gpucnn.optimizers import schedules


def test_the_learning_rate_can_be_read_and_set():
    optimizer = optimizers.SGD(0.25)
    assert optimizer.learning_rate == 0.25
    optimizer.learning_rate = 0.125
    assert optimizer.learning_rate == 0.125
    assert scalar(optimizer, [1.0]) == [0.875]
    assert optimizer.get_config()["learning_rate"] == 0.125
    optimizer.learning_rate = np.float32(0.5)
    assert optimizer.learning_rate == 0.5
    optimizer.learning_rate = schedules.ExponentialDecay(0.1, 10, 0.5)
    assert optimizer.learning_rate == 0.1 * 0.5**0.1


def test_a_schedule_is_followed_and_not_overwritten():
    optimizer = optimizers.SGD(schedules.PiecewiseConstantDecay([0], [0.5, 0.25]))
    assert scalar(optimizer, [1.0, 1.0]) == [0.5, 0.25]
    with pytest.raises(ArgumentError, match="cannot be set while PiecewiseConstantDecay decides"):
        optimizer.learning_rate = 0.1
    optimizer.learning_rate = schedules.ExponentialDecay(0.5, 1, 1.0)
    assert optimizer.learning_rate == 0.5


def test_a_function_gives_the_learning_rate_of_each_batch():
    rates = iter([0.5, 0.25])
    assert scalar(optimizers.SGD(lambda: next(rates)), [1.0, 1.0]) == [0.5, 0.25]


def test_a_users_schedule():
    class Halving(schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.5 ** (step + 1)

    assert scalar(optimizers.SGD(Halving()), [1.0, 1.0]) == [0.5, 0.25]


@pytest.mark.parametrize("rate", [-0.1, math.nan, math.inf, "0.1", None, True, [0.1]])
def test_a_wrong_learning_rate_is_refused(rate):
    with pytest.raises(ArgumentError, match=r"SGD\(learning_rate="):
        optimizers.SGD(rate)


def test_schedules_lie_where_keras_has_them():
    assert optimizers.schedules.ExponentialDecay is schedules.ExponentialDecay
    from gpucnn.optimizers.schedules import CosineDecay

    assert CosineDecay is schedules.CosineDecay
    assert importlib.import_module("gpucnn.optimizers.schedules") is schedules


@pytest.mark.parametrize(
    ("cls", "defaults"),
    [
        (
            optimizers.SGD,
            {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False, "weight_decay": None, "name": "sgd"},
        ),
        (optimizers.Adam, {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "amsgrad": False}),
        (optimizers.AdamW, {"learning_rate": 0.001, "weight_decay": 0.004, "beta_1": 0.9, "epsilon": 1e-7}),
        (optimizers.Nadam, {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}),
        (optimizers.RMSprop, {"learning_rate": 0.001, "rho": 0.9, "momentum": 0.0, "epsilon": 1e-7, "centered": False}),
        (optimizers.Adagrad, {"learning_rate": 0.001, "initial_accumulator_value": 0.1, "epsilon": 1e-7}),
        (optimizers.Adadelta, {"learning_rate": 0.001, "rho": 0.95, "epsilon": 1e-7}),
        (
            optimizers.Adam,
            {"use_ema": False, "ema_momentum": 0.99, "clipnorm": None, "gradient_accumulation_steps": None},
        ),
    ],
)
def test_defaults_are_those_of_keras(cls, defaults):
    optimizer = cls()
    assert {name: getattr(optimizer, name) for name in defaults} == defaults


def test_a_description_gives_the_same_optimizer():
    optimizer = optimizers.Adam(schedules.CosineDecay(0.1, 10), beta_1=0.8, clipnorm=1.0, name="mine")
    again = deserialize(serialize(optimizer))
    assert (again.beta_1, again.clipnorm, again.name) == (0.8, 1.0, "mine")
    assert again.learning_rate == 0.1
    assert serialize(again) == serialize(optimizer)


test_wrong_arguments_and_old_names_are_refused = refuses(
    ArgumentError,
    [
        (lambda: optimizers.Adam(lr=0.1), r"Adam\(\) has no argument lr=0.1: it is now called learning_rate"),
        (lambda: optimizers.SGD(decay=1e-6), "InverseTimeDecay"),
        (lambda: optimizers.SGD(0.1, momentun=0.9), "did you mean 'momentum'"),
        (lambda: optimizers.SGD(0.1, clip_norm=0.9), "did you mean 'clipnorm'"),
        (lambda: optimizers.Adam(nesterov=True), "its arguments are learning_rate, beta_1, .*clipnorm"),
        (lambda: optimizers.Adam(loss_scale_factor=128.0), "float32 and needs no loss scale"),
        (
            lambda: optimizers.AdamW(weight_decay=None),
            r"AdamW\(weight_decay=None\): give a number of 0 or more \(use Adam for no decay\)",
        ),
        (lambda: optimizers.SGD(clipnorm=1.0, clipvalue=0.5), "give only one of clipnorm=1.0 and clipvalue=0.5"),
        (lambda: optimizers.SGD(clipnorm=0.0), r"clipnorm=0.0\): give a number above 0"),
        (lambda: optimizers.SGD(global_clipnorm=math.nan), r"global_clipnorm=nan\): give a number above 0"),
        (lambda: optimizers.SGD(weight_decay=-1.0), r"weight_decay=-1.0\): give a number of 0 or more"),
        (lambda: optimizers.SGD(momentum=1.5), r"momentum=1.5\): give a number of 0 … 1"),
        (lambda: optimizers.SGD(use_ema=True, ema_momentum=1.5), r"ema_momentum=1.5\): give a number of 0 … 1"),
        (
            lambda: optimizers.SGD(use_ema=True, ema_overwrite_frequency=0),
            r"give an integer of 1 … 2\*\*31 - 1, or None",
        ),
        (lambda: optimizers.SGD(gradient_accumulation_steps=1), r"give an integer of 2 … 2\*\*31 - 1, or None"),
        (lambda: optimizers.SGD(gradient_accumulation_steps=2.0), "gradient_accumulation_steps=2.0"),
        (lambda: optimizers.Adam(beta_1=1.0), r"beta_1=1.0\): give a number of 0 or more and below 1"),
        (lambda: optimizers.Nadam(beta_2=-0.1), r"beta_2=-0.1\): give"),
        (lambda: optimizers.Adam(epsilon=0.0), r"epsilon=0.0\): give a number"),
        (lambda: optimizers.Adagrad(epsilon=1e-60), r"epsilon=1e-60\): give a number"),
        (lambda: optimizers.Adagrad(initial_accumulator_value=-1.0), "initial_accumulator_value=-1.0"),
        (lambda: optimizers.RMSprop(rho=2), r"rho=2\): give"),
        (lambda: optimizers.RMSprop(momentum=-1), r"momentum=-1\): give"),
        (lambda: optimizers.Adadelta(rho=math.nan), r"rho=nan\): give"),
        (lambda: optimizers.Adafactor, "optimizers.Adafactor is not in gpucnn: use one of SGD, Adam"),
        (lambda: optimizers.legacy, "leave the word legacy out"),
        (lambda: optimizers.rmsprop, "it is called RMSprop"),
        (lambda: optimizers.get("Adafactor"), "optimizer 'Adafactor' is not in gpucnn: use one of SGD, Adam"),
        (lambda: optimizers.get("adm"), "did you mean 'adam'"),
    ],
)


def test_the_old_name_of_the_learning_rate_is_refused_on_the_object():
    optimizer = optimizers.SGD()
    with pytest.raises(AttributeError, match="now called learning_rate"):
        optimizer.lr = 0.1
    assert not hasattr(optimizer, "lr")


def test_a_users_optimizer():
    class SignDescent(optimizers.Optimizer):
        def change(self, values, gradients, row, **slots):
            values -= row[update.RATE] * np.sign(gradients)

    assert scalar(SignDescent(0.25), [5.0, -3.0]) == [0.75, 1.0]


def test_an_optimizer_without_change_says_so():
    class Mine(optimizers.Optimizer):
        pass

    with pytest.raises(NotImplementedError, match="Mine must define change"):
        scalar(Mine(0.1), [1.0])
