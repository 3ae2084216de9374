"""matmul, bias and the Dense layer."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_checks import STEP, arguments_of, assert_gradients_agree_with_central_differences

from gpucnn.dispatch.case import Spec
from gpucnn.errors import ArgumentError, KernelError, ShapeError
from gpucnn.layers.dense import Dense
from gpucnn.ops.bias import bias, bias_grad
from gpucnn.ops.matmul import matmul

FLOAT = np.dtype(np.float32)
EXTENTS = st.integers(1, 12)


@settings(deadline=None, max_examples=60)
@given(EXTENTS, EXTENTS, EXTENTS, st.booleans(), st.booleans(), st.integers(0, 2**32 - 1))
def test_matmul_is_the_sum_of_products_transposed_or_not(m, k, n, transpose_a, transpose_b, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-9, 10, (m, k)), rng.integers(-9, 10, (k, n))
    stored_a = np.ascontiguousarray(a.T) if transpose_a else a
    stored_b = np.ascontiguousarray(b.T) if transpose_b else b
    params = {"transpose_a": transpose_a, "transpose_b": transpose_b}
    expected = [[sum(a[i, j] * b[j, o] for j in range(k)) for o in range(n)] for i in range(m)]
    assert matmul(stored_a, stored_b, **params).tolist() == expected
    floats = matmul(stored_a.astype(np.float32), stored_b.astype(np.float32), **params)
    assert floats.dtype == np.float32
    assert floats.tolist() == expected
    specs = Spec(stored_a.shape, FLOAT), Spec(stored_b.shape, FLOAT)
    assert matmul.specs(stored_a, stored_b, **params)[0].shape == (m, n)
    assert matmul.flops(*specs, **params) == 2 * m * k * n
    assert matmul.terms(*specs, **params) == k


PLAIN = {"transpose_a": False, "transpose_b": False}


@pytest.mark.parametrize(
    ("a", "b", "params", "words"),
    [
        ((2, 3), (4, 5), PLAIN, "matmul: K is 3 in a but 4 in b: a (M, K) = (2, 3), b (K, N) = (4, 5)"),
        (
            (2, 3),
            (4, 5),
            {"transpose_a": True, "transpose_b": True},
            "matmul: K is 2 in a but 5 in b: a (K, M) = (2, 3), b (N, K) = (4, 5)",
        ),
        ((2, 3, 4), (4, 5), PLAIN, "matmul: a and b need 2 axes each and have shapes (2, 3, 4) and (4, 5)"),
        ((2, 3), (3,), PLAIN, "matmul: a and b need 2 axes each and have shapes (2, 3) and (3,)"),
    ],
)
def test_matmul_refuses_shapes_that_do_not_fit(a, b, params, words):
    with pytest.raises(ShapeError) as caught:
        matmul(np.zeros(a), np.zeros(b), **params)
    assert str(caught.value) == words


def test_matmul_and_bias_refuse_mixed_dtypes():
    with pytest.raises(ArgumentError, match="a is float64 but b is float32"):
        matmul(np.zeros((2, 2)), np.zeros((2, 2), np.float32), **PLAIN)
    with pytest.raises(ArgumentError, match="x is float64 but b is float32"):
        bias(np.zeros((2, 2)), np.zeros(2, np.float32))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_bias_adds_to_the_last_axis_and_its_gradient_is_the_adjoint(shape, seed):
    rng = np.random.default_rng(seed)
    x, dy, b = rng.integers(-9, 10, shape), rng.integers(-9, 10, shape), rng.integers(-9, 10, shape[-1])
    y = bias(x, b)
    assert all(y[i] == x[i] + b[i[-1]] for i in np.ndindex(*shape))
    assert np.vdot(bias_grad(dy), b) == np.vdot(dy, bias(np.zeros_like(x), b))
    rows = x.size // shape[-1]
    specs = Spec(x.shape, FLOAT), Spec(b.shape, FLOAT)
    assert bias.flops(*specs) == bias_grad.flops(specs[0]) == x.size
    assert bias.terms(*specs) == 2
    assert bias_grad.terms(specs[0]) == rows


def test_bias_by_hand():
    x = np.array([[1, 2], [3, 4], [5, 6]])
    assert bias(x, np.array([10, 20])).tolist() == [[11, 22], [13, 24], [15, 26]]
    assert bias_grad(x).tolist() == [9, 12]


@pytest.mark.parametrize(
    ("x", "b", "words"),
    [
        ((2, 3), (4,), "bias: x has 3 channels but b has shape (4,): x (…, K) = (2, 3)"),
        ((2, 3), (1, 3), "bias: x has 3 channels but b has shape (1, 3): x (…, K) = (2, 3)"),
        ((), (1,), "bias: x needs a last axis of channels and has none"),
    ],
)
def test_bias_refuses_shapes_that_do_not_fit(x, b, words):
    with pytest.raises(ShapeError) as caught:
        bias(np.zeros(x), np.zeros(b))
    assert str(caught.value) == words


def test_bias_grad_needs_an_axis():
    with pytest.raises(ShapeError, match="bias_grad: dy needs a last axis of channels and has none"):
        bias_grad(np.float32(1))


def test_dense_has_the_signature_of_keras():
    assert arguments_of(Dense) == {
        "units": inspect.Parameter.empty,
        "activation": None,
        "use_bias": True,
        "kernel_initializer": "glorot_uniform",
        "bias_initializer": "zeros",
        "kernel_regularizer": None,
        "bias_regularizer": None,
        "activity_regularizer": None,
        "kernel_constraint": None,
        "bias_constraint": None,
    }


def test_dense_by_hand():
    layer = Dense(2, activation="relu", bias_initializer="ones")
    layer.ensure_built((None, 3))
    layer.kernel.assign([[1, -1], [2, -2], [3, -3]])
    assert layer(np.array([[1.0, 1.0, 1.0], [0.0, 0.0, -1.0]])).tolist() == [[7, 0], [0, 4]]


def test_dense_counts_parameters_as_keras():
    for inputs, units, expected in [
        (320, 100, 32_100),
        (1600, 10, 16_010),
        (3136, 128, 401_536),
        (7200, 512, 3_686_912),
    ]:
        layer = Dense(units)
        layer.ensure_built((None, inputs))
        assert layer.count_params() == expected
        assert [w.path for w in layer.weights] == ["dense/kernel", "dense/bias"]
        assert [w.shape for w in layer.weights] == [(inputs, units), (units,)]
        assert layer.flops((None, inputs)) == 2 * inputs * units
    layer = Dense(4, use_bias=False)
    layer.ensure_built((None, 5))
    assert layer.count_params() == 20


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (2, 1, 3, 4)])
@pytest.mark.parametrize("use_bias", [True, False])
def test_dense_acts_on_the_last_axis_and_its_gradients_agree_with_central_differences(shape, use_bias):
    layer = Dense(5, activation="tanh", use_bias=use_bias)
    assert layer(np.zeros(shape)).shape == (*shape[:-1], 5)
    assert layer.compute_output_shape((None, *shape[1:])) == (None, *shape[1:-1], 5)
    assert_gradients_agree_with_central_differences(layer, shape)


def test_dense_leaves_out_the_gradient_of_x_on_request():
    layer = Dense(2)
    layer.ensure_built((None, 4))
    _, backward = layer.forward(np.ones((3, 4), np.float32), STEP, True)
    assert backward(np.ones((3, 2), np.float32), need_dx=False) is None
    assert layer.kernel.gradient.tolist() == [[3, 3]] * 4


def test_backward_writes_gradients_and_does_not_add():
    layer = Dense(2)
    x, dy = np.ones((3, 4), np.float32), np.ones((3, 2), np.float32)
    layer.ensure_built((None, 4))
    for _ in range(2):
        layer.forward(x, STEP, True)[1](dy)
    assert layer.kernel.gradient.tolist() == [[3, 3]] * 4
    assert layer.bias.gradient.tolist() == [3, 3]


def test_linear_stops_before_the_activation():
    layer = Dense(3, activation="softmax")
    x = np.ones((2, 4), np.float32)
    layer.ensure_built((None, 4))
    z, backward = layer.linear(x, STEP, True)
    weight, eps = layer.kernel.value, np.finfo(np.float32).eps
    assert (abs(z - x @ weight) <= (4 + 4**0.5) * eps * (x @ abs(weight))).all()
    dz = np.ones((2, 3), np.float32)
    assert (abs(backward(dz) - dz @ weight.T) <= (4 + 3**0.5) * eps * (dz @ abs(weight.T))).all()
    assert np.array_equal(layer(x), layer.activation(z))


@pytest.mark.parametrize("units", [0, -3, 2.5, "ten", True, None])
def test_dense_refuses_units_other_than_a_positive_integer(units):
    with pytest.raises(ArgumentError, match="give an integer of 1 … "):
        Dense(units)


def test_dense_names_the_present_arguments_for_old_ones():
    with pytest.raises(ArgumentError, match="units"):
        Dense(units=3, output_dim=3)
    with pytest.raises(ArgumentError, match="kernel_initializer"):
        Dense(3, init="uniform")


def test_dense_needs_a_batch_axis():
    with pytest.raises(ShapeError, match="at least 2 axes"):
        Dense(3).ensure_built((None,))


def test_algorithm_chooses_the_kernel_by_name():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    layer = Dense(2, kernel_initializer="ones", algorithm="reference")
    assert layer(x).tolist() == [[3, 3], [12, 12]]
    with pytest.raises(KernelError, match="Requested: magic"):
        Dense(2, algorithm="magic")(x)
