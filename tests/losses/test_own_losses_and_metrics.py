"""Losses and metrics of the user's own: what they are given, and what is refused of what they return."""

import numpy as np
import pytest

from gpucnn import Input, Sequential, layers, losses, metrics, optimizers
from gpucnn.errors import ShapeError


def squared(y_true, y_pred):
    error = y_pred - y_true
    return (error**2).mean(axis=-1), lambda dvalues: dvalues[..., None] * 2 * error / error.shape[-1]


class Squared(losses.Loss):
    def forward(self, y_true, y_pred):
        return squared(y_true, y_pred)


def distance(y_true, y_pred):
    return np.abs(y_pred - y_true).mean(axis=-1)


class LargestError(metrics.Metric):
    def __init__(self, name="largest_error", dtype=None):
        super().__init__(dtype, name)
        self.largest = self.add_variable(name="largest")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.largest[...] = max(self.largest, np.abs(y_pred - y_true).max())

    def result(self):
        return float(self.largest)


@pytest.fixture
def measurements(rng):
    return rng.normal(size=(12, 3)).astype(np.float32), rng.normal(size=12).astype(np.float32)


def one_output(loss, more=(), **settings):
    model = Sequential([Input((3,)), layers.Dense(1), *more])
    model.compile(optimizers.SGD(0.1), loss, **settings)
    return model


@pytest.mark.parametrize("loss", [squared, Squared()], ids=["function", "subclass"])
def test_labels_of_one_number_meet_outputs_of_one_column(loss, measurements):
    x, y = measurements
    model, built_in = one_output(loss), one_output("mse")
    built_in.set_weights(model.get_weights())
    error = model.predict(x, verbose=0)[:, 0] - y
    assert model.evaluate(x, y, verbose=0) == pytest.approx(float((error**2).mean()), rel=1e-5)
    for each in (model, built_in):
        each.fit(x, y, batch_size=5, shuffle=False, verbose=0)
    for own, other in zip(model.get_weights(), built_in.get_weights(), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-5, atol=1e-7)


def test_labels_of_one_column_meet_outputs_of_one_number(measurements):
    x, y = measurements
    flat = one_output(squared, [Flat()])
    columns = one_output(squared)
    columns.set_weights(flat.get_weights())
    assert flat.train_on_batch(x, y[:, None]) == pytest.approx(columns.train_on_batch(x, y), rel=1e-6)
    np.testing.assert_allclose(flat.get_weights()[0], columns.get_weights()[0], rtol=1e-6)


class Flat(layers.Layer):
    """(n, 1) → (n,)."""

    def compute_output_shape(self, input_shape):
        return input_shape[:1]

    def forward(self, x, step, training):
        return x.reshape(-1), lambda dy, need_dx=True: dy.reshape(-1, 1)


def test_metrics_see_labels_in_the_shape_of_the_outputs(measurements):
    x, y = measurements
    model = one_output("mse", metrics=[distance, LargestError()])
    error = np.abs(model.predict(x, verbose=0)[:, 0] - y)
    logs = model.evaluate(x, y, batch_size=5, verbose=0, return_dict=True)
    assert logs["distance"] == pytest.approx(error.mean(), rel=1e-5)
    assert logs["largest_error"] == pytest.approx(error.max(), rel=1e-5)
    assert metrics.get(distance)(np.zeros(4), np.ones((4, 1))) == 1.0


def test_class_numbers_stay_as_they_are(rng):
    seen = []

    def sparse(y_true, y_pred):
        seen.append(y_true.shape)
        return squared(np.eye(4, dtype=np.float32)[y_true], y_pred)

    losses.get(sparse)(np.array([0, 3, 1]), rng.random((3, 4)))
    assert seen == [(3,)]


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ((np.zeros(5), lambda d: np.zeros((12, 1))), r"own returned values of shape \(5,\) for 12 samples"),
        (
            (np.zeros(12), lambda d: np.zeros((12, 12))),
            r"own returned a gradient of shape \(12, 12\), .* outputs \(12, 1\)",
        ),
        ((np.zeros(12), lambda d: np.zeros(12)), r"own returned a gradient of shape \(12,\), .* outputs \(12, 1\)"),
    ],
)
def test_what_does_not_fit_the_outputs_is_refused_and_changes_no_weight(returned, words, measurements):
    def own(y_true, y_pred):
        return returned

    model = one_output(own)
    before = model.get_weights()
    with pytest.raises(ShapeError, match=words):
        model.fit(*measurements, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_a_metric_must_return_a_number_for_each_sample():
    def own(y_true, y_pred):
        return np.zeros(3)

    with pytest.raises(ShapeError, match=r"own returned values of shape \(3,\) for 12 samples"):
        metrics.get(own)(np.zeros(12), np.zeros((12, 1)))


@pytest.mark.parametrize("shape", [(12,), (12, 1)])
def test_sample_and_class_weights_are_multiplied_sample_by_sample(shape, measurements):
    x, y = measurements
    classes, weight = (y > 0).astype(int), np.linspace(0.5, 2, 12, dtype=np.float32)
    expected, got = (one_output("mse") for _ in range(2))
    got.set_weights(expected.get_weights())
    loss = expected.train_on_batch(x, classes, sample_weight=weight * np.where(classes == 1, 3.0, 1.0))
    assert got.train_on_batch(x, classes, weight.reshape(shape), class_weight={1: 3.0}) == pytest.approx(loss)


def test_weights_of_pixels_are_multiplied_by_the_weight_of_their_image(rng):
    x, y = rng.normal(size=(3, 2, 1)).astype(np.float32), np.array([[0, 1], [1, 0], [0, 1]])
    weight = rng.random((3, 2)).astype(np.float32)

    def loss(weight, **settings):
        model = Sequential([Input((2, 1)), layers.Dense(1, kernel_initializer="ones")])
        model.compile("sgd", "mse")
        return model.train_on_batch(x, y, weight, **settings)

    expected = loss(weight * np.array([[5], [1], [5]], np.float32))
    assert loss(weight, class_weight={1: 5.0}) == pytest.approx(expected)
