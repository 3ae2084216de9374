"""The activations of the engine and their slopes, for numbers and for vectors of them: three tables
of functions f(x, a) by name.

Nothing overflows on the way to a result that is finite, and nothing branches: a choice computes
both sides.
"""

from __future__ import annotations

import math

import numpy as np

from gpucnn.devices.njit import njit
from gpucnn.ops.activation import SELU_ALPHA, SELU_SCALE

from .vector_math_njit import exp, expm1, normal_cdf, sigmoid, softplus, tanh
from .vector_operators_njit import choose, magnitude

_0, _HALF, _1, _2, _3, _6 = (np.float32(number) for number in (0, 0.5, 1, 2, 3, 6))
_THIRD, _SIXTH = np.float32(1 / 3), np.float32(1 / 6)
_SELU, _SELU_NEGATIVE = np.float32(SELU_SCALE), np.float32(SELU_SCALE * SELU_ALPHA)
_CUBIC, _SQRT_8_OVER_PI = np.float32(0.044715), np.float32(math.sqrt(8 / math.pi))
_THREE_CUBIC = np.float32(3 * 0.044715)
_DENSITY = np.float32(math.sqrt(0.5 / math.pi))


_vectorised = njit(forceinline=True)


@_vectorised
def _clamp(x, low, high):
    return choose(x < low, low, choose(x > high, high, x))


@_vectorised
def _not_above(x):
    """min(x, 0), so that the side which is not chosen cannot overflow; NaN stays."""
    return choose(x > _0, _0, x)


@_vectorised
def _squared(x):
    return x * x


@_vectorised
def _gelu_argument(x):
    """2u, with (1 + tanh(u)) / 2 = sigmoid(2u)."""
    return _SQRT_8_OVER_PI * (x + _CUBIC * x * x * x)


@_vectorised
def relu(x, a):
    return choose(x <= _0, _0, x)


@_vectorised
def relu6(x, a):
    return _clamp(x, _0, _6)


@_vectorised
def leaky_relu(x, a):
    return choose(x > _0, x, a * x)


@_vectorised
def elu(x, a):
    return choose(x > _0, x, a * expm1(_not_above(x)))


@_vectorised
def selu(x, a):
    return choose(x > _0, _SELU * x, _SELU_NEGATIVE * expm1(_not_above(x)))


@_vectorised
def celu(x, a):
    return choose(x > _0, x, a * expm1(_not_above(x) / a))


@_vectorised
def log_sigmoid(x, a):
    return -softplus(-x)


@_vectorised
def hard_sigmoid(x, a):
    return _clamp(x * _SIXTH + _HALF, _0, _1)


@_vectorised
def tanh_shrink(x, a):
    return x - tanh(x)


@_vectorised
def hard_tanh(x, a):
    return _clamp(x, -_1, _1)


@_vectorised
def hard_shrink(x, a):
    return choose(magnitude(x) <= a, _0, x)


@_vectorised
def soft_shrink(x, a):
    return x - _clamp(x, -a, a)


@_vectorised
def softsign(x, a):
    return x / (_1 + magnitude(x))


@_vectorised
def silu(x, a):
    return x * sigmoid(x)


@_vectorised
def hard_silu(x, a):
    return x * _clamp(x * _SIXTH + _HALF, _0, _1)


@_vectorised
def gelu(x, a):
    return x * normal_cdf(x)


@_vectorised
def gelu_tanh(x, a):
    return x * sigmoid(_gelu_argument(x))


@_vectorised
def mish(x, a):
    return x * tanh(softplus(x))


@_vectorised
def gelu_tanh_slope(x, a):
    z = _gelu_argument(x)
    s = sigmoid(z)
    return s + x * s * sigmoid(-z) * (_SQRT_8_OVER_PI * (_1 + _THREE_CUBIC * x * x))


@_vectorised
def mish_slope(x, a):
    t = tanh(softplus(x))
    return t + x * sigmoid(x) * (_1 - t * t)


@_vectorised
def relu_slope(x, a):
    return choose(x > _0, _1, _0)


@_vectorised
def relu6_slope(x, a):
    return choose(x > _0, choose(x < _6, _1, _0), _0)


@_vectorised
def leaky_relu_slope(x, a):
    return choose(x > _0, _1, a)


@_vectorised
def elu_slope(x, a):
    return choose(x > _0, _1, a * exp(_not_above(x)))


@_vectorised
def selu_slope(x, a):
    return choose(x > _0, _SELU, _SELU_NEGATIVE * exp(_not_above(x)))


@_vectorised
def celu_slope(x, a):
    return choose(x > _0, _1, exp(_not_above(x) / a))


@_vectorised
def sigmoid_slope(x, a):
    return sigmoid(x) * sigmoid(-x)


@_vectorised
def log_sigmoid_slope(x, a):
    return sigmoid(-x)


