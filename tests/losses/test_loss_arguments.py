"""Names and arguments of losses, and functions of the user."""

import json
import warnings

import numpy as np
import pytest
from loss_values import BINARY, CATEGORICAL, LOSSES, MSE, example
from refusals import refuses

from gpucnn import config, losses
from gpucnn.errors import ArgumentError


@pytest.mark.parametrize("name", ["Circle", "circle", "ctc", "CTC"])
def test_losses_that_only_keras_has_are_refused_by_name(name):
    with pytest.raises(ArgumentError, match=f"losses.{name} is not in gpucnn"):
        losses.get(name)
    with pytest.raises(ArgumentError, match=f"losses.{name} is not in gpucnn"):
        getattr(losses, name)


def test_unknown_names_get_a_suggestion():
    with pytest.raises(ArgumentError, match="did you mean 'categorical_crossentropy'"):
        losses.get("categorical_crossentropyy")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        losses.nonsense  # noqa: B018


@pytest.mark.parametrize(
    ("y", "outputs", "activation", "expected"),
    [
        (np.array([0, 1]), (None, 1), "sigmoid", losses.BinaryCrossentropy),
        (np.array([0, 1]), (None, 3), "softmax", losses.SparseCategoricalCrossentropy),
        (np.array([[0], [1]]), (None, 3), "softmax", losses.SparseCategoricalCrossentropy),
        (np.eye(3), (None, 3), "softmax", losses.CategoricalCrossentropy),
    ],
)
def test_crossentropy_is_chosen_by_the_shapes(y, outputs, activation, expected, rng):
    for name in ("crossentropy", "ce", "CE"):
        loss = losses.get(name)
        assert losses.from_logits_twin(loss, activation) is None
        losses.check_labels(loss, y, outputs)
        assert type(losses.from_logits_twin(loss, activation)) is expected
        p = rng.dirichlet(np.ones(outputs[1] + 1), len(y))[:, : outputs[1]].astype(np.float32)
        assert losses.get(name)(y, p) == expected()(y, p)


def test_twin_on_logits_is_the_loss_of_the_activated_outputs(rng):
    z = rng.normal(size=(4, 3))
    softmax = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    pairs = [
        (
            losses.CategoricalCrossentropy(label_smoothing=0.1, reduction="sum", name="mine"),
            "softmax",
            np.eye(3)[[0, 1, 2, 0]],
        ),
        (losses.SparseCategoricalCrossentropy(), "softmax", np.array([0, 1, 2, 0])),
        (losses.BinaryCrossentropy(label_smoothing=0.2), "sigmoid", np.eye(3)[[0, 1, 2, 0]]),
    ]
    for loss, activation, y in pairs:
        twin = losses.from_logits_twin(loss, activation)
        outputs = softmax if activation == "softmax" else 1 / (1 + np.exp(-z))
        assert (twin.name, twin.reduction) == (loss.name, loss.reduction)
        np.testing.assert_allclose(twin.forward(y, z)[0], loss.forward(y, outputs)[0], rtol=1e-6)
        assert losses.from_logits_twin(twin, activation) is None


def test_losses_that_do_not_belong_to_the_activation_have_no_twin():
    class Mine(losses.CategoricalCrossentropy):
        pass

    assert losses.from_logits_twin(CATEGORICAL, "sigmoid") is None
    assert losses.from_logits_twin(BINARY, "softmax") is None
    assert losses.from_logits_twin(MSE, "softmax") is None
    assert losses.from_logits_twin(CATEGORICAL, None) is None
    assert losses.from_logits_twin(Mine(), "softmax") is None


test_wrong_arguments_are_refused = refuses(
    ArgumentError,
    [
        (
            lambda: losses.MeanSquaredError(reduction="average"),
            r"reduction='average'\): give 'sum_over_batch_size'",
        ),
        (lambda: losses.MeanSquaredError(dtype="float16"), "dtype='float16'"),
        (lambda: losses.CategoricalCrossentropy(axis=1), "axis=1"),
        (lambda: losses.CategoricalCrossentropy(label_smoothing=1.5), r"label_smoothing=1\.5"),
        (lambda: losses.BinaryCrossentropy(label_smoothing="a"), "label_smoothing='a'"),
        (lambda: losses.SparseCategoricalCrossentropy(ignore_class=255), "ignore_class=255.*sample_weight 0"),
        (lambda: losses.Huber(delta=0), "delta=0"),
        (lambda: losses.Huber(epsilon=1), "epsilon=1"),
        (lambda: losses.get(3), "3 is not a loss"),
    ],
)


@pytest.mark.parametrize("name", LOSSES)
def test_description_of_a_loss_makes_an_equal_one(name, rng):
    loss, labels, outputs = LOSSES[name]
    y_true, y_pred = example(labels, outputs, rng)
    again = config.deserialize(json.loads(json.dumps(config.serialize(loss))))
    assert again(y_true, y_pred) == loss(y_true, y_pred)


def squared(y_true, y_pred):
    error = y_pred - y_true
    return (error**2).mean(axis=-1), lambda dvalues: dvalues[:, None] * 2 * error / error.shape[-1]


def test_a_function_of_the_user_is_a_loss(rng):
    y, p = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(4, 3)).astype(np.float32)
    loss = losses.get(squared)
    assert loss.name == "squared"
    assert loss(y, p) == pytest.approx(MSE(y, p), rel=1e-6)
    np.testing.assert_allclose(loss.forward(y, p)[1](np.ones(4)), MSE.forward(y, p)[1](np.ones(4)), rtol=1e-6)


@pytest.mark.parametrize("wrong", [lambda y, p: (p - y) ** 2, lambda y, p: (p, y), lambda y, p: (p, 1, 2)])
def test_a_function_without_a_backward_pass_is_explained(wrong):
    with pytest.raises(ArgumentError, match=r"must return \(values, backward\)"):
        losses.get(wrong)(np.ones((2, 2)), np.ones((2, 2)))


def test_a_subclass_of_the_user_needs_forward():
    class OnlyCall(losses.Loss):
        def call(self, y_true, y_pred):
            return y_pred

    with pytest.raises(NotImplementedError, match=r"OnlyCall must define forward.*Keras' call\(\) is not enough"):
        OnlyCall()([1.0], [1.0])

    class Linear(losses.Loss):
        def forward(self, y_true, y_pred):
            return y_pred.sum(axis=-1), lambda dvalues: np.repeat(dvalues[:, None], y_pred.shape[-1], axis=1)

    assert Linear()([0, 0], [[1, 2], [3, 4]]) == 5.0
    assert repr(Linear(name="mine")) == "<Linear name=mine>"


def test_no_warning_is_raised_where_probabilities_are_zero_or_one():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for loss in (CATEGORICAL, BINARY):
            values, backward = loss.forward(np.eye(2), np.eye(2, dtype=np.float32)[::-1])
            assert np.isfinite(values).all()
            assert np.isfinite(backward(np.ones(2, np.float32))).all()
