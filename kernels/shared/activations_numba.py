"""The activations of the engine and their slopes, as device functions with a branch for each number of
`activations_launch`."""

from __future__ import annotations

import math

import numpy as np

from gpucnn.devices.numba_cuda import numba_device

from .activations_launch import NUMBERS
from .clamp_numba import clamp

(
    RELU,
    RELU6,
    LEAKY_RELU,
    ELU,
    SELU,
    CELU,
    SIGMOID,
    LOG_SIGMOID,
    HARD_SIGMOID,
    TANH,
    TANH_SHRINK,
    HARD_TANH,
    HARD_SHRINK,
    SOFT_SHRINK,
    SOFTPLUS,
    SOFTSIGN,
    SILU,
    HARD_SILU,
    GELU,
    GELU_TANH,
    MISH,
    EXPONENTIAL,
    LINEAR,
) = NUMBERS.values()

# Numba takes a literal for a float64, and would compute everything that it touches in float64.
ZERO, HALF, ONE, TWO, THREE, SIX = (np.float32(number) for number in (0, 0.5, 1, 2, 3, 6))
SELU_SCALE, SELU_ALPHA = np.float32(1.0507009873554805), np.float32(1.6732632423543772)
CUBIC, SQRT_8_OVER_PI = np.float32(0.044715), np.float32(math.sqrt(8 / math.pi))  # of gelu_tanh
SQRT_HALF, SQRT_HALF_OVER_PI = np.float32(math.sqrt(0.5)), np.float32(math.sqrt(0.5 / math.pi))  # of gelu


@numba_device
def decay(x):
    """exp(-|x|), of (0, 1]: the functions below use it where exp(x) would overflow."""
    return math.exp(-abs(x))


@numba_device
def sigmoid(x):
    """1 / (1 + exp(-x)); below 0 numerator and denominator are multiplied by exp(x)."""
    d = decay(x)
    return (ONE if x >= ZERO else d) / (ONE + d)


@numba_device
def softplus(x):
    """log(1 + exp(x))."""
    return max(x, ZERO) + math.log1p(decay(x))


@numba_device
def normal_cdf(x):
    """Φ(x); erfc keeps the digits of the lower tail, which 1 + erf would cancel."""
    return HALF * math.erfc(-SQRT_HALF * x)


@numba_device
def normal_density(x):
    """Φ'(x)."""
    return SQRT_HALF_OVER_PI * math.exp(-HALF * x * x)


@numba_device
def gelu_tanh_argument(x):
    """2u, with (1 + tanh(u)) / 2 = sigmoid(2u)."""
    return SQRT_8_OVER_PI * (x + CUBIC * x * x * x)


@numba_device
def mish_tanh(x):
    """t = tanh(log(1 + exp(x))) = (p² - 1) / (p² + 1) with p = 1 + exp(x), and 1 - t without a
    subtraction.

    Divided by the larger power of exp(x), no term overflows.
    """
    d = decay(x)
    above = ONE + TWO * d if x >= ZERO else d * (d + TWO)
    rest = TWO * d * d if x >= ZERO else TWO
    return above / (above + rest), rest / (above + rest)


@numba_device
def value(function, x, a):
    """f(x); a comparison that a NaN fails leads to the branch that passes it on."""
    if function == RELU:
        return ZERO if x <= ZERO else x
    if function == RELU6:
        return clamp(x, ZERO, SIX)
    if function == LEAKY_RELU:
        return x if x > ZERO else a * x
    if function == ELU:
        return x if x > ZERO else a * math.expm1(x)
    if function == SELU:
        return SELU_SCALE * (x if x > ZERO else SELU_ALPHA * math.expm1(x))
    if function == CELU:
        return x if x > ZERO else a * math.expm1(x / a)
    if function == SIGMOID:
        return sigmoid(x)
    if function == LOG_SIGMOID:
        return -softplus(-x)
    if function == HARD_SIGMOID:
        return clamp(x / SIX + HALF, ZERO, ONE)
    if function == TANH:
        return math.tanh(x)
    if function == TANH_SHRINK:
        return x - math.tanh(x)
    if function == HARD_TANH:
        return clamp(x, -ONE, ONE)
    if function == HARD_SHRINK:
        return ZERO if abs(x) <= a else x
    if function == SOFT_SHRINK:
        return x - clamp(x, -a, a)
    if function == SOFTPLUS:
        return softplus(x)
    if function == SOFTSIGN:
        return x / (ONE + abs(x))
    if function == SILU:
        return x * sigmoid(x)
    if function == HARD_SILU:
        return x * clamp(x / SIX + HALF, ZERO, ONE)
    if function == GELU:
        return x * normal_cdf(x)
    if function == GELU_TANH:
        return x * sigmoid(gelu_tanh_argument(x))
    if function == MISH:
        t, _ = mish_tanh(x)
        return x * t
    if function == EXPONENTIAL:
        return math.exp(x)
    return x  # LINEAR