@_vectorised
def hard_sigmoid_slope(x, a):
    return choose(magnitude(x) < _3, _SIXTH, _0)


@_vectorised
def tanh_slope(x, a):
    return _1 - _squared(tanh(x))


@_vectorised
def tanh_shrink_slope(x, a):
    return _squared(tanh(x))


@_vectorised
def hard_tanh_slope(x, a):
    return choose(magnitude(x) < _1, _1, _0)


@_vectorised
def shrink_slope(x, a):
    return choose(magnitude(x) > a, _1, _0)


@_vectorised
def softsign_slope(x, a):
    return _squared(_1 / (_1 + magnitude(x)))


@_vectorised
def silu_slope(x, a):
    return sigmoid(x) * (_1 + x * sigmoid(-x))


@_vectorised
def hard_silu_slope(x, a):
    return choose(magnitude(x) < _3, x * _THIRD + _HALF, choose(x > _0, _1, _0))


@_vectorised
def gelu_slope(x, a):
    return normal_cdf(x) + x * (_DENSITY * exp(-_HALF * x * x))


@_vectorised
def elu_slope_of_result(x, a):
    return choose(x > _0, _1, x + a)


@_vectorised
def selu_slope_of_result(x, a):
    return choose(x > _0, _SELU, x + _SELU_NEGATIVE)


@_vectorised
def celu_slope_of_result(x, a):
    return choose(x > _0, _1, x / a + _1)


@_vectorised
def sigmoid_slope_of_result(x, a):
    return x * (_1 - x)


@_vectorised
def log_sigmoid_slope_of_result(x, a):
    return -expm1(x)


@_vectorised
def hard_sigmoid_slope_of_result(x, a):
    return choose(x > _0, choose(x < _1, _SIXTH, _0), _0)


@_vectorised
def tanh_slope_of_result(x, a):
    return _1 - x * x


@_vectorised
def shrink_slope_of_result(x, a):
    return choose(magnitude(x) > _0, _1, _0)


@_vectorised
def softplus_slope_of_result(x, a):
    return -expm1(-x)


@_vectorised
def softsign_slope_of_result(x, a):
    return _squared(_1 - magnitude(x))


@_vectorised
def sigmoid_value(x, a):
    return sigmoid(x)


@_vectorised
def tanh_value(x, a):
    return tanh(x)


@_vectorised
def softplus_value(x, a):
    return softplus(x)


@_vectorised
def exponential(x, a):
    return exp(x)


@_vectorised
def result_itself(x, a):
    return x


VALUES = {
    "relu": relu,
    "relu6": relu6,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "selu": selu,
    "celu": celu,
    "sigmoid": sigmoid_value,
    "log_sigmoid": log_sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "tanh": tanh_value,
    "tanh_shrink": tanh_shrink,
    "hard_tanh": hard_tanh,
    "hard_shrink": hard_shrink,
    "soft_shrink": soft_shrink,
    "softplus": softplus_value,
    "softsign": softsign,
    "silu": silu,
    "hard_silu": hard_silu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "mish": mish,
    "exponential": exponential,
}
"""f(x) with its parameter."""

SLOPES = {
    "relu": relu_slope,
    "relu6": relu6_slope,
    "leaky_relu": leaky_relu_slope,
    "elu": elu_slope,
    "selu": selu_slope,
    "celu": celu_slope,
    "sigmoid": sigmoid_slope,
    "log_sigmoid": log_sigmoid_slope,
    "hard_sigmoid": hard_sigmoid_slope,
    "tanh": tanh_slope,
    "tanh_shrink": tanh_shrink_slope,
    "hard_tanh": hard_tanh_slope,
    "hard_shrink": shrink_slope,
    "soft_shrink": shrink_slope,
    "softplus": sigmoid_value,
    "softsign": softsign_slope,
    "silu": silu_slope,
    "hard_silu": hard_silu_slope,
    "gelu": gelu_slope,
    "gelu_tanh": gelu_tanh_slope,
    "mish": mish_slope,
    "exponential": exponential,
}
"""The slope of f at x."""

OF_RESULT = {
    "relu6": relu6_slope,
    "leaky_relu": leaky_relu_slope,
    "elu": elu_slope_of_result,
    "selu": selu_slope_of_result,
    "celu": celu_slope_of_result,
    "sigmoid": sigmoid_slope_of_result,
    "log_sigmoid": log_sigmoid_slope_of_result,
    "hard_sigmoid": hard_sigmoid_slope_of_result,
    "tanh": tanh_slope_of_result,
    "hard_tanh": hard_tanh_slope,
    "hard_shrink": shrink_slope_of_result,
    "soft_shrink": shrink_slope_of_result,
    "softplus": softplus_slope_of_result,
    "softsign": softsign_slope_of_result,
    "exponential": result_itself,
}
"""The slope of f where its result is x; that of relu is a mask, not a factor."""
