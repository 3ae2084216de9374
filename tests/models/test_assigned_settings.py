"""What `compile` said can be changed by assignment, as in Keras."""

import numpy as np
import pytest

import gpucnn
from gpucnn import Input, Sequential, layers, losses, optimizers
from gpucnn.errors import ArgumentError
from gpucnn.models.saving import weights_sha256


def test_another_optimizer_trains_on_from_here(problem, small_model):
    ends = []
    for assigned in (True, False):
        gpucnn.utils.set_random_seed(0)
        model = small_model("sgd")
        model.fit(*problem, batch_size=20, verbose=0)
        if assigned:
            model.optimizer = optimizers.Adam(0.01)
        else:
            model.compile(optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(*problem, batch_size=20, shuffle=False, verbose=0)
        ends.append(weights_sha256(model))
    assert ends[0] == ends[1]
    assert model.compile_config()["optimizer"]["class_name"] == "Adam"


def test_the_learning_rate_is_set_through_the_model(rng):
    model = Sequential([Input((3,)), layers.Dense(2)])
    model.compile(optimizers.SGD(0.5), "mse")
    before = model.get_weights()
    model.optimizer.learning_rate = 0.0
    model.train_on_batch(rng.random((4, 3)), rng.random((4, 2)))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("loss", ["mse", losses.Huber(2.0)])
def test_another_loss_is_used_at_once(loss, rng):
    x, y = rng.random((6, 3)).astype(np.float32), np.eye(2, dtype=np.float32)[[0, 1, 1, 0, 1, 0]]
    model = Sequential([Input((3,)), layers.Dense(2, activation="softmax")])
    model.compile(optimizers.SGD(0.0), "categorical_crossentropy")
    model.train_on_batch(x, y)
    model.loss = loss
    model.reset_metrics()
    expected = losses.get(loss)(y, model.predict(x, verbose=0))
    assert model.train_on_batch(x, y) == pytest.approx(expected, rel=1e-5)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(expected, rel=1e-5)
    assert losses.get(model.compile_config()["loss"]).get_config() == losses.get(loss).get_config()


def test_steps_per_execution_can_be_assigned(problem, small_model):
    model = small_model()
    model.steps_per_execution = 3
    calls = []
    watch = gpucnn.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: calls.append(batch))
    model.fit(*problem, batch_size=12, verbose=0, callbacks=[watch])
    assert calls == [2, 5, 7]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("optimizer", "adamm", "did you mean 'adam'"),
        ("optimizer", None, r"optimizer=None\) trains nothing"),
        ("loss", "msee", "did you mean 'mse'"),
        ("loss", losses.MeanSquaredError(reduction="none"), "no single number"),
        ("steps_per_execution", 0, "steps_per_execution=0"),
    ],
)
def test_what_compile_refuses_is_refused_and_changes_nothing(small_model, name, value, words):
    model = small_model()
    before = model.compile_config()
    with pytest.raises(ArgumentError, match=words):
        setattr(model, name, value)
    assert model.compile_config() == before


@pytest.mark.parametrize("name", ["optimizer", "loss", "steps_per_execution"])
def test_before_compile_there_is_nothing_to_change(name):
    model = Sequential([Input((3,)), layers.Dense(2)])
    with pytest.raises(ArgumentError, match=rf"model\.{name} = … before compile: call model\.compile"):
        setattr(model, name, "sgd")