@numba_device
def slope(function, x, a):
    """f'(x); at a kink that of the lower side, as in the op."""
    if function == RELU:
        return ONE if x > ZERO else ZERO
    if function == RELU6:
        return ONE if ZERO < x < SIX else ZERO
    if function == LEAKY_RELU:
        return ONE if x > ZERO else a
    if function == ELU:
        return ONE if x > ZERO else a * math.exp(x)
    if function == SELU:
        return SELU_SCALE * (ONE if x > ZERO else SELU_ALPHA * math.exp(x))
    if function == CELU:
        return ONE if x > ZERO else math.exp(x / a)
    if function == SIGMOID:
        return sigmoid(x) * sigmoid(-x)
    if function == LOG_SIGMOID:
        return sigmoid(-x)
    if function == HARD_SIGMOID:
        return ONE / SIX if abs(x) < THREE else ZERO
    if function == TANH:
        t = math.tanh(x)
        return ONE - t * t
    if function == TANH_SHRINK:
        t = math.tanh(x)
        return t * t
    if function == HARD_TANH:
        return ONE if abs(x) < ONE else ZERO
    if function in (HARD_SHRINK, SOFT_SHRINK):
        return ONE if abs(x) > a else ZERO
    if function == SOFTPLUS:
        return sigmoid(x)
    if function == SOFTSIGN:
        s = ONE / (ONE + abs(x))
        return s * s
    if function == SILU:
        s = sigmoid(x)
        return s + x * s * sigmoid(-x)
    if function == HARD_SILU:
        if abs(x) < THREE:
            return x / THREE + HALF
        return ONE if x > ZERO else ZERO
    if function == GELU:
        return normal_cdf(x) + x * normal_density(x)
    if function == GELU_TANH:
        z = gelu_tanh_argument(x)
        s = sigmoid(z)
        return s + x * s * sigmoid(-z) * SQRT_8_OVER_PI * (ONE + THREE * CUBIC * x * x)
    if function == MISH:
        t, one_minus_t = mish_tanh(x)
        return t + x * sigmoid(x) * one_minus_t * (ONE + t)
    if function == EXPONENTIAL:
        return math.exp(x)
    return ONE  # LINEAR


@numba_device
def gradient_at_result(function, dy, y, a):
    """dy · f' where the result of f is y, for the functions that never fall."""
    if function == RELU:
        return ZERO if y <= ZERO else dy
    if function == RELU6:
        return dy * (ONE if ZERO < y < SIX else ZERO)
    if function == LEAKY_RELU:
        return dy * (ONE if y > ZERO else a)
    if function == ELU:
        return dy * (ONE if y > ZERO else y + a)
    if function == SELU:
        return dy * (SELU_SCALE if y > ZERO else y + SELU_SCALE * SELU_ALPHA)
    if function == CELU:
        return dy * (ONE if y > ZERO else y / a + ONE)
    if function == SIGMOID:
        return dy * (y * (ONE - y))
    if function == LOG_SIGMOID:
        return dy * -math.expm1(y)
    if function == HARD_SIGMOID:
        return dy * (ONE / SIX if ZERO < y < ONE else ZERO)
    if function == TANH:
        return dy * (ONE - y * y)
    if function == HARD_TANH:
        return dy * (ONE if abs(y) < ONE else ZERO)
    if function in (HARD_SHRINK, SOFT_SHRINK):
        return dy * (ONE if abs(y) > ZERO else ZERO)
    if function == SOFTPLUS:
        return dy * -math.expm1(-y)
    if function == SOFTSIGN:
        s = ONE - abs(y)
        return dy * (s * s)
    if function == EXPONENTIAL:
        return dy * y
    return dy  # LINEAR
