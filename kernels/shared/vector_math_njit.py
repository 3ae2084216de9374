"""Elementary functions of float32 without branches and tables, for numbers and for vectors.

Each but `normal_cdf` is within 2 units in the last place of the exact value, for every float32:
denormal numbers, infinities and NaN included. The compiler turns a loop over one into a loop over vectors of whatever
width the processor has, which no call of the C library allows. The method is the usual one (Cody
and Waite, "Software manual for the elementary functions", 1980): reduce the argument by steps that
round nowhere, then a minimax polynomial, fitted here by Lawson's iteration in float64.
"""

from __future__ import annotations

import math

import numpy as np

from gpucnn.devices.njit import njit

from .vector_operators_njit import (
    MAGIC,
    choose,
    fma,
    magnitude,
    mantissa_and_exponent,
    power_of_two,
    roughly_inverse,
    scaled,
    with_sign,
)

ZERO, HALF, ONE, TWO = (np.float32(number) for number in (0, 0.5, 1, 2))
INFINITY, NOT_A_NUMBER = np.float32(math.inf), np.float32(math.nan)

_MAGIC = np.float32(MAGIC)
_LOG2_E = np.float32(1 / math.log(2))
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(math.log(2) - 0.693359375)
"""ln 2 in two parts: the first has 9 bits, so that its products with small integers are exact."""

_LEAST_EXP, _MOST_EXP = np.float32(-104), np.float32(89)
"""Beyond them exp is 0 and infinity in float32."""

_LEAST_EXPM1 = np.float32(-17.5)
"""Below it exp(x) - 1 is -1 in float32."""

_LEAST_NORMAL, _TO_NORMAL, _BITS_TO_NORMAL = (np.float32(number) for number in (2.0**-126, 2.0**23, 23))
_ROOT_2_LESS_1, _ROOT_HALF = np.float32(math.sqrt(2) - 1), np.float32(math.sqrt(0.5))

_EXP = tuple(map(np.float32, (1.3950602e-03, 8.3689531e-03, 4.1666206e-02, 1.6666518e-01, 0.5)))
"""(exp(r) - 1 - r) / r² for |r| ≤ ln(2) / 2, highest power first; exp within 3.2e-9."""

_LOG = tuple(
    map(
        np.float32,
        (
            -0.07634497433900833,
            0.1276157796382904,
            -0.13160182535648346,
            0.14201757311820984,
            -0.16623356938362122,
            0.20001226663589478,
            -0.2500081956386566,
            0.3333333134651184,
        ),
    )
)
"""(log(1 + f) - f + f² / 2) / f³ for √½ ≤ 1 + f ≤ √2; log within 5.9e-9."""

_TANH_NEAR, _TANH_FAR = np.float32(0.625), np.float32(10)  # from 9.01 on tanh is 1 in float32
_TANH = tuple(
    map(
        np.float32,
        (-0.005704986862838268, 0.0206390880048275, -0.05373971536755562, 0.13331441581249237, -0.3333328068256378),
    )
)
"""(tanh(x) / x - 1) / x² as a polynomial in x², for |x| ≤ 0.625; tanh within 4.4e-9."""

_ERF_NEAR, _ERF_FAR = np.float32(0.921875), np.float32(10)
_ERF = tuple(
    map(
        np.float32,
        (
            8.370100113097578e-05,
            -0.0008142704027704895,
            0.005201032385230064,
            -0.026859398931264877,
            0.11283695697784424,
            -0.37612634897232056,
            0.12837916612625122,
        ),
    )
)
"""erf(x) / x - 1 as a polynomial in x², for |x| ≤ 0.921875; erf within 4.1e-10."""

_LOG_ERFC = tuple(
    map(
        np.float32,
        (
            1.8401503654175144e-09,
            -1.1780905850855561e-07,
            3.3413086839573225e-06,
            -5.559220880968496e-05,
            0.0006069884402677417,
            -0.004626345820724964,
            0.025706518441438675,
            -0.10842561721801758,
            -0.6338489055633545,
            -0.12896572053432465,
        ),
    )
)
"""log(erfc(t)) / t + 1 for 0.921875 ≤ t ≤ 10; 1 - erfc within 1.7e-8, erfc itself within 2e-5."""


@njit(forceinline=True)
def clamp(x, low, high):
    """x cut to low … high; a NaN fails both comparisons and is passed on."""
    return choose(x < low, low, choose(x > high, high, x))


@njit(forceinline=True)
def _reduced(x):
    """(MAGIC + n, exp(r) - 1) with x = n · ln 2 + r and |r| ≤ ln(2) / 2."""
    c4, c3, c2, c1, c0 = _EXP
    shifted = fma(x, _LOG2_E, _MAGIC)
    n = shifted - _MAGIC
    most, least = fma(n, -_LN2_HIGH, x), n * _LN2_LOW  # r is their difference; the first is exact
    r = most - least
    p = fma(fma(fma(fma(c4, r, c3), r, c2), r, c1), r, c0)
    return shifted, most + fma(r * r, p, -least)


