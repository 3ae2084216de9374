"""Penalties on weights, and the conditions that each update restores."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from refusals import refuses

from gpucnn import constraints, regularizers
from gpucnn.config import deserialize, serialize
from gpucnn.errors import ArgumentError

W = np.array([[1.0, -2.0], [0.0, 3.0]], np.float32)
EPS32 = float(np.finfo(np.float32).eps)

# -- regularizers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("regularizer", "penalty"),
    [
        (regularizers.L1(0.5), 3.0),
        (regularizers.L2(0.5), 7.0),
        (regularizers.L1L2(0.5, 0.25), 6.5),
        (regularizers.L1L2(), 0.0),
    ],
)
def test_penalties_worked_by_hand(regularizer, penalty):
    assert regularizer(W) == penalty


@pytest.mark.parametrize(
    ("regularizer", "gradient"),
    [
        (regularizers.L1(0.5), [[0.5, -0.5], [0.0, 0.5]]),
        (regularizers.L2(0.5), [[1.0, -2.0], [0.0, 3.0]]),
        (regularizers.L1L2(0.5, 0.25), [[1.0, -1.5], [0.0, 2.0]]),
        (regularizers.L1L2(), [[0.0, 0.0], [0.0, 0.0]]),
    ],
)
def test_gradients_worked_by_hand(regularizer, gradient):
    got = regularizer.gradient(W)
    assert np.array_equal(got, gradient)
    assert got.dtype == np.float32


@settings(deadline=None, max_examples=40)
@given(
    x=arrays(np.float64, 5, elements=st.floats(0.1, 3.0)),
    signs=arrays(np.bool_, 5),
    l1=st.floats(0, 1),
    l2=st.floats(0, 1),
)
def test_the_gradient_is_the_derivative_of_the_penalty(x, signs, l1, l2):
    x = np.where(signs, x, -x)
    regularizer, h = regularizers.L1L2(l1, l2), 1e-4
    for i, slope in enumerate(regularizer.gradient(x)):
        shift = np.zeros(5)
        shift[i] = h
        # Central differences of a parabola are exact, up to the rounding of two penalties below 60.
        difference = (regularizer(x + shift) - regularizer(x - shift)) / (2 * h)
        assert abs(difference - slope) <= 10 * 60 * np.finfo(np.float64).eps / h


def test_a_penalty_is_summed_in_float64():
    x = np.full(2**20, 0.1, np.float32)
    assert abs(regularizers.L2(1.0)(x) / (2**20 * float(np.float32(0.1)) ** 2) - 1) <= 1e-12
    assert abs(regularizers.L1(1.0)(x) / (2**20 * float(np.float32(0.1))) - 1) <= 1e-12


def test_strings_mean_the_defaults_of_keras():
    assert regularizers.get("l1").l1 == 0.01
    assert regularizers.get("l2").l2 == 0.01
    both = regularizers.get("l1_l2")
    assert (both.l1, both.l2) == (0.0, 0.0)
    assert regularizers.get("L1L2") is not None
    assert regularizers.get(None) is None


def test_lower_case_regularizers_are_the_classes():
    assert regularizers.l2(0.1).l2 == 0.1
    assert (regularizers.l1_l2(l1=0.1, l2=0.2).l1, regularizers.l1(0.3).l1) == (0.1, 0.3)


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, "0.1", None, True])
def test_a_factor_must_be_a_number_of_zero_or_above(value):
    with pytest.raises(ArgumentError, match=r"L2\(l2="):
        regularizers.L2(value)


def test_a_users_regularizer_needs_a_gradient():
    with pytest.raises(ArgumentError, match="Cubic defines __call__ only: define gradient"):

        class Cubic(regularizers.Regularizer):
            def __call__(self, x):
                return float(np.sum(np.abs(x) ** 3))


def test_a_users_regularizer():
    class Cubic(regularizers.Regularizer):
        def __call__(self, x):
            return float(np.sum(np.abs(x) ** 3))

        def gradient(self, x):
            return 3 * x * np.abs(x)

    mine = Cubic()
    assert regularizers.get(mine) is mine
    assert mine(W) == 36.0


def test_absent_regularizers_say_what_to_do():
    with pytest.raises(ArgumentError, match="OrthogonalRegularizer is not in gpucnn: subclass Regularizer"):
        _ = regularizers.OrthogonalRegularizer
    with pytest.raises(ArgumentError, match="it is called l1_l2"):
        _ = regularizers.l1l2


# -- constraints -------------------------------------------------------------------------------------------------------


def norms(w, axis):
    return np.sqrt(np.sum(np.square(w.astype(np.float64)), axis=axis))


def test_max_norm_scales_down_only_what_is_too_long():
    w = np.array([[3.0, 0.3], [4.0, 0.4]], np.float32)
    got = constraints.MaxNorm(2.0)(w)
    assert np.allclose(got, [[1.2, 0.3], [1.6, 0.4]], rtol=1e-6, atol=0)


def test_unit_norm_worked_by_hand():
    w = np.array([[3.0, 0.0], [4.0, 0.5]], np.float32)
    assert np.allclose(constraints.UnitNorm()(w), [[0.6, 0.0], [0.8, 1.0]], rtol=1e-6, atol=0)


def test_non_neg_keeps_what_is_positive():
    assert np.array_equal(constraints.NonNeg()(W), [[1.0, 0.0], [0.0, 3.0]])


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(1.0, [[1.2, 0.6], [1.6, 0.8]]), (0.5, [[2.1, 0.45], [2.8, 0.6]]), (0.0, [[3.0, 0.3], [4.0, 0.4]])],
)
def test_min_max_norm_moves_by_its_rate(rate, expected):
    w = np.array([[3.0, 0.3], [4.0, 0.4]], np.float32)
    assert np.allclose(constraints.MinMaxNorm(1.0, 2.0, rate)(w), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("axis", [0, 1, -1, [0, 1], (0, 1, 2), [0, 1, 2]])
def test_the_axes_are_those_the_norm_is_taken_over(axis, rng):
    w = rng.normal(size=(3, 3, 4, 5)).astype(np.float32)
    got = constraints.UnitNorm(axis)(w)
    over = axis if isinstance(axis, int) else tuple(axis)
    # Division by 1e-7 + norm, and float32 rounding of a sum of at most 36 squares.
    smallest = norms(w, over).min()
    assert np.abs(norms(got, over) - 1.0).max() <= 1e-7 / smallest + 40 * EPS32


weights = arrays(np.float32, (3, 4), elements=st.floats(-10, 10, width=32))


@settings(deadline=None, max_examples=60)
@given(w=weights, bound=st.floats(0.01, 5), axis=st.sampled_from([0, 1, (0, 1)]))
def test_norms_obey_max_norm(w, bound, axis):
    got = constraints.MaxNorm(bound, axis)(w)
    assert np.all(norms(got, axis) <= bound * (1 + 16 * EPS32))
    assert got.dtype == np.float32


@settings(deadline=None, max_examples=60)
@given(w=weights, low=st.sampled_from([0.0, 0.125, 1.0]), width=st.floats(0, 3))
def test_norms_obey_min_max_norm(w, low, width):
    long = norms(w, 0) > 1e-3
    got = norms(constraints.MinMaxNorm(low, low + width)(w), 0)
    # 1e-7 in the denominator shortens a norm of 1e-3 or more by at most one part in ten thousand.
    assert np.all(got <= (low + width) * (1 + 16 * EPS32))
    assert np.all(got[long] >= low * (1 - 1e-4 - 16 * EPS32))


@pytest.mark.parametrize(
    "constraint",
    [constraints.MaxNorm(), constraints.UnitNorm(), constraints.NonNeg(), constraints.MinMaxNorm(0.5)],
    ids=lambda c: type(c).__name__,
)
def test_constraints_leave_their_input_alone_and_zero_weights_finite(constraint):
    before = W.copy()
    constraint(W)
    assert np.array_equal(W, before)
    assert np.array_equal(constraint(np.zeros((3, 2), np.float32)), np.zeros((3, 2)))


def test_lower_case_constraints_are_the_classes():
    assert constraints.max_norm(3.0).max_value == 3.0
    assert (constraints.non_neg, constraints.unit_norm) == (constraints.NonNeg, constraints.UnitNorm)
    assert constraints.min_max_norm is constraints.MinMaxNorm


def test_defaults_are_those_of_keras():
    assert (constraints.MaxNorm().max_value, constraints.MaxNorm().axis) == (2, 0)
    constraint = constraints.MinMaxNorm()
    assert (constraint.min_value, constraint.max_value, constraint.rate, constraint.axis) == (0.0, 1.0, 1.0, 0)


def test_a_description_gives_the_same_constraint():
    w = np.random.default_rng(0).normal(size=(3, 3, 2, 4)).astype(np.float32)
    constraint = constraints.MaxNorm(0.5, axis=[0, 1, 2])
    assert np.array_equal(constraint(w), deserialize(serialize(constraint))(w))


test_wrong_constraints_are_refused = refuses(
    ArgumentError,
    [
        (lambda: constraints.MaxNorm(-1.0), r"MaxNorm\(max_value=-1.0\): give a number of 0 or more"),
        (lambda: constraints.MinMaxNorm(2.0, 1.0), "must hold, not 2.0 and 1.0"),
        (lambda: constraints.MinMaxNorm(rate=1.5), r"rate=1.5\): give a number of 0 … 1"),
        (lambda: constraints.MaxNorm(m=2), "it is now called max_value"),
        (lambda: constraints.maxnorm, "it is called max_norm"),
        (lambda: constraints.get("maxnorm"), "did you mean 'max_norm'"),
    ],
)
