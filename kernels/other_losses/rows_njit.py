"""More losses over rows, one row after the other, while it is in the cache: sums are in float64, and what
concerns each value on its own is one loop.

Traffic: predictions and labels read once, the gradient written once. A label that names no class
gives NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from gpucnn.devices.njit import inner, njit
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import Op, kernel
from gpucnn.ops import loss, other_losses

from ..shared.by_name_njit import by_name
from ..shared.other_losses_launch import scale
from ..shared.slices_launch import in_slices
from ..shared.vector_math_njit import ONE, TWO, ZERO, clamp, exp, log, log1p_of_share
from ..shared.vector_operators_njit import choose, magnitude

EPSILON, ALMOST_ONE = np.float32(loss.EPSILON), np.float32(1 - loss.EPSILON)
HUNDRED, TINY, LOG_2, NOT_A_NUMBER = (np.float32(number) for number in (100, 1e-30, math.log(2), math.nan))


@njit(forceinline=True)
def _percentage(p, t):
    error, size = p - t, magnitude(t)
    factor = HUNDRED / choose(size < EPSILON, EPSILON, size)
    return magnitude(error) * factor, choose(error > ZERO, ONE, choose(error < ZERO, -ONE, error)) * factor


@njit(forceinline=True)
def _logarithmic(p, t):
    above = choose(p < EPSILON, EPSILON, p) + ONE
    distance = log(above) - log(choose(t < EPSILON, EPSILON, t) + ONE)
    return distance * distance, choose(p < EPSILON, ZERO, TWO * distance / above)


@njit(forceinline=True)
def _log_cosh(p, t):
    """|e| + log(1 + exp(-2 |e|)) - log 2, and tanh(e)."""
    error = p - t
    decayed = exp(-TWO * magnitude(error))
    slope = (ONE - decayed) / (ONE + decayed)
    return magnitude(error) + log1p_of_share(decayed) - LOG_2, choose(error < ZERO, -slope, slope)


@njit(forceinline=True)
def _poisson(p, t):
    rate = p + EPSILON
    return p - t * log(rate), ONE - t / rate


@njit(forceinline=True)
def _hinge(p, t):
    lack = ONE - t * p
    return choose(lack < ZERO, ZERO, lack), choose(lack > ZERO, -t, ZERO)


@njit(forceinline=True)
def _squared_hinge(p, t):
    lack = ONE - t * p
    lack = choose(lack < ZERO, ZERO, lack)
    return lack * lack, -TWO * t * lack


@njit(forceinline=True)
def _kl_divergence(p, t):
    share = clamp(t, EPSILON, ONE)
    slope = choose(p < EPSILON, ZERO, choose(p > ONE, ZERO, -share / p))
    return share * log(share / clamp(p, EPSILON, ONE)), slope


_term = by_name(
    {
        "mean_absolute_percentage_error": _percentage,
        "mean_squared_logarithmic_error": _logarithmic,
        "log_cosh": _log_cosh,
        "poisson": _poisson,
        "hinge": _hinge,
        "squared_hinge": _squared_hinge,
        "kl_divergence": _kl_divergence,
    }
)
"""A loss of each value: _term(name, y_pred, y_true) is the loss and its slope."""


@cache
def _value_loss(name):
    @inner
    def value_loss(values, gradient, y_pred, y_true, share):
        N, K = y_pred.shape
        for n in range(N):
            total = 0.0
            for k in range(K):
                value, slope = _term(name, y_pred[n, k], y_true[n, k])
                total += np.float64(value)
                gradient[n, k] = slope * share
            values[n] = total * share

    return value_loss


@inner
def _binary_focal(values, gradient, probabilities, labels, gamma, of_ones, of_zeros):
    N, K = probabilities.shape
    for n in range(N):
        total = 0.0
        for k in range(K):
            probability, label = probabilities[n, k], labels[n, k]
            p = clamp(probability, EPSILON, ALMOST_ONE)
            crossentropy = -(label * log(p) + (ONE - label) * log(ONE - p))
            slope = choose(p == probability, (p - label) / (p * (ONE - p)), ZERO)
            missed = label * (ONE - probability) + (ONE - label) * probability
            factor = missed**gamma
            steepness = gamma * choose(missed < TINY, TINY, missed) ** (gamma - ONE) * (ONE - TWO * label)
            weight = label * of_ones + (ONE - label) * of_zeros
            total += np.float64(weight * factor * crossentropy)
            gradient[n, k] = weight * (steepness * crossentropy + factor * slope) / np.float32(K)
        values[n] = total / K


@inner
def _categorical_focal(values, gradient, probabilities, labels, alpha, gamma):
    N, K = probabilities.shape
    for n in range(N):
        sum_ = 0.0
        for k in range(K):
            sum_ += np.float64(probabilities[n, k])
        total, value, along = np.float32(sum_), 0.0, 0.0
        for k in range(K):
            scaled = probabilities[n, k] / total
            q = clamp(scaled, EPSILON, ALMOST_ONE)
            rest, logarithm = ONE - q, log(q)
            factor = -alpha * labels[n, k] * rest**gamma
            slope = choose(q == scaled, factor * (ONE / q - gamma * logarithm / rest), ZERO)
            value += np.float64(factor * logarithm)
            along += np.float64(slope * scaled)
            gradient[n, k] = slope
        for k in range(K):
            gradient[n, k] = (gradient[n, k] - np.float32(along)) / total
        values[n] = value


@inner
def _cosine(values, gradient, y_pred, y_true):
    N, K = y_pred.shape
    for n in range(N):
        squares = of_truth = along = 0.0
        for k in range(K):
            p, t = np.float64(y_pred[n, k]), np.float64(y_true[n, k])
            squares += p * p
            of_truth += t * t
            along += p * t
        length = np.sqrt(squares)
        a, b = 1.0 / max(length, EPSILON), 1.0 / max(np.sqrt(of_truth), EPSILON)
        turn = np.float32(a * a * along) if length > EPSILON else ZERO
        factor = np.float32(-a * b)
        for k in range(K):
            gradient[n, k] = factor * (y_true[n, k] - y_pred[n, k] * turn)
        values[n] = -a * b * along


@inner
def _categorical_hinge(values, gradient, y_pred, y_true):
    N, K = y_pred.shape
    for n in range(N):
        right, place = 0.0, 0
        strongest = (ONE - y_true[n, 0]) * y_pred[n, 0]
        for k in range(K):
            right += np.float64(y_true[n, k]) * np.float64(y_pred[n, k])
            other = (ONE - y_true[n, k]) * y_pred[n, k]
            if other > strongest:
                strongest, place = other, k
        value = np.float64(strongest) - right + 1.0
        for k in range(K):
            gradient[n, k] = -y_true[n, k] if value > 0 else ZERO
        if value > 0:
            gradient[n, place] += ONE - y_true[n, place]
        values[n] = max(value, 0.0)


@inner
def _overlap(values, gradient, y_pred, y_true, alpha, beta, epsilon):
    N, K = y_pred.shape
    for n in range(N):
        shared = truths = predictions = 0.0
        for k in range(K):
            p, t = np.float64(y_pred[n, k]), np.float64(y_true[n, k])
            shared += t * p
            truths += t
            predictions += p
        both = 1.0 - alpha - beta
        whole = both * shared + alpha * truths + beta * predictions + epsilon
        share = shared / whole
        constant, factor, divisor = np.float32(share * beta), np.float32(share * both - 1.0), np.float32(1.0 / whole)
        for k in range(K):
            gradient[n, k] = (constant + factor * y_true[n, k]) * divisor
        values[n] = 1.0 - share


@inner
def _power_loss(values, gradient, probabilities, labels, q):
    N, K = probabilities.shape
    for n in range(N):
        label = labels[n]
        for k in range(K):
            gradient[n, k] = ZERO
        if not 0 <= label < K:
            values[n] = NOT_A_NUMBER
            continue
        p = probabilities[n, label]
        gradient[n, label] = -(p ** (q - ONE))
        values[n] = (ONE - p**q) / q


def _supports(first: Spec, second: Spec, **_: Any) -> bool:
    classes = len(second.shape) < len(first.shape) and second.dtype.kind in "iu"
    return first.dtype == np.float32 and (second.dtype == np.float32 or classes)


@kernel(other_losses.value_loss, "rows", "njit", supports=_supports, compiled=True)
def launch_value_loss(values, gradient, y_pred, y_true, *, function):
    columns = y_pred.shape[1]
    share = np.float32(scale(function, columns) / columns)
    in_slices(_value_loss(function), (values, gradient, y_pred, y_true), share)


def _register(op: Op, function: Callable[..., None], names: tuple[str, ...] = (), kind: type = np.float32) -> None:
    """For a loop over rows of outputs and labels that takes the parameters of these names."""

    @kernel(op, "rows", "njit", supports=_supports, compiled=True)
    def launch(values, gradient, y_pred, labels, **params):
        in_slices(function, (values, gradient, y_pred, labels), *(kind(params[name]) for name in names))


_register(other_losses.binary_focal, _binary_focal, ("gamma", "of_ones", "of_zeros"))
_register(other_losses.categorical_focal, _categorical_focal, ("alpha", "gamma"))
_register(other_losses.cosine, _cosine)
_register(other_losses.categorical_hinge, _categorical_hinge)
_register(other_losses.overlap, _overlap, ("alpha", "beta", "epsilon"), np.float64)
_register(other_losses.power_loss, _power_loss, ("q",))
