"""Losses: values of Keras, gradients by differences and by PyTorch, and labels of the wrong kind."""

import json
import math
import warnings

import numpy as np
import pytest

from gpucnn import config, device, emulator, losses, registry
from gpucnn.errors import ArgumentError, DataError, ShapeError
from gpucnn.ops import loss as ops

OPS = [op for op in vars(ops).values() if op in registry.declared().values() and op is not ops.scale_rows]
CASES = [(op, case) for op in OPS for case in op.cases if not case.bench]
EPS32 = float(np.finfo(np.float32).eps)


def name_of(pair):
    op, case = pair
    return f"{op.name}-{case.name}"


def in_float64(array):
    return array.astype(np.float64) if array.dtype == np.float32 else array


def one_hot(labels, classes):
    return np.eye(classes, dtype=np.float32)[labels]


# -- ops ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", [p for p in CASES if p[1].name not in ("extreme", "wide")], ids=name_of)
def test_gradient_of_the_op_agrees_with_central_differences(pair, rng):
    """Truncation is O(h²), rounding O(eps / h): with h = 1e-5 in float64 both stay under 1e-7 of values up to 100."""
    op, case = pair
    y_pred, y_true = map(in_float64, (draw.sample(rng) for draw in case.operands))
    _, gradient = op.reference(y_pred, y_true, **case.params)
    h = 1e-5
    for column in range(y_pred.shape[1]):
        low, high = y_pred.copy(), y_pred.copy()
        low[:, column] -= h
        high[:, column] += h
        quotient = (op.reference(high, y_true, **case.params)[0] - op.reference(low, y_true, **case.params)[0]) / (
            2 * h
        )
        if op.name in ("mean_absolute_error", "huber"):
            kinks = np.abs(np.abs(y_pred - y_true)[:, column] - case.params.get("delta", 0.0)) <= h
            quotient = np.where(kinks, gradient[:, column], quotient)
        assert (np.abs(quotient - gradient[:, column]) <= 1e-7 * np.maximum(1, np.abs(gradient[:, column]))).all()


@pytest.mark.parametrize("pair", CASES, ids=name_of)
def test_float32_agrees_with_float64_within_the_stated_ulps(pair, rng):
    op, case = pair
    operands = [draw.sample(rng) for draw in case.operands]
    exact = op.reference(*map(in_float64, operands), **case.params)
    for got, truth in zip(op(*operands, **case.params), exact, strict=True):
        assert got.dtype == np.float32
        assert truth.dtype == np.float64
        assert (np.abs(got - truth) <= op.ulps * EPS32 * np.maximum(1, np.abs(truth))).all()


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_op_leaves_its_operands_alone_and_states_its_shapes(op, rng):
    case = op.cases[2]
    operands = [draw.sample(rng) for draw in case.operands]
    for operand in operands:
        operand.setflags(write=False)
    results = op(*operands, **case.params)
    assert [(r.shape, r.dtype) for r in results] == [(s.shape, s.dtype) for s in op.specs(*operands, **case.params)]


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_op_refuses_operands_that_do_not_fit(op, rng):
    y_pred, y_true = (draw.sample(rng) for draw in op.cases[2].operands)
    for wrong in ((y_pred[:, :0], y_true), (y_pred[0], y_true), (y_pred[:3], y_true)):
        with pytest.raises(ShapeError, match=op.name):
            op(*wrong, **op.cases[2].params)


def test_sparse_ops_refuse_labels_that_are_not_integers(rng):
    with pytest.raises(ShapeError, match="float32 and must be integers"):
        ops.sparse_softmax_cross_entropy(np.zeros((3, 2), np.float32), np.zeros(3, np.float32))


def test_softmax_crossentropy_is_exact_where_the_softmax_saturates():
    logits = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [1e4, 1e4, 1e4]], np.float32)
    values, gradient = ops.sparse_softmax_cross_entropy(logits, np.array([0, 0, 2]))
    np.testing.assert_allclose(values, [0, 2e4, math.log(3)], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0, 0, 0], [-1, 1, 0], [1 / 3, 1 / 3, -2 / 3]], rtol=1e-6, atol=1e-7)
    dense = ops.softmax_cross_entropy(logits, one_hot([0, 0, 2], 3), label_smoothing=0.0)
    np.testing.assert_allclose(dense[0], values, rtol=1e-6)
    np.testing.assert_allclose(dense[1], gradient, atol=1e-7)


def test_sigmoid_crossentropy_is_exact_where_the_sigmoid_saturates():
    logits = np.array([[1e4], [-1e4], [1e4], [-1e4]], np.float32)
    labels = np.array([[1.0], [0.0], [0.0], [1.0]], np.float32)
    values, gradient = ops.sigmoid_binary_cross_entropy(logits, labels, label_smoothing=0.0)
    np.testing.assert_array_equal(values, [0, 0, 1e4, 1e4])
    np.testing.assert_array_equal(gradient[:, 0], [0, 0, 1, -1])


