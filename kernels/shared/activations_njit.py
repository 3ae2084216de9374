"""The elementwise activation functions of the engine and their slopes, for numbers and vectors."""

from __future__ import annotations

import math

import numpy as np

from gpucnn.devices.njit import njit

from .vector_math_njit import HALF, ONE, TWO, ZERO, clamp, exp, expm1, normal_cdf, sigmoid, softplus, tanh
from .vector_operators_njit import choose, fma, magnitude

THREE, SIX, SIXTH = (np.float32(number) for number in (3, 6, 1 / 6))
SELU_SCALE, SELU_ALPHA = np.float32(1.0507009873554805), np.float32(1.6732632423543772)
SELU_PRODUCT = np.float32(1.0507009873554805 * 1.6732632423543772)
CUBIC, SQRT_8_OVER_PI = np.float32(0.044715), np.float32(math.sqrt(8 / math.pi))  # of gelu_tanh
SQRT_HALF_OVER_PI = np.float32(math.sqrt(0.5 / math.pi))  # of gelu


@njit(forceinline=True)
def _gelu_tanh_argument(x):
    """2u, with (1 + tanh(u)) / 2 = sigmoid(2u)."""
    return SQRT_8_OVER_PI * fma(CUBIC * x * x, x, x)


@njit(forceinline=True)
def _gelu_tanh_slope(x):
    z = _gelu_tanh_argument(x)
    s = sigmoid(z)
    return fma(x * s * (ONE - s) * SQRT_8_OVER_PI, fma(THREE * CUBIC * x, x, ONE), s)


@njit(forceinline=True)
def _silu_slope(x):
    s = sigmoid(x)
    return fma(x * s, ONE - s, s)


@njit(forceinline=True)
def _mish_tanh(x):
    """t = tanh(log(1 + exp(x))) = (p² - 1) / (p² + 1) with p = 1 + exp(x), and 1 - t without a
    subtraction. Divided by the larger power of exp(x), no term overflows."""
    d = exp(-magnitude(x))
    above = choose(x < ZERO, d * (d + TWO), fma(TWO, d, ONE))
    rest = choose(x < ZERO, TWO, TWO * d * d)
    share = ONE / (above + rest)
    return above * share, rest * share


@njit(forceinline=True)
def _mish(x):
    t, _ = _mish_tanh(x)
    return x * t


@njit(forceinline=True)
def _mish_slope(x):
    t, one_minus_t = _mish_tanh(x)
    return fma(x * sigmoid(x) * one_minus_t, ONE + t, t)


@njit(forceinline=True)
def _tanh_squared(x):
    t = tanh(x)
    return t * t


@njit(forceinline=True)
def _softsign_slope(x):
    s = ONE / (ONE + magnitude(x))
    return s * s


FUNCTIONS = {
    name: tuple(map(njit(forceinline=True), functions))
    for name, functions in {
        "relu": (lambda x, a: choose(x <= ZERO, ZERO, x), lambda x, a: choose(x > ZERO, ONE, ZERO)),
        "relu6": (
            lambda x, a: clamp(x, ZERO, SIX),
            lambda x, a: choose(x > ZERO, choose(x < SIX, ONE, ZERO), ZERO),
        ),
        "leaky_relu": (lambda x, a: choose(x > ZERO, x, a * x), lambda x, a: choose(x > ZERO, ONE, a)),
        "elu": (lambda x, a: choose(x > ZERO, x, a * expm1(x)), lambda x, a: choose(x > ZERO, ONE, a * exp(x))),
        "selu": (
            lambda x, a: choose(x > ZERO, SELU_SCALE * x, SELU_PRODUCT * expm1(x)),
            lambda x, a: choose(x > ZERO, SELU_SCALE, SELU_PRODUCT * exp(x)),
        ),
        "celu": (lambda x, a: choose(x > ZERO, x, a * expm1(x / a)), lambda x, a: choose(x > ZERO, ONE, exp(x / a))),
        "sigmoid": (lambda x, a: sigmoid(x), lambda x, a: sigmoid(x) * sigmoid(-x)),
        "log_sigmoid": (lambda x, a: -softplus(-x), lambda x, a: sigmoid(-x)),
        "hard_sigmoid": (
            lambda x, a: clamp(fma(x, SIXTH, HALF), ZERO, ONE),
            lambda x, a: choose(magnitude(x) < THREE, SIXTH, ZERO),
        ),
        "tanh": (lambda x, a: tanh(x), lambda x, a: ONE - _tanh_squared(x)),
        "tanh_shrink": (lambda x, a: x - tanh(x), lambda x, a: _tanh_squared(x)),
        "hard_tanh": (lambda x, a: clamp(x, -ONE, ONE), lambda x, a: choose(magnitude(x) < ONE, ONE, ZERO)),
        "hard_shrink": (
            lambda x, a: choose(magnitude(x) <= a, ZERO, x),
            lambda x, a: choose(magnitude(x) > a, ONE, ZERO),
        ),
        "soft_shrink": (lambda x, a: x - clamp(x, -a, a), lambda x, a: choose(magnitude(x) > a, ONE, ZERO)),
        "softplus": (lambda x, a: softplus(x), lambda x, a: sigmoid(x)),
        "softsign": (lambda x, a: x / (ONE + magnitude(x)), lambda x, a: _softsign_slope(x)),
        "silu": (lambda x, a: x * sigmoid(x), lambda x, a: _silu_slope(x)),
        "hard_silu": (
            lambda x, a: x * clamp(fma(x, SIXTH, HALF), ZERO, ONE),
            lambda x, a: choose(magnitude(x) < THREE, fma(x, TWO * SIXTH, HALF), choose(x > ZERO, ONE, ZERO)),
        ),
        "gelu": (
            lambda x, a: x * normal_cdf(x),
            lambda x, a: fma(x, SQRT_HALF_OVER_PI * exp(-HALF * x * x), normal_cdf(x)),
        ),
        "gelu_tanh": (lambda x, a: x * sigmoid(_gelu_tanh_argument(x)), lambda x, a: _gelu_tanh_slope(x)),
        "mish": (lambda x, a: _mish(x), lambda x, a: _mish_slope(x)),
        "exponential": (lambda x, a: exp(x), lambda x, a: exp(x)),
    }.items()
}
"""For each function of the op `activation`, f(x, a) and its slope f'(x, a), with the parameter a."""

VALUES = {name: functions[0] for name, functions in FUNCTIONS.items()}
SLOPES = {name: functions[1] for name, functions in FUNCTIONS.items()}