@njit(forceinline=True)
def exp(x):
    """eˣ."""
    x = choose(x < _LEAST_EXP, _LEAST_EXP, x)
    shifted, rest = _reduced(choose(x > _MOST_EXP, _MOST_EXP, x))
    return scaled(ONE + rest, shifted)


@njit(forceinline=True)
def expm1(x):
    """eˣ - 1, without a loss of digits near 0."""
    inside = choose(x < _LEAST_EXPM1, _LEAST_EXPM1, x)
    shifted, rest = _reduced(choose(inside > _MOST_EXP, _MOST_EXP, inside))
    half = power_of_two(shifted - ONE)  # of 2ⁿ, which may be infinite where the result is not
    return with_sign(TWO * fma(half, rest, half - HALF), x)


@njit(forceinline=True)
def _exp_inside(x):
    """eˣ for -87 ≤ x ≤ 87, where it is neither denormal nor infinite."""
    shifted, rest = _reduced(x)
    return fma(power_of_two(shifted), rest, power_of_two(shifted))


@njit(forceinline=True)
def _log_near_one(f):
    """log(1 + f) - f for √½ ≤ 1 + f ≤ √2."""
    c7, c6, c5, c4, c3, c2, c1, c0 = _LOG
    p = fma(fma(fma(fma(fma(fma(fma(c7, f, c6), f, c5), f, c4), f, c3), f, c2), f, c1), f, c0)
    square = f * f
    return fma(-HALF, square, square * f * p)


@njit(forceinline=True)
def log(x):
    """The natural logarithm; -infinity at 0, NaN below."""
    small = x < _LEAST_NORMAL
    m, e = mantissa_and_exponent(choose(small, x * _TO_NORMAL, x))
    e = choose(small, e - _BITS_TO_NORMAL, e)
    f = m - ONE
    y = fma(e, _LN2_HIGH, f + fma(e, _LN2_LOW, _log_near_one(f)))
    y = choose(x < INFINITY, y, x)  # a NaN stays one
    return choose(x > ZERO, y, choose(x < ZERO, NOT_A_NUMBER, y - INFINITY))


@njit(forceinline=True)
def log1p_of_share(x):
    """log(1 + x) for 0 ≤ x ≤ 1, without a loss of digits near 0."""
    far = x > _ROOT_2_LESS_1
    f = choose(far, fma(x, HALF, -HALF), x)  # 1 + x is twice 1 + f, or 1 + f
    rest = f + _log_near_one(f)
    return choose(far, fma(ONE, _LN2_HIGH, rest + _LN2_LOW), rest)


@njit(forceinline=True)
def tanh(x):
    """The hyperbolic tangent."""
    c4, c3, c2, c1, c0 = _TANH
    size, z = magnitude(x), x * x
    p = fma(fma(fma(fma(c4, z, c3), z, c2), z, c1), z, c0)
    near = fma(size * z, p, size)
    far = ONE - TWO / (_exp_inside(TWO * choose(size > _TANH_FAR, _TANH_FAR, size)) + ONE)
    return with_sign(choose(size < _TANH_NEAR, near, far), x)


@njit(forceinline=True)
def sigmoid(x):
    """1 / (1 + e⁻ˣ); below 0 numerator and denominator are multiplied by eˣ, which cannot
    overflow."""
    decay = exp(-magnitude(x))
    above, below = choose(x < ZERO, decay, ONE), ONE + decay
    share = roughly_inverse(below)
    y = above * share
    missing = fma(-y, below, above) - y * (decay - (below - ONE))  # by the rounding of y and of the sum
    return fma(missing, share, y)


@njit(forceinline=True)
def softplus(x):
    """log(1 + eˣ)."""
    return choose(x > ZERO, x, ZERO) + log1p_of_share(exp(-magnitude(x)))


@njit(forceinline=True)
def _erf_near(x):
    c6, c5, c4, c3, c2, c1, c0 = _ERF
    z = x * x
    p = fma(fma(fma(fma(fma(fma(c6, z, c5), z, c4), z, c3), z, c2), z, c1), z, c0)
    return fma(x, p, x)


@njit(forceinline=True)
def _erfc_far(size):
    c9, c8, c7, c6, c5, c4, c3, c2, c1, c0 = _LOG_ERFC
    t = choose(size > _ERF_FAR, _ERF_FAR, size)
    p = fma(fma(fma(fma(fma(c9, t, c8), t, c7), t, c6), t, c5), t, c4)
    p = fma(fma(fma(fma(p, t, c3), t, c2), t, c1), t, c0)
    return exp(fma(t, p, -t))


@njit(forceinline=True)
def erf(x):
    """The error function."""
    size = magnitude(x)
    return with_sign(choose(size < _ERF_NEAR, _erf_near(size), ONE - _erfc_far(size)), x)


@njit(forceinline=True)
def normal_cdf(x):
    """The share of a normal distribution below x, to the rounding of ½; below -1.3 within 4e-5 of the
    share."""
    z = x * _ROOT_HALF
    size = magnitude(z)
    tail = HALF * _erfc_far(size)
    return choose(size < _ERF_NEAR, fma(HALF, _erf_near(z), HALF), choose(x < ZERO, tail, ONE - tail))
