"""Losses: values of Keras, gradients by PyTorch, reductions and weights."""

import math

import needs
import numpy as np
import pytest
from loss_values import LOSSES, example, one_hot

from gpucnn import losses
from gpucnn.devices import choose, storage
from gpucnn.dispatch import choice
from gpucnn.errors import ShapeError
from gpucnn.losses.loss import reduce_each

P = [[0.05, 0.95, 0.0], [0.1, 0.8, 0.1]]


def test_values_of_keras_documentation():
    """The examples in the docstrings of Keras 3.15."""
    assert losses.CategoricalCrossentropy()(one_hot([1, 2], 3), P) == pytest.approx(1.177, abs=5e-4)
    assert losses.SparseCategoricalCrossentropy()([1, 2], P) == pytest.approx(1.177, abs=5e-4)
    per_sample = losses.CategoricalCrossentropy(reduction="none")(one_hot([1, 2], 3), P)
    np.testing.assert_allclose(per_sample, [0.0513, 2.303], atol=5e-4)
    assert losses.CategoricalCrossentropy(reduction="sum")(one_hot([1, 2], 3), P) == pytest.approx(2.354, abs=5e-4)
    weighted = losses.CategoricalCrossentropy()(one_hot([1, 2], 3), P, sample_weight=[0.3, 0.7])
    assert weighted == pytest.approx(0.814, abs=5e-4)
    logits = losses.BinaryCrossentropy(from_logits=True)([0, 1, 0, 0], [-18.6, 0.51, 2.94, -12.8])
    assert logits == pytest.approx(0.8654, abs=5e-4)
    assert losses.Huber()([[0.0, 1.0], [0.0, 0.0]], [[0.6, 0.4], [0.4, 0.6]]) == pytest.approx(0.155, abs=5e-4)


def test_functions_give_the_loss_of_each_sample(rng):
    y, p = rng.integers(0, 3, 5), rng.dirichlet(np.ones(3), 5).astype(np.float32)
    rows = one_hot(y, 3)
    for function, loss, labels in [
        (losses.sparse_categorical_crossentropy, losses.SparseCategoricalCrossentropy, y),
        (losses.categorical_crossentropy, losses.CategoricalCrossentropy, rows),
        (losses.binary_crossentropy, losses.BinaryCrossentropy, rows),
    ]:
        for from_logits in (False, True):
            expected = loss(from_logits, reduction="none")(labels, p)
            np.testing.assert_array_equal(function(labels, p, from_logits), expected)
            assert expected.shape == (5,)


