"""Activations at the end of an op: what they compute, and their gradients from what is kept."""

import numpy as np
import pytest
from refusals import refuses

from gpucnn.errors import ArgumentError, ShapeError
from gpucnn.ops import epilogue
from gpucnn.ops.activation import ALPHAS, FUNCTIONS, activation, activation_grad
from gpucnn.ops.bias import bias
from gpucnn.ops.bias_activation import bias_activation, bias_activation_grad
from gpucnn.ops.conv2d import conv2d_grad_input, conv2d_grad_weight
from gpucnn.ops.fused import (
    conv2d_bias_activation,
    conv2d_bias_activation_grad_weight,
    conv2d_bias_activation_maxpool,
    conv2d_maxpool_grad_input,
    conv2d_maxpool_grad_weight,
    matmul_bias_activation,
)

SAME = {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}
ENDS = [("linear", 0.0), *((f, ALPHAS.get(f, 0.0)) for f in FUNCTIONS), ("elu", -0.5), ("leaky_relu", -0.5)]
each_end = pytest.mark.parametrize(("function", "alpha"), ENDS, ids=[f"{f}({a})" for f, a in ENDS])


def kept_by(y, z, end):
    return z if epilogue.keeps_input(**end) else y


@each_end
def test_the_end_is_the_activation_and_its_gradient_follows_from_what_is_kept(function, alpha, rng):
    z, b, dy = rng.uniform(-5, 5, (40, 7)), rng.uniform(-1, 1, 7), rng.standard_normal((40, 7))
    end = {"function": function, "alpha": alpha}
    y, sums = bias_activation.reference(z, b, **end, keep_input=True) if function != "linear" else (z + b, z + b)
    dz, db = bias_activation_grad.reference(dy, kept_by(y, sums, end), **end)
    expected_y, expected_dz = z + b, dy
    if function != "linear":
        expected_y, expected_dz = activation.reference(z + b, **end), activation_grad.reference(dy, z + b, **end)
    np.testing.assert_allclose(y, expected_y, rtol=1e-15)
    np.testing.assert_allclose(dz, expected_dz, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(db, dz.sum(axis=0), rtol=1e-12, atol=1e-12)


@each_end
def test_rising_functions_never_fall(function, alpha):
    y = epilogue.finished(np.linspace(-9, 9, 100_001), function, alpha)
    never_falls = np.diff(y).min() >= -1e-15
    assert never_falls or not epilogue.rises(function, alpha)
    assert not never_falls or epilogue.rises(function, alpha) or function == "tanh_shrink", "it could be pooled"


@each_end
def test_no_function_is_steeper_than_its_bound(function, alpha):
    z = np.linspace(-9, 9, 100_001)
    steps = np.abs(np.diff(epilogue.finished(z, function, alpha))) / np.diff(z)
    if function == "hard_shrink":
        steps = np.sort(steps)[:-2]  # it jumps twice
    assert (steps <= epilogue.steepest(function, alpha, np.abs(z[1:])) + 1e-6).all()


def differences(loss, operands, gradients, rng):
    """Compare gradients with central differences at a few places of each operand."""
    step = 1e-6
    for operand, gradient in zip(operands, gradients, strict=True):
        for place in rng.choice(operand.size, min(8, operand.size), replace=False):
            before, ends = operand.flat[place], []
            for change in (step, -step):
                operand.flat[place] = before + change
                ends.append(loss())
            operand.flat[place] = before
            assert abs((ends[0] - ends[1]) / (2 * step) - gradient.flat[place]) <= 1e-6 * max(
                1, abs(gradient.flat[place])
            )


def away_from_kinks(z, end):
    """1 for sums that do not lie where the function bends, so that differences are slopes."""
    return np.all([np.abs(np.abs(z) - kink) > 1e-4 for kink in (0, end["alpha"], 1, 3, 6)], axis=0)


@each_end
def test_gradients_of_a_convolution_are_central_differences(function, alpha, rng):
    x, weight, b = rng.standard_normal((2, 5, 5, 2)), rng.standard_normal((3, 3, 2, 3)) / 2, rng.standard_normal(3)
    end = {"function": function, "alpha": alpha}
    keep = function != "linear"
    results = conv2d_bias_activation.reference(x, weight, b, **end, keep_input=keep, **SAME)
    y, z = results if keep else (results, results)
    dy = rng.standard_normal(y.shape) * away_from_kinks(z, end)
    dz, db = bias_activation_grad.reference(dy, kept_by(y, z, end), **end)
    dx = conv2d_grad_input.reference(dz, weight, size=(5, 5), groups=1, **SAME)
    dweight = conv2d_grad_weight.reference(dz, x, kernel_size=(3, 3), groups=1, **SAME)
    if not epilogue.keeps_input(function, alpha):
        both = conv2d_bias_activation_grad_weight.reference(dy, y, x, **end, kernel_size=(3, 3), **SAME)
        assert all(map(np.array_equal, both, (dweight, db)))

    def loss():
        return (conv2d_bias_activation.reference(x, weight, b, **end, keep_input=False, **SAME) * dy).sum()

    differences(loss, (x, weight, b), (dx, dweight, db), rng)


@pytest.mark.parametrize("function", [f for f, a in ENDS if epilogue.rises(f, a)])
def test_gradients_of_a_pooled_convolution_are_central_differences(function, rng):
    x, weight, b = rng.standard_normal((2, 6, 6, 2)), rng.standard_normal((3, 3, 2, 3)) / 4, rng.standard_normal(3) / 4
    end = epilogue.end(function)
    y, index = conv2d_bias_activation_maxpool.reference(x, weight, b, **end, **SAME)
    dy = rng.standard_normal(y.shape)
    dz = bias_activation_grad.reference(dy, y, **end)[0]
    dweight, db = conv2d_maxpool_grad_weight.reference(dz, index, x, kernel_size=(3, 3), **SAME)
    dx = conv2d_maxpool_grad_input.reference(dz, index, weight, size=(6, 6), **SAME)
    loss = lambda: (conv2d_bias_activation_maxpool.reference(x, weight, b, **end, **SAME)[0] * dy).sum()  # noqa: E731
    differences(loss, (x, weight, b), (dx, dweight, db), rng)


def test_not_a_number_comes_out_of_every_end():
    z = np.array([[np.nan, 1.0]], np.float32)
    for function, alpha in ENDS:
        y = bias_activation(z, np.zeros(2, np.float32), function=function, alpha=alpha, keep_input=False)
        assert np.isnan(y[0, 0]), function
        assert np.isfinite(y[0, 1]), function


X, WEIGHT, B = np.zeros((1, 4, 4, 1), np.float32), np.zeros((3, 3, 1, 2), np.float32), np.zeros(2, np.float32)


test_wrong_functions_are_refused = refuses(
    ArgumentError,
    [
        (lambda: bias_activation(X, B[:1], **epilogue.end("rellu", keep_input=False)), "function='rellu' is unknown"),
        (
            lambda: bias_activation(X, B[:1], **epilogue.end("linear", keep_input=True)),
            "keep_input=True with linear, whose result is its input",
        ),
        (
            lambda: conv2d_bias_activation_maxpool(X, WEIGHT, B, **epilogue.end("gelu"), **SAME),
            "gelu .* falls somewhere",
        ),
        (
            lambda: conv2d_bias_activation_grad_weight(X, X, X, **epilogue.end("silu"), kernel_size=(1, 1), **SAME),
            "the slope of silu .* does not follow from its result",
        ),
    ],
)
test_a_bias_that_does_not_fit_is_refused = refuses(
    ShapeError,
    [
        (
            lambda: matmul_bias_activation(WEIGHT[0, :, 0], B[:, None], B, **epilogue.end("relu", keep_input=False)),
            "there are 1 channels but b has shape",
        )
    ],
)


def test_the_bias_alone_is_the_linear_end(rng):
    z, b = rng.standard_normal((9, 5)).astype(np.float32), rng.standard_normal(5).astype(np.float32)
    y = bias_activation(z, b, function="linear", alpha=0.0, keep_input=False)
    np.testing.assert_array_equal(y, bias(z, b))
