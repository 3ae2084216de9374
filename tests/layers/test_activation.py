"""Activation functions: values, gradients, names, and the layers that consist of one."""

import json
import math
import weakref

import numpy as np
import pytest
from differences import slope
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_checks import EPS, STEP
from refusals import refuses

from gpucnn import activations, config, layers
from gpucnn.dispatch.case import Spec
from gpucnn.errors import ArgumentError, ShapeError
from gpucnn.ops.activation import (
    ALPHAS,
    FUNCTIONS,
    SLOPES_AT_RESULTS,
    activation,
    activation_grad,
    clipped_relu,
    clipped_relu_grad,
    log_softmax,
    log_softmax_grad,
    softmax,
    softmax_grad,
)

KINKS = {"relu6": (0, 6), "hard_sigmoid": (-3, 3), "hard_silu": (-3, 3), "hard_tanh": (-1, 1)}
KINKS |= {"hard_shrink": (-0.5, 0.5), "soft_shrink": (-0.5, 0.5)}


def value(function, *x, alpha=None):
    alpha = ALPHAS.get(function, 0.0) if alpha is None else alpha
    return activation(np.array(x, np.float64), function=function, alpha=alpha)


@pytest.mark.parametrize(
    ("function", "x", "y"),
    [
        ("relu", (-2, 0, 3), (0, 0, 3)),
        ("relu6", (-2, 5, 7), (0, 5, 6)),
        ("leaky_relu", (-2, 0, 3), (-0.4, 0, 3)),
        ("elu", (-1, 0, 2), (1 / math.e - 1, 0, 2)),
        ("selu", (0, 2), (0, 2.1014019747109611)),
        ("celu", (-1, 2), (1 / math.e - 1, 2)),
        ("sigmoid", (0, math.log(3)), (0.5, 0.75)),
        ("log_sigmoid", (0, math.log(3)), (-math.log(2), math.log(0.75))),
        ("hard_sigmoid", (-3, 0, 1.5, 4), (0, 0.5, 0.75, 1)),
        ("tanh", (0, math.log(2)), (0, 0.6)),
        ("tanh_shrink", (0, math.log(2)), (0, math.log(2) - 0.6)),
        ("hard_tanh", (-2, 0.5, 2), (-1, 0.5, 1)),
        ("hard_shrink", (-0.5, 0.25, 0.75), (0, 0, 0.75)),
        ("soft_shrink", (-1, 0.25, 0.75), (-0.5, 0, 0.25)),
        ("softplus", (0, math.log(3)), (math.log(2), math.log(4))),
        ("softsign", (-1, 0, 3), (-0.5, 0, 0.75)),
        ("silu", (0, math.log(3)), (0, 0.75 * math.log(3))),
        ("hard_silu", (-3, 0, 1.5, 4), (0, 0, 1.125, 4)),
        ("gelu", (0, 1, -1), (0, 0.84134474606854293, -0.15865525393145707)),
        ("gelu_tanh", (0, 1), (0, 0.84119199060827676)),
        ("mish", (0, math.log(3)), (0, math.log(3) * 15 / 17)),
        ("exponential", (0, math.log(3)), (1, 3)),
    ],
)
def test_values_worked_by_hand(function, x, y):
    error = np.abs(value(function, *x) - np.array(y))
    assert (error <= 4 * EPS * np.maximum(1, np.abs(y))).all()


def test_every_function_has_a_value_worked_by_hand():
    marks = test_values_worked_by_hand.pytestmark
    assert {row[0] for row in marks[0].args[1]} == set(FUNCTIONS)


def test_gelu_has_the_rounding_of_float64_over_all_sizes():
    x = np.concatenate([np.linspace(-7, 7, 20001), np.linspace(-0.7, 0.7, 2001)])
    exact = np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x])
    assert np.abs(value("gelu", *x) - exact).max() <= 8 * EPS


@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradients_agree_with_central_differences(function):
    x = np.linspace(-8, 8, 1601) + 1 / 3000
    step = 1e-4
    x = x[np.all([np.abs(x - kink) > 4 * step for kink in KINKS.get(function, (0,))], axis=0)]
    near, far = ((value(function, *(x + h)) - value(function, *(x - h))) / (2 * h) for h in (step, 2 * step))
    alpha = ALPHAS.get(function, 0.0)
    got = activation_grad(np.full_like(x, 2.0), x, function=function, alpha=alpha)
    # Truncation is less than the change at twice the step; rounding of |y| is divided by the step.
    bound = np.abs(far - near) + 16 * EPS * (1 + np.abs(value(function, *x))) / step
    assert (np.abs(got / 2 - near) <= bound).all()


