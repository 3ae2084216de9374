"""Objects that remember their arguments, and the names by which arguments find them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from refusals import refuses

import gpucnn
from gpucnn import config, constraints, initializers, layers, losses, optimizers, regularizers
from gpucnn.errors import ArgumentError
from gpucnn.optimizers import schedules


@pytest.mark.parametrize(
    ("name", "snake"),
    [("GlorotUniform", "glorot_uniform"), ("L1L2", "l1_l2"), ("AdamW", "adam_w"), ("Conv2D", "conv2d"), ("SGD", "sgd")],
)
def test_snake_case_is_that_of_keras(name, snake):
    assert config.snake_case(name) == snake


def test_round_trip_through_json_keeps_nested_objects():
    import json

    layer = layers.Conv2D(
        4, (3, 2), activation="relu", kernel_regularizer=regularizers.L1L2(0.1, 0.2), bias_initializer="ones", name="c"
    )
    text = json.dumps(config.serialize(layer))
    again = config.deserialize(json.loads(text))
    assert again.get_config() == layer.get_config()
    assert (again.kernel_size, again.name) == ((3, 2), "c")
    assert config.get(regularizers.Regularizer, again.kernel_regularizer).l2 == 0.2


def test_arrays_and_numpy_numbers_become_json():
    layer = layers.Dense(np.int64(3), kernel_initializer=initializers.Constant(np.float32(0.5)))
    assert layer.get_config()["units"] == 3
    assert config._to_json({"a": np.arange(2), "b": optimizers.Adam}) == {"a": [0, 1], "b": "adam"}


def test_functions_without_a_public_name_cannot_be_described():
    with pytest.raises(ArgumentError, match="cannot be described in a file"):
        layers.Dense(3, activation=lambda x: (x, lambda dy: dy)).get_config()


def test_get_takes_names_classes_objects_descriptions_and_none():
    kind = regularizers.Regularizer
    assert config.get(kind, None) is None
    regularizer = regularizers.L2(0.5)
    assert config.get(kind, regularizer) is regularizer
    assert config.get(kind, "L2").l2 == config.get(kind, regularizers.L2).l2 == 0.01
    assert config.get(kind, {"class_name": "L2", "config": {"l2": 0.3}}).l2 == 0.3
    with pytest.raises(ArgumentError, match="unknown regularizer 'l22': did you mean 'l2'"):
        config.get(kind, "l22")
    with pytest.raises(ArgumentError, match="3 is not a regularizer"):
        config.get(kind, 3)


IDENTIFIERS = [
    (initializers, initializers.GlorotUniform, ["glorot_uniform"]),
    (initializers, initializers.GlorotNormal, ["GlorotNormal"]),
    (initializers, initializers.HeUniform, ["he_uniform"]),
    (initializers, initializers.Zeros, ["zeros", "zero"]),
    (initializers, initializers.Ones, ["one"]),
    (initializers, initializers.RandomUniform, ["uniform"]),
    (initializers, initializers.RandomNormal, ["normal"]),
    (initializers, initializers.TruncatedNormal, ["truncated_normal"]),
    (initializers, initializers.Orthogonal, ["orthogonal"]),
    (initializers, initializers.LecunUniform, [initializers.LecunUniform]),
    (constraints, constraints.MaxNorm, ["max_norm", "MaxNorm"]),
    (constraints, constraints.NonNeg, ["non_neg"]),
    (constraints, constraints.UnitNorm, ["unit_norm"]),
    (constraints, constraints.MinMaxNorm, ["min_max_norm"]),
    (losses, losses.MeanSquaredError, ["mse", "MSE", "mean_squared_error"]),
    (losses, losses.MeanAbsoluteError, ["mae", "MeanAbsoluteError"]),
    (losses, losses.BinaryCrossentropy, ["bce"]),
    (losses, losses.Huber, ["huber", losses.huber, {"class_name": "Huber", "config": {"delta": 2.0}}]),
    (losses, losses.SparseCategoricalCrossentropy, [losses.sparse_categorical_crossentropy]),
    (losses, losses.CategoricalCrossentropy, [losses.CategoricalCrossentropy]),
    (optimizers, optimizers.SGD, ["sgd", "SGD"]),
    (optimizers, optimizers.Adam, ["adam", "Adam", optimizers.Adam]),
    (optimizers, optimizers.AdamW, ["adamw", "AdamW"]),
    (optimizers, optimizers.Nadam, ["nadam"]),
    (optimizers, optimizers.RMSprop, ["rmsprop", "RMSprop"]),
    (optimizers, optimizers.Adagrad, ["adagrad"]),
    (optimizers, optimizers.Adadelta, ["adadelta"]),
]


@pytest.mark.parametrize(
    ("module", "identifier", "cls"),
    [(module, identifier, cls) for module, cls, identifiers in IDENTIFIERS for identifier in identifiers],
)
def test_get_finds_names_functions_classes_and_descriptions(module, identifier, cls):
    assert type(module.get(identifier)) is cls


@pytest.mark.parametrize(
    ("module", "thing"),
    [
        pytest.param(initializers, initializers.Constant(2.0), id="initializer"),
        pytest.param(constraints, constraints.MaxNorm(3.0), id="constraint"),
        pytest.param(losses, losses.MeanSquaredError(), id="loss"),
        pytest.param(optimizers, optimizers.SGD(0.5), id="optimizer"),
        pytest.param(schedules, schedules.PolynomialDecay(0.1, 7), id="schedule"),
    ],
)
def test_get_returns_objects_and_none_as_they_are(module, thing):
    assert module.get(thing) is thing
    assert module.get(None) is None


@pytest.mark.parametrize(
    ("base", "argument"),
    [
        pytest.param(initializers.Initializer, (2, 2), id="initializer"),
        pytest.param(constraints.Constraint, np.ones((2, 2)), id="constraint"),
        pytest.param(schedules.LearningRateSchedule, 0, id="schedule"),
    ],
)
def test_a_users_class_without_call_says_so(base, argument):
    class Mine(base):
        pass

    with pytest.raises(NotImplementedError, match="Mine must define __call__"):
        Mine()(argument)


@pytest.mark.parametrize(
    "description", [None, {}, {"kind": "Layer"}, {"kind": "Layer", "class_name": "X", "config": 3}]
)
def test_a_description_needs_its_three_parts(description):
    with pytest.raises(ArgumentError, match="does not describe an object"):
        config.deserialize(description)


@pytest.mark.parametrize(("kind", "name"), [("Layer", "os.system"), ("Layer", "Adam"), ("builtins", "eval")])
def test_a_file_cannot_name_what_was_not_registered(kind, name):
    with pytest.raises(ArgumentError, match="unknown"):
        config.deserialize({"kind": kind, "class_name": name, "config": {}})


def test_register_takes_subclasses_of_gpucnns_kinds_with_new_names():
    with pytest.raises(ArgumentError, match="needs a subclass"):
        gpucnn.register(dict)
    with pytest.raises(ArgumentError, match="another name"):
        gpucnn.register(type("Dense", (layers.Layer,), {}))
    with pytest.raises(ArgumentError, match="another name"):
        gpucnn.register(layers.Dense)

    class Own(layers.Layer):
        pass

    with pytest.raises(ArgumentError, match=r"@gpucnn\.register"):
        config.deserialize(config.serialize(Own()))
    assert isinstance(config.deserialize(config.serialize(Own()), {"Own": Own}), Own)
    gpucnn.register(Own)
    assert isinstance(config.deserialize(config.serialize(Own())), Own)


test_unknown_arguments_are_refused_wherever_the_constructor_would_have_passed_them = refuses(
    ArgumentError,
    [
        (lambda: layers.Dense(3, trainble=True), r"Dense\(\) has no argument trainble=True: did you mean 'trainable'"),
        (lambda: layers.MaxPooling2D(algoritm="x"), "did you mean 'algorithm'"),
        (lambda: optimizers.AdamW(clip_norm=1.0), r"AdamW\(\) has no argument clip_norm=1.0: did you mean 'clipnorm'"),
        (lambda: initializers.Zeros(value=0), r"Zeros\(\) has no argument value=0: leave it out"),
        (lambda: initializers.Zeros(0), "Zeros: too many positional arguments"),
        (lambda: layers.Dense(), "Dense: missing a required argument: 'units'"),
        (lambda: layers.Dense(3, units=3), "Dense: multiple values for argument 'units'"),
    ],
)


def test_a_users_constructor_may_take_keywords_for_itself():
    class Scale(layers.Layer):
        def __init__(self, **keywords):
            self.factor = keywords.pop("factor")
            super().__init__(**keywords)

    layer = Scale(factor=3, name="triple")
    assert (layer.factor, layer.name) == (3, "triple")
    assert layer.get_config() == {"factor": 3, "name": "triple"}
    with pytest.raises(TypeError, match="tranable"):
        Scale(factor=3, tranable=False)
    with pytest.raises(ArgumentError, match="it is now called learning_rate"):
        Scale(lr=0.1)


@dataclass
class Settings:
    count: int
    rate: float | None = None
    names: list[str] | None = None
    by_name: dict[str, int] | None = None
    anything: Any = None


RIGHT = {"count": 3, "rate": 0.5, "names": ["a"], "by_name": {"a": 1}, "anything": {1: 2}}


@pytest.mark.parametrize("change", [{}, {"rate": 1}, {"rate": None}, {"names": []}, {"anything": "x"}])
def test_values_of_the_annotated_types_pass(change):
    config.check_fields(Settings, RIGHT | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": "3"}, "count is '3' and must be int"),
        ({"count": True}, "count is True and must be int"),
        ({"count": 3.0}, r"count is 3\.0 and must be int"),
        ({"rate": "x"}, r"rate is 'x' and must be float \| None"),
        ({"rate": False}, "rate is False"),
        ({"names": ["a", 3]}, r"names is \['a', 3\] and must be list\[str\] \| None"),
        ({"names": "ab"}, "names is 'ab'"),
        ({"by_name": {"a": "b"}}, "by_name is"),
        ({"by_name": [1]}, "by_name is"),
        ({"more": 1}, "more is unknown"),
        ({"count": "x\n\x1b" * 999}, r"count is 'x\\n\\x1b.*… and must be int$"),
    ],
)
def test_values_of_other_types_are_named(change, message):
    with pytest.raises(ArgumentError, match=message):
        config.check_fields(Settings, RIGHT | change)