def test_gradients_sum_to_zero_over_the_classes(rng):
    """Adding one number to all logits changes no probability."""
    logits = rng.normal(size=(5, 4))
    _, gradient = ops.softmax_cross_entropy(logits, np.eye(4)[[0, 1, 2, 3, 0]], label_smoothing=0.2)
    assert (np.abs(gradient.sum(axis=1)) <= 1e-15).all()


def test_scale_rows_multiplies_each_row_by_its_factor():
    gradient = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    np.testing.assert_array_equal(ops.scale_rows(gradient, np.array([2, -1], np.float32)), [[2, 4, 6], [-4, -5, -6]])


@pytest.mark.parametrize("factors", [np.ones(3, np.float32), np.ones((2, 1), np.float32), np.ones(2)])
def test_scale_rows_refuses_factors_that_do_not_fit(factors):
    with pytest.raises(ShapeError, match="scale_rows"):
        ops.scale_rows(np.ones((2, 3), np.float32), factors)


# -- values ------------------------------------------------------------------------------------------------------------

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
    """In float32, 1 - 1e-7 is 1 - 2⁻²³; so a certain mistake costs log(2²³), or log(10⁷) at the other end."""
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


LOSSES = {
    "categorical": (losses.CategoricalCrossentropy(), "rows", "probabilities"),
    "categorical_logits": (losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1), "rows", "logits"),
    "sparse": (losses.SparseCategoricalCrossentropy(), "numbers", "probabilities"),
    "sparse_logits": (losses.SparseCategoricalCrossentropy(from_logits=True), "numbers", "logits"),
    "binary": (losses.BinaryCrossentropy(label_smoothing=0.1), "rows", "probabilities"),
    "binary_logits": (losses.BinaryCrossentropy(from_logits=True), "rows", "logits"),
    "mse": (losses.MeanSquaredError(), "rows", "logits"),
    "mae": (losses.MeanAbsoluteError(), "rows", "logits"),
    "huber": (losses.Huber(0.7), "rows", "logits"),
}


def example(labels, outputs, rng):
    """Labels and float64 outputs of 6 samples with 2 pixels of 4 classes."""
    numbers = rng.integers(0, 4, (6, 2))
    y_pred = rng.normal(size=(6, 2, 4)) * 3
    if outputs == "probabilities":
        y_pred = np.exp(y_pred) / np.exp(y_pred).sum(axis=-1, keepdims=True)
    return (one_hot(numbers, 4) if labels == "rows" else numbers), y_pred


def torch_values(name, y_true, y_pred):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    functional = torch.nn.functional
    wanted = torch.tensor(y_true, dtype=torch.float64 if y_true.ndim == 3 else torch.int64)
    if name == "categorical":
        return -(wanted * torch.log(y_pred / y_pred.sum(-1, keepdim=True))).sum(-1)
    if name == "categorical_logits":
        return -((wanted * 0.9 + 0.1 / 4) * functional.log_softmax(y_pred, -1)).sum(-1)
    if name == "sparse":
        return functional.nll_loss(torch.log(y_pred).flatten(0, 1), wanted.flatten(), reduction="none").reshape(6, 2)
    if name == "sparse_logits":
        return functional.cross_entropy(y_pred.flatten(0, 1), wanted.flatten(), reduction="none").reshape(6, 2)
    if name == "binary":
        return functional.binary_cross_entropy(y_pred, wanted * 0.9 + 0.05, reduction="none").mean(-1)
    if name == "binary_logits":
        return functional.binary_cross_entropy_with_logits(y_pred, wanted, reduction="none").mean(-1)
    if name == "mse":
        return functional.mse_loss(y_pred, wanted, reduction="none").mean(-1)
    if name == "mae":
        return functional.l1_loss(y_pred, wanted, reduction="none").mean(-1)
    return functional.huber_loss(y_pred, wanted, reduction="none", delta=0.7).mean(-1)


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
    if name == "sparse":  # PyTorch was given probabilities that sum to 1 and did not scale them
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


def test_backward_of_two_batches_do_not_collide(rng):
    loss = losses.MeanSquaredError()
    _, first = loss.forward(np.zeros((2, 1)), np.ones((2, 1), np.float32))
    _, second = loss.forward(np.zeros((2, 1)), np.full((2, 1), 3, np.float32))
    np.testing.assert_array_equal(first(np.ones(2)), [[2], [2]])
    np.testing.assert_array_equal(second(np.ones(2)), [[6], [6]])
    np.testing.assert_array_equal(first(np.ones(2)), [[2], [2]])


@pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))
@pytest.mark.parametrize("name", LOSSES)
def test_forward_takes_outputs_of_a_device_and_labels_of_the_host(name, rng):
    loss, labels, outputs = LOSSES[name]
    y_true, y_pred = example(labels, outputs, rng)
    y_pred, dvalues = y_pred.astype(np.float32), rng.normal(size=(6, 2)).astype(np.float32)
    expected, backward = loss.forward(y_true, y_pred)
    gradient = backward(dvalues)
    with registry.using(device="emulator"):
        values, backward = loss.forward(y_true, device.put(y_pred))
        dy = backward(dvalues)
        assert isinstance(values, np.ndarray)
        assert not isinstance(dy, np.ndarray)
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(device.get(dy), gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))
def test_a_function_of_the_users_own_computes_on_the_host_for_any_device():
    def squared(y_true, y_pred):
        error = y_pred - y_true
        return (error**2).mean(axis=-1), lambda dvalues: dvalues[:, None] * 2 * error / error.shape[-1]

    with registry.using(device="emulator"):
        values, backward = losses.forward(
            losses.get(squared), np.zeros((2, 1)), device.put(np.array([[1], [3]], np.float32))
        )
        np.testing.assert_array_equal(values, [1, 9])
        np.testing.assert_array_equal(device.get(backward(np.ones(2))), [[2], [6]])
        np.testing.assert_array_equal(losses.mean_squared_error([[1, 2]], [[1, 4]]), [2])


# -- reduction ---------------------------------------------------------------------------------------------------------


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


# -- labels of the wrong kind ------------------------------------------------------------------------------------------

CATEGORICAL = losses.CategoricalCrossentropy()
SPARSE = losses.SparseCategoricalCrossentropy()
BINARY = losses.BinaryCrossentropy()
MSE = losses.MeanSquaredError()


@pytest.mark.parametrize(
    ("loss", "y", "outputs", "error", "words"),
    [
        (
            CATEGORICAL,
            np.arange(5),
            (None, 10),
            DataError,
            r"use sparse_categorical_crossentropy, or utils\.to_categorical\(y, 10\)",
        ),
        (CATEGORICAL, np.zeros((5, 1)), (None, 10), DataError, "use sparse_categorical_crossentropy"),
        (CATEGORICAL, np.zeros((5, 9)), (None, 10), ShapeError, "y has 9 columns and the model 10 outputs"),
        (CATEGORICAL, np.zeros((5, 4, 4)), (None, 10), ShapeError, r"\(5, 4, 4\) and the outputs have shape \(n, 10\)"),
        (CATEGORICAL, np.zeros((5, 10)), (4, 10), ShapeError, "same number of samples"),
        (CATEGORICAL, -np.ones((5, 2)), (None, 2), DataError, r"y\[0, 0\] is -1\.0.*cannot be negative"),
        (CATEGORICAL, np.ones((5, 1)), (None, 1), ShapeError, "use binary_crossentropy with a sigmoid"),
        (SPARSE, np.eye(5)[:3], (None, 5), DataError, r"use categorical_crossentropy, or y\.argmax\(axis=-1\)"),
        (SPARSE, np.zeros((3, 2)), (None, 5), ShapeError, "y has 2 columns"),
        (SPARSE, [0, 1, 5], (None, 5), DataError, r"y\[2\] is 5, out of range .* 5 outputs, for the classes 0 … 4"),
        (SPARSE, [0, -1], (None, 5), DataError, r"y\[1\] is -1, out of range"),
        (SPARSE, [1, 2, 3], (None, 3), DataError, r"labels are 1 … 3 .* give y - 1"),
        (SPARSE, [0.0, 1.5], (None, 3), DataError, r"y\[1\] is 1\.5 .* whole class numbers"),
        (SPARSE, [0.0, np.nan], (None, 3), DataError, r"y\[1\] is nan"),
        (SPARSE, ["cat", "dog"], (None, 3), DataError, "dtype <U3: give numbers"),
        (SPARSE, [0, 1], (None, 1), ShapeError, "use binary_crossentropy with a sigmoid"),
        (BINARY, np.eye(2)[[0, 1]], (None, 1), ShapeError, r"give y\[:, 1\], or use 2 outputs"),
        (BINARY, [-1, 1, 1], (None, 1), DataError, r"give \(y \+ 1\) / 2"),
        (BINARY, [0, 1, 2], (None, 1), DataError, r"y\[2\] is 2, .* use sparse_categorical_crossentropy"),
        (BINARY, [0, 1, 2], (None, 3), DataError, "for class numbers use sparse_categorical_crossentropy"),
        (BINARY, [0, np.inf], (None, 1), DataError, r"y\[1\] is inf"),
        (MSE, [0, 1, 2], (None, 10), DataError, "for class numbers use sparse_categorical_crossentropy"),
        (MSE, [[0, np.nan]], (None, 2), DataError, r"y\[0, 1\] is nan"),
        (losses.Huber(), np.zeros((3, 4)), (None, 5), ShapeError, "huber: .* y has 4 columns"),
        (losses.MeanAbsoluteError(), np.zeros((3, 4)), (None, 5), ShapeError, "mean_absolute_error"),
    ],
)
def test_labels_of_the_wrong_kind_name_the_mistake_and_the_fix(loss, y, outputs, error, words):
    with pytest.raises(error, match=words):
        losses.check_labels(loss, y, outputs)