def test_regression_losses_by_hand():
    y_true, y_pred = [[0.0, 2.0], [4.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]
    np.testing.assert_array_equal(losses.mean_squared_error(y_true, y_pred), [2.5, 4.5])
    np.testing.assert_array_equal(losses.mean_absolute_error(y_true, y_pred), [1.5, 1.5])
    np.testing.assert_array_equal(losses.huber(y_true, y_pred, delta=2.0), [1.25, 2.0])
    assert losses.MeanSquaredError()(y_true, y_pred) == 3.5


def test_probabilities_are_clipped_as_in_keras():
    """In float32, 1 - 1e-7 is 1 - 2⁻²³: a certain mistake costs log(2²³), or log(10⁷) at 0."""
    assert losses.BinaryCrossentropy()([[0.0]], [[1.0]]) == pytest.approx(math.log(2**23), rel=1e-6)
    assert losses.BinaryCrossentropy()([[1.0]], [[0.0]]) == pytest.approx(math.log(1e7), rel=1e-6)
    assert losses.SparseCategoricalCrossentropy()([0], [[0.0, 1.0]]) == pytest.approx(math.log(1e7), rel=1e-6)
    assert losses.CategoricalCrossentropy()([[1.0, 0.0]], [[0.0, 1.0]]) == pytest.approx(math.log(1e7), rel=1e-6)


def test_probabilities_are_scaled_to_sum_to_one():
    assert losses.SparseCategoricalCrossentropy()([1], [[3.0, 1.0]]) == pytest.approx(math.log(4), rel=1e-6)
    assert losses.CategoricalCrossentropy()([[0, 1]], [[3.0, 1.0]]) == pytest.approx(math.log(4), rel=1e-6)


def test_clipped_probabilities_have_no_gradient():
    loss = losses.BinaryCrossentropy()
    _, backward = loss.forward(np.array([[0.0], [0.0]]), np.array([[1.0], [0.75]], np.float32))
    np.testing.assert_array_equal(backward(np.ones(2, np.float32)), [[0.0], [4.0]])


def test_label_smoothing_mixes_with_the_uniform_distribution():
    y, p = one_hot([1], 3), np.array([[0.2, 0.5, 0.3]])
    smooth = losses.CategoricalCrossentropy(label_smoothing=0.3)(y, p)
    assert smooth == pytest.approx(-(0.1 * math.log(0.2) + 0.8 * math.log(0.5) + 0.1 * math.log(0.3)), rel=1e-6)
    binary = losses.BinaryCrossentropy(label_smoothing=0.5)([[1.0]], [[0.9]])
    assert binary == pytest.approx(-(0.75 * math.log(0.9) + 0.25 * math.log(0.1)), rel=1e-5)


def torch_values(name, y_true, y_pred):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    functional = torch.nn.functional
    target = torch.tensor(y_true, dtype=torch.float64 if y_true.ndim == 3 else torch.int64)
    if name == "categorical":
        return -(target * torch.log(y_pred / y_pred.sum(-1, keepdim=True))).sum(-1)
    if name == "categorical_logits":
        return -((target * 0.9 + 0.1 / 4) * functional.log_softmax(y_pred, -1)).sum(-1)
    if name == "sparse":
        return functional.nll_loss(torch.log(y_pred).flatten(0, 1), target.flatten(), reduction="none").reshape(6, 2)
    if name == "sparse_logits":
        return functional.cross_entropy(y_pred.flatten(0, 1), target.flatten(), reduction="none").reshape(6, 2)
    if name == "binary":
        return functional.binary_cross_entropy(y_pred, target * 0.9 + 0.05, reduction="none").mean(-1)
    if name == "binary_logits":
        return functional.binary_cross_entropy_with_logits(y_pred, target, reduction="none").mean(-1)
    if name == "mse":
        return functional.mse_loss(y_pred, target, reduction="none").mean(-1)
    if name == "mae":
        return functional.l1_loss(y_pred, target, reduction="none").mean(-1)
    return functional.huber_loss(y_pred, target, reduction="none", delta=0.7).mean(-1)


@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_agree_with_pytorch_in_float64(name, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    loss, labels, outputs = LOSSES[name]
    y_true, y_pred = example(labels, outputs, rng)
    values, backward = loss.forward(y_true, y_pred)
    dvalues = rng.normal(size=(6, 2))
    theirs = torch.tensor(y_pred, requires_grad=True)
    expected = torch_values(name, y_true, theirs)
    expected.backward(torch.tensor(dvalues))
    np.testing.assert_allclose(values, expected.detach().numpy(), rtol=1e-12, atol=1e-14)
    gradient = theirs.grad.numpy()
    if name == "sparse":  # PyTorch received probabilities that sum to 1 and did not scale them
        gradient = gradient - (gradient * y_pred).sum(-1, keepdims=True)
    np.testing.assert_allclose(backward(dvalues), gradient, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", LOSSES)
def test_forward_keeps_the_shape_and_the_dtype_of_the_outputs(name, rng):
    loss, labels, outputs = LOSSES[name]
    y_true, y_pred = example(labels, outputs, rng)
    for dtype in (np.float32, np.float64):
        values, backward = loss.forward(y_true, y_pred.astype(dtype))
        dy = backward(np.ones_like(values))
        assert (values.shape, values.dtype) == ((6, 2), dtype)
        assert (dy.shape, dy.dtype) == ((6, 2, 4), dtype)


def test_backward_passes_of_two_batches_do_not_collide(rng):
    loss = losses.MeanSquaredError()
    _, first = loss.forward(np.zeros((2, 1)), np.ones((2, 1), np.float32))
    _, second = loss.forward(np.zeros((2, 1)), np.full((2, 1), 3, np.float32))
    np.testing.assert_array_equal(first(np.ones(2)), [[2], [2]])
    np.testing.assert_array_equal(second(np.ones(2)), [[6], [6]])
    np.testing.assert_array_equal(first(np.ones(2)), [[2], [2]])


@needs.emulator_here
@pytest.mark.parametrize("name", LOSSES)
def test_forward_takes_outputs_of_a_device_and_labels_of_the_host(name, rng):
    loss, labels, outputs = LOSSES[name]
    y_true, y_pred = example(labels, outputs, rng)
    y_pred, dvalues = y_pred.astype(np.float32), rng.normal(size=(6, 2)).astype(np.float32)
    expected, backward = loss.forward(y_true, y_pred)
    gradient = backward(dvalues)
    with choice.using(device="emulator"):
        values, backward = loss.forward(y_true, storage.put(y_pred))
        dy = backward(dvalues)
        assert choose.current().owns(values)
        assert choose.current().owns(dy)
        np.testing.assert_allclose(storage.get(values), expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(storage.get(dy), gradient, rtol=1e-5, atol=1e-6)


@needs.emulator_here
def test_a_users_function_computes_on_the_host_for_any_device():
    def squared(y_true, y_pred):
        error = y_pred - y_true
        return (error**2).mean(axis=-1), lambda dvalues: dvalues[:, None] * 2 * error / error.shape[-1]

    with choice.using(device="emulator"):
        values, backward = losses.forward(
            losses.get(squared), np.zeros((2, 1)), storage.put(np.array([[1], [3]], np.float32))
        )
        np.testing.assert_array_equal(values, [1, 9])
        np.testing.assert_array_equal(storage.get(backward(np.ones(2))), [[2], [6]])
        np.testing.assert_array_equal(losses.mean_squared_error([[1, 2]], [[1, 4]]), [2])


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("sum_over_batch_size", 17 / 3),
        ("mean", 17 / 3),
        ("mean_with_sample_weight", 17 / 3.5),
        ("sum", 17.0),
    ],
)
def test_reductions_by_hand(reduction, expected):
    values, weights = np.array([1, 4, 10], np.float32), [1.0, 1.5, 1.0]
    total, dvalues = losses.reduce(values, weights, reduction)
    assert total == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(dvalues @ values, expected, rtol=1e-6)
    assert dvalues.dtype == np.float32


@pytest.mark.parametrize("reduction", ["none", None])
def test_no_reduction_returns_the_weighted_values(reduction):
    total, dvalues = losses.reduce(np.array([1, 4], np.float32), [2, 3], reduction)
    np.testing.assert_array_equal(total, [2, 12])
    np.testing.assert_array_equal(dvalues, [2, 3])


def test_weights_broadcast_over_the_pixels_of_their_sample():
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    for weights in ([1, 0, 2], [[1], [0], [2]], [[1, 1], [0, 0], [2, 2]]):
        assert losses.reduce(values, weights)[0] == pytest.approx((0 + 1 + 2 * (4 + 5)) / 6)
    assert losses.reduce(values[:, 0], [[1], [0], [2]])[0] == pytest.approx((0 + 2 * 4) / 3)
    assert losses.reduce(values, 2.0)[0] == pytest.approx(5.0)


def test_weights_that_are_all_zero_give_zero_and_not_nan():
    total, dvalues = losses.reduce(np.ones(2, np.float32), [0, 0], "mean_with_sample_weight")
    assert total == 0.0
    np.testing.assert_array_equal(dvalues, [0, 0])
    assert losses.reduce(np.zeros(0, np.float32))[0] == 0.0


def test_weights_of_another_length_are_refused():
    with pytest.raises(ShapeError, match=r"sample_weight has shape \(2,\) and the losses \(3,\)"):
        losses.reduce(np.ones(3, np.float32), [1, 2])


def test_sum_is_taken_in_float64():
    values = np.full(2**20, 0.1, np.float32)
    assert losses.reduce(values, None, "sum")[0] == pytest.approx(float(values[0]) * 2**20, rel=1e-12)


@pytest.mark.parametrize("reduction", ["sum", "mean", "mean_with_sample_weight"])
@pytest.mark.parametrize("shape", [(20, 33), (1, 7), (0, 5), (6, 128), (3, 20000), (5, 4, 9, 31)], ids=str)
def test_many_batches_are_reduced_as_each_one_is(rng, shape, reduction):
    values = rng.exponential(size=shape).astype(np.float32)
    assert reduce_each(values, reduction) == [losses.reduce(batch, None, reduction)[0] for batch in values]