@pytest.mark.parametrize("function", sorted(SLOPES_AT_RESULTS))
def test_a_function_whose_slope_is_the_same_at_its_result_does_not_keep_its_argument(function):
    tiny = np.finfo(np.float32).smallest_subnormal
    values = [-np.inf, -1e4, -1.0, -tiny, -0.0, 0.0, tiny, 1.0, np.nextafter(np.float32(6), 0), 6, 7, np.inf, np.nan]
    x, dy = np.array(values, np.float32), np.linspace(-2, 3, len(values), dtype=np.float32)
    expected = activation_grad(dy, x, function=function, alpha=ALPHAS.get(function, 0.0))
    y, backward = activations.Elementwise(function).forward(x)
    argument = weakref.ref(x)
    del x
    assert argument() is None and len(y) == len(values)
    assert backward(dy).tobytes() == expected.tobytes()


def test_a_bent_function_keeps_its_argument():
    x, dy = np.array([-1.0, 1.0], np.float32), np.ones(2, np.float32)
    assert activations.Elementwise("leaky_relu", -0.5).forward(x)[1](dy).tolist() == [-0.5, 1]


@pytest.mark.parametrize("alpha", [0.25, 1.75])
@pytest.mark.parametrize("function", ALPHAS)
def test_the_parameter_acts_on_values_and_gradients(function, alpha):
    x, h = np.array([-2.3, -1.1, 0.3, 0.9, 2.6]), 1e-4
    central = (value(function, *(x + h), alpha=alpha) - value(function, *(x - h), alpha=alpha)) / (2 * h)
    got = activation_grad(np.ones_like(x), x, function=function, alpha=alpha)
    assert np.abs(got - central).max() <= h * h * (1 + 1 / alpha) ** 2 + 16 * EPS / h
    assert (value(function, *x, alpha=alpha) != value(function, *x, alpha=2 * alpha)).any()


def test_slopes_at_kinks_are_those_of_the_lower_side():
    at = {"relu": (0, 0), "relu6": (0, 0), "leaky_relu": (0, 0.2), "elu": (0, 1), "hard_tanh": (-1, 0)}
    for function, (kink, expected) in at.items():
        x = np.array([kink], np.float64)
        got = activation_grad(np.ones(1), x, function=function, alpha=ALPHAS.get(function, 0.0))
        assert got.item() == expected, function


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_large_inputs_stay_finite_and_silent_and_keep_their_dtype(function, dtype):
    x = np.array([-1e4, -100, -1e-30, 0, 1e-30, 100, 1e4], dtype)
    alpha = ALPHAS.get(function, 0.0)
    y = activation(x, function=function, alpha=alpha)
    dx = activation_grad(np.ones_like(x), x, function=function, alpha=alpha)
    assert y.dtype == dx.dtype == dtype
    finite = x <= (-1e-30 if function == "exponential" else 1e4)
    assert np.isfinite(y[finite]).all()
    assert np.isfinite(dx[finite]).all()
    assert np.isnan(activation(np.array([np.nan], dtype), function=function, alpha=alpha)).all()


def test_the_exponential_of_a_large_number_is_infinite_and_silent():
    x = np.array([1e4], np.float32)
    assert activations.exponential(x) == np.inf
    assert activation_grad(x, x, function="exponential", alpha=0.0) == np.inf


@pytest.mark.parametrize("negative_slope", [0.0, 0.25])
@pytest.mark.parametrize("threshold", [0.0, 1.0])
@pytest.mark.parametrize("max_value", [math.inf, 3.0])
def test_clipped_relu_has_three_pieces(max_value, threshold, negative_slope):
    params = {"max_value": max_value, "threshold": threshold, "negative_slope": negative_slope}
    x = np.array([-4.0, 0.5 * threshold, 2.0, 8.0])
    below = negative_slope * (x[:2] - threshold)
    assert clipped_relu(x, **params).tolist() == [*below, 2.0, min(8.0, max_value)]
    dy = np.array([1.0, 2.0, 4.0, 8.0])
    expected = [negative_slope, 2 * negative_slope, 4.0, 8.0 * (max_value > 8)]
    assert clipped_relu_grad(dy, x, **params).tolist() == expected


