"""The ops of losses: gradients by differences, float32 against float64, and operands that do not fit."""

import math

import numpy as np
import pytest

from gpucnn.dispatch.op import declared
from gpucnn.errors import ShapeError
from gpucnn.ops import loss as ops

OPS = [op for op in vars(ops).values() if op in declared().values() and op is not ops.scale_rows]
CASES = [(op, case) for op in OPS for case in op.cases if not case.bench]
EPS32 = float(np.finfo(np.float32).eps)


def name_of(pair):
    op, case = pair
    return f"{op.name}-{case.name}"


def in_float64(array):
    return array.astype(np.float64) if array.dtype == np.float32 else array


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
    dense = ops.softmax_cross_entropy(logits, np.eye(3, dtype=np.float32)[[0, 0, 2]], label_smoothing=0.0)
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