@pytest.mark.parametrize(
    ("loss", "y", "outputs"),
    [
        (CATEGORICAL, np.eye(3), (None, 3)),
        (CATEGORICAL, np.full((2, 3), 1 / 3), (2, 3)),
        (SPARSE, np.arange(3), (None, 3)),
        (SPARSE, np.arange(3.0)[:, None], (None, 3)),
        (SPARSE, np.array([True, False]), (None, 2)),
        (SPARSE, np.zeros((2, 4, 4), np.uint8), (None, 4, 4, 7)),
        (SPARSE, np.zeros(0, np.int64), (None, 7)),
        (BINARY, [0, 1], (None, 1)),
        (BINARY, [[0.5], [1]], (None, 1)),
        (BINARY, np.eye(3), (None, 3)),
        (MSE, [1.5, -3], (None, 1)),
        (MSE, np.ones((2, 3)), (None, 3)),
        (losses.get(lambda y, p: None), ["anything"], (None, 3)),
    ],
)
def test_labels_of_the_right_kind_pass(loss, y, outputs):
    losses.check_labels(loss, y, outputs)


def test_a_wrong_label_is_found_in_any_batch(rng):
    """A generator's later batches are never checked beforehand; -1 would index the last class in silence."""
    with pytest.raises(DataError, match=r"y\[1\] is -1"):
        SPARSE.forward(np.array([0, -1]), rng.random((2, 3)).astype(np.float32))


def test_labels_without_the_last_axis_of_one_fit_single_outputs():
    y_pred = np.array([[1.0], [3.0]], np.float32)
    np.testing.assert_array_equal(losses.mean_squared_error([0, 1], y_pred), [1, 4])
    np.testing.assert_array_equal(losses.mean_squared_error([[0], [1]], y_pred[:, 0]), [1, 4])
    _, backward = MSE.forward(np.array([[0.0], [1.0]]), y_pred[:, 0])
    np.testing.assert_array_equal(backward(np.ones(2, np.float32)), [2, 4])


def test_a_single_number_is_no_output():
    with pytest.raises(ShapeError, match="one axis at least"):
        MSE([1.0], 2.0)


def test_arrays_of_the_user_are_not_written_to(rng):
    y, p = one_hot([0, 1], 2), rng.random((2, 2)).astype(np.float32)
    for array in (y, p):
        array.setflags(write=False)
    for loss in (CATEGORICAL, BINARY, MSE):
        loss(y, p)
        values, backward = loss.forward(y, p)
        backward(np.ones_like(values))


# -- names, arguments, functions of one's own --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        ("mse", losses.MeanSquaredError),
        ("MSE", losses.MeanSquaredError),
        ("mean_squared_error", losses.MeanSquaredError),
        ("MeanAbsoluteError", losses.MeanAbsoluteError),
        ("mae", losses.MeanAbsoluteError),
        ("bce", losses.BinaryCrossentropy),
        ("huber", losses.Huber),
        (losses.huber, losses.Huber),
        (losses.sparse_categorical_crossentropy, losses.SparseCategoricalCrossentropy),
        (losses.CategoricalCrossentropy, losses.CategoricalCrossentropy),
        ({"class_name": "Huber", "config": {"delta": 2.0}}, losses.Huber),
    ],
)
def test_get_finds_names_functions_classes_and_descriptions(identifier, expected):
    assert type(losses.get(identifier)) is expected


def test_get_returns_objects_and_none_as_they_are():
    assert losses.get(MSE) is MSE
    assert losses.get(None) is None


@pytest.mark.parametrize("name", ["Hinge", "hinge", "kl_divergence", "KLDivergence", "mape"])
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


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: losses.MeanSquaredError(reduction="average"),
            r"reduction='average'\): use one of 'sum_over_batch_size'",
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
def test_wrong_arguments_are_refused(make, words):
    with pytest.raises(ArgumentError, match=words):
        make()


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