def test_the_softmax_of_logs_is_what_they_are_logs_of():
    x = np.log([[1, 2, 5], [3, 3, 2]])
    assert np.abs(softmax(x) - np.array([[1, 2, 5], [3, 3, 2]]) / 8).max() <= 4 * EPS
    assert np.abs(log_softmax(x) - np.log(np.array([[1, 2, 5], [3, 3, 2]]) / 8)).max() <= 8 * EPS


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_stays_finite_at_ten_thousand(dtype):
    x = np.array([[1e4, 0, -1e4], [1e4, 1e4, 1e4], [-1e4, -1e4, 1e4]], dtype)
    y, z = softmax(x), log_softmax(x)
    assert y.dtype == z.dtype == dtype
    assert y[0].tolist() == [1, 0, 0]
    assert y[2].tolist() == [0, 0, 1]
    assert (np.abs(y[1] - 1 / 3) <= np.finfo(dtype).eps).all()
    assert z[0].tolist() == [0, -1e4, -2e4]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 5), st.integers(1, 9), st.floats(-50, 50), st.integers(0, 2**32 - 1))
def test_softmax_sums_to_one_and_ignores_a_shift(n, k, shift, seed):
    x = np.random.default_rng(seed).normal(0, 5, (n, k))
    y = softmax(x)
    assert (y >= 0).all()
    assert (np.abs(y.sum(axis=-1) - 1) <= k * EPS).all()
    assert np.abs(softmax(x + shift) - y).max() <= 16 * EPS * (1 + abs(shift) + np.abs(x).max())


@pytest.mark.parametrize(("function", "gradient"), [(softmax, softmax_grad), (log_softmax, log_softmax_grad)])
def test_softmax_gradients_agree_with_central_differences(function, gradient, rng):
    for shape in ((3, 1), (2, 7), (2, 3, 5)):
        x, direction, dy = (rng.normal(size=shape) for _ in range(3))
        expected, bound = slope(function, x, direction, dy)
        assert abs(np.vdot(gradient(dy, function(x)), direction) - expected) <= bound


THEIRS = {
    "relu6": "relu6",
    "leaky_relu": lambda F, x: F.leaky_relu(x, 0.2),
    "gelu_tanh": lambda F, x: F.gelu(x, approximate="tanh"),
    "hard_sigmoid": lambda F, x: F.relu6(x + 3) / 6,  # PyTorch's hardsigmoid has 1/6 in float32 in the gradient
    "hard_silu": "hardswish",
    "hard_tanh": "hardtanh",
    "hard_shrink": "hardshrink",
    "soft_shrink": "softshrink",
    "tanh_shrink": "tanhshrink",
    "log_sigmoid": "logsigmoid",
    "exponential": lambda F, x: x.exp(),
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_values_and_gradients_agree_with_pytorch(function, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, dy = rng.uniform(-7, 7, (5, 40)), rng.normal(size=(5, 40))
    theirs, their_x = THEIRS.get(function, function), torch.tensor(x, requires_grad=True)
    functional = torch.nn.functional
    y = theirs(functional, their_x) if callable(theirs) else getattr(functional, theirs)(their_x)
    y.backward(torch.tensor(dy))
    alpha = ALPHAS.get(function, 0.0)
    scale = 32 * EPS * np.maximum(1, np.abs(y.detach().numpy()))
    assert (np.abs(activation(x, function=function, alpha=alpha) - y.detach().numpy()) <= scale).all()
    assert (np.abs(activation_grad(dy, x, function=function, alpha=alpha) - their_x.grad.numpy()) <= 8 * scale).all()


# -- names and objects -------------------------------------------------------------------------------------------------


def test_every_name_of_keras_is_found():
    names = """relu leaky_relu relu6 softmax elu selu celu softplus softsign silu swish gelu tanh sigmoid hard_sigmoid
        hard_silu hard_swish exponential linear mish log_softmax log_sigmoid hard_tanh hard_shrink soft_shrink
        tanh_shrink"""
    x = np.array([[-1.0, 0.5, 2.0]], np.float32)
    for name in names.split():
        named, function = activations.get(name), getattr(activations, name)
        assert activations.get(function) is named
        assert np.array_equal(named(x), function(x)), name
        assert named(x).dtype == np.float32
        assert repr(named) == f"<activation {named.name}>"
    assert activations.get(None) is activations.get("linear")


def test_functions_take_the_arguments_of_keras():
    x = [-2.0, -0.25, 4.0]
    assert activations.relu(x).tolist() == [0, 0, 4]
    assert activations.relu(x, negative_slope=0.5).tolist() == [-1, -0.125, 4]
    assert activations.relu(x, max_value=3).tolist() == [0, 0, 3]
    assert activations.relu(x, threshold=5, negative_slope=1).tolist() == [-7, -5.25, -1]
    assert activations.leaky_relu(x, negative_slope=0.5).tolist() == [-1, -0.125, 4]
    assert activations.hard_shrink(x, 3).tolist() == [0, 0, 4]
    assert activations.soft_shrink(x, 1).tolist() == [-1, 0, 3]
    assert activations.elu(0.0, alpha=3) == 0
    assert abs(activations.celu(x, 2.0)[0] - 2 * math.expm1(-1)) <= 2**-22
    assert activations.gelu(1.0) != activations.gelu(1.0, approximate=True)


def test_float64_arrays_stay_float64_and_everything_else_becomes_float32():
    assert activations.tanh(np.ones(3)).dtype == np.float64
    assert activations.tanh(np.ones(3, np.float16)).dtype == np.float32
    assert activations.tanh([1, 2]).dtype == np.float32
    assert activations.relu(np.arange(6.0).reshape(2, 3).T).tolist() == [[0, 3], [1, 4], [2, 5]]


def test_softmax_takes_an_axis_as_in_keras():
    x = np.log(np.array([[1.0, 3.0], [3.0, 1.0]]))
    assert np.abs(activations.softmax(x, axis=0) - np.array([[0.25, 0.75], [0.75, 0.25]])).max() <= 4 * EPS
    assert np.abs(np.exp(activations.log_softmax(x, axis=0)) - activations.softmax(x, axis=0)).max() <= 4 * EPS


def square(x):
    return x * x, lambda dy: 2 * x * dy


def test_a_users_function_returns_its_gradient():
    squared = activations.get(square)
    y, backward = squared.forward(np.array([3.0]))
    assert (y.item(), backward(np.array([2.0])).item()) == (9, 12)
    assert layers.Activation(square)([[3.0]]).tolist() == [[9]]
    with pytest.raises(ArgumentError, match=r"half.*returned ndarray.*\(y, backward\).*layers\.ReLU"):
        activations.get(half)(np.ones(1))


def half(x):
    return x / 2


def test_a_users_function_is_never_mistaken_for_softmax():
    def softmax(x):
        return x, lambda dy: dy

    assert activations.get(softmax).name != "softmax"


def test_a_users_activation_class_is_saved_by_name():
    @config.register
    class Cube(activations.Activation):
        name = "cube"

        def forward(self, x):
            return x**3, lambda dy: 3 * x * x * dy

    layer = layers.Dense(2, activation=Cube())
    again = config.deserialize(json.loads(json.dumps(config.serialize(layer))))
    assert isinstance(again.activation, Cube)
    assert isinstance(activations.get(Cube), Cube)
    with pytest.raises(NotImplementedError, match="forward"):
        activations.Activation().forward(1)


@pytest.mark.parametrize(
    "identifier",
    ["relu", activations.tanh, activations.Elementwise("elu", 0.5), activations.ClippedReLU(6, 0.1, 1.0)],
    ids=["name", "function", "elementwise", "clipped"],
)
def test_the_activation_of_a_layer_comes_back_from_json(identifier):
    layer = layers.Dense(2, activation=identifier)
    again = config.deserialize(json.loads(json.dumps(config.serialize(layer))))
    x = np.linspace(-3, 9, 7)
    assert np.array_equal(again.activation(x), layer.activation(x))
    described = config.serialize(activations.get(identifier))
    assert np.array_equal(activations.get(described)(x), layer.activation(x))


@pytest.mark.parametrize(
    ("identifier", "words"),
    [
        ("rleu", "'rleu': did you mean 'relu'"),
        ("xyzzy", "unknown activation 'xyzzy': known are"),
        ("glu", "activations.glu is not in gpucnn: use one of"),
        (3, "3 is not an activation"),
    ],
)
def test_unknown_activations_are_refused(identifier, words):
    with pytest.raises(ArgumentError, match=words):
        activations.get(identifier)


test_values_out_of_range_are_refused = refuses(
    ArgumentError,
    [
        (lambda: activations.relu(1.0, max_value=-1), "max_value=-1"),
        (lambda: activations.relu(1.0, negative_slope=-1), "negative_slope=-1"),
        (lambda: activations.relu(1.0, threshold=None), "threshold=None"),
        (lambda: activations.celu(1.0, alpha=0), "alpha=0"),
        (lambda: activations.Elementwise("sinus"), "'sinus'"),
        (lambda: activations.sparsemax, "sparsemax is not in gpucnn"),
        (lambda: activation(np.ones(1), function="sinus", alpha=0.0), "'sinus' is unknown"),
        (lambda: activation_grad(np.ones(1), np.ones(1), function="sinus", alpha=0.0), "'sinus' is unknown"),
    ],
)


test_arrays_that_do_not_fit_are_refused = refuses(
    ShapeError,
    [
        (lambda: activation_grad(np.ones(2), np.ones(3), function="relu", alpha=0.0), r"dy and x .*\(2,\).*\(3,\)"),
        (
            lambda: clipped_relu_grad(np.ones(2), np.ones(3), max_value=1.0, negative_slope=0.0, threshold=0.0),
            "clipped_relu_grad: dy and x",
        ),
        (lambda: softmax(np.float32(1)), "last axis"),
        (lambda: softmax_grad(np.ones((1, 2)), np.ones((1, 2), np.float32)), "float64 and .*float32"),
        (lambda: log_softmax_grad(np.ones((1, 2)), np.ones((2, 1))), "dy and y"),
    ],
)


# -- layers ------------------------------------------------------------------------------------------------------------


def test_the_slope_of_leaky_relu_is_0_3_in_the_layer_and_0_2_in_the_function():
    assert layers.LeakyReLU()([[-10.0]]).item() == -3
    assert activations.leaky_relu(-10.0) == -2
    assert layers.Activation("leaky_relu")([[-10.0]]).item() == -2


def test_leaky_relu_takes_alpha_with_a_warning():
    with pytest.warns(DeprecationWarning, match="negative_slope"):
        layer = layers.LeakyReLU(alpha=0.5)
    assert layer([[-10.0]]).item() == -5
    assert config.deserialize(config.serialize(layer))([[-10.0]]).item() == -5


@pytest.mark.parametrize(
    ("layer", "name", "y"),
    [
        (lambda: layers.ReLU(), "relu", [0, 0, 1, 8]),
        (lambda: layers.ReLU(6), "clipped_relu", [0, 0, 1, 6]),
        (lambda: layers.ReLU(negative_slope=0.5), "leaky_relu", [-1, 0, 1, 8]),
        (lambda: layers.ReLU(negative_slope=0.5, threshold=2.0), "clipped_relu", [-2, -1, -0.5, 8]),
        (lambda: layers.ELU(2.0), "elu", [2 * math.expm1(-2), 0, 1, 8]),
        (lambda: layers.Activation("linear"), "linear", [-2, 0, 1, 8]),
        (lambda: layers.Activation(activations.hard_tanh), "hard_tanh", [-1, 0, 1, 1]),
    ],
)
def test_layers_of_activations(layer, name, y):
    layer = layer()
    got = layer([[-2.0, 0.0, 1.0, 8.0]])
    assert layer.activation.name == name
    assert got.dtype == np.float32
    assert np.array_equal(got, np.array([y], np.float32))
    assert layer.output_shape == (None, 4)
    assert layer.flops((None, 4)) == 4


def test_a_softmax_layer_can_be_left_out_for_the_logits(rng):
    layer = layers.Softmax()
    x, dy = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    z, passed = layer.linear(x, STEP, True)
    assert z is x
    assert passed(dy) is dy
    assert passed(dy, need_dx=False) is None
    y, backward = layer.forward(x, STEP, True)
    assert np.array_equal(y, softmax(x))
    assert np.array_equal(backward(dy), softmax_grad(dy, y))
    assert layer.activation.name == "softmax"


def test_flops_of_the_ops_count_every_value():
    x = Spec((3, 5), np.dtype(np.float32))
    assert activation.flops(x, function="relu", alpha=0.0) == clipped_relu.flops(x) == 15
    assert softmax.flops(x) == log_softmax_grad.flops(x, x) == 60


def test_softmax_over_another_axis_sums_to_1_along_it():
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    assert layers.Softmax(axis=2)(np.zeros((1, 2, 4)))[0, 0, 0] == 0.25
    np.testing.assert_allclose(layers.Softmax(axis=1)(x).sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(layers.Softmax(axis=[1, 2])(x).sum(axis=(1, 2)), 1, rtol=1e-6)


def test_relu_layers_refuse_what_keras_refuses():
    for arguments in ({"max_value": -1.0}, {"negative_slope": -0.1}, {"negative_slope": None}, {"threshold": -1.0}):
        with pytest.raises(ArgumentError, match=rf"ReLU\({next(iter(arguments))}="):
            layers.ReLU(**arguments)
    with pytest.raises(ArgumentError, match=r"negative_slope=-0\.3"):
        layers.LeakyReLU(-0.3)
