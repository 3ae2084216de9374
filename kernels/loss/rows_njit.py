"""Losses over rows, a few rows at a time, so that they stay in the first-level cache: what concerns
each value on its own is one loop over vectors, whatever the length of a row.

The loss of each row and its gradient come from one kernel, because they share their exponentials
and logarithms. Sums are in float64. Traffic: predictions and labels read once, the gradient written
once. A label that names no class gives NaN.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from gpucnn.devices.njit import inner, njit
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import Op, kernel
from gpucnn.ops import loss

from ..shared.by_name_njit import by_name
from ..shared.rows_njit import exponentials, rows_at_once, total, total_of_products
from ..shared.slices_launch import in_slices
from ..shared.vector_math_njit import HALF, ONE, TWO, ZERO, clamp, exp, log, log1p_of_share
from ..shared.vector_operators_njit import choose, magnitude

EPSILON, ALMOST_ONE = np.float32(loss.EPSILON), np.float32(1 - loss.EPSILON)
NOT_A_NUMBER = np.float32(np.nan)


@njit(forceinline=True)
def _squared_error(prediction, truth, _):
    """e² and 2e."""
    error = prediction - truth
    return error * error, TWO * error


@njit(forceinline=True)
def _absolute_error(prediction, truth, _):
    """|e| and its sign."""
    error = prediction - truth
    return magnitude(error), choose(error > ZERO, ONE, choose(error < ZERO, -ONE, error))


@njit(forceinline=True)
def _huber(prediction, truth, delta):
    """e² / 2 up to delta, and beyond it the line that continues from there."""
    error = prediction - truth
    size = magnitude(error)
    value = choose(size <= delta, HALF * error * error, delta * size - HALF * delta * delta)
    return value, clamp(error, -delta, delta)


@njit(forceinline=True)
def _binary_cross_entropy(probability, label, label_smoothing):
    """-l · log p - (1 - l) · log(1 - p), p being clipped."""
    label = label * (ONE - label_smoothing) + label_smoothing * HALF
    p = clamp(probability, EPSILON, ALMOST_ONE)
    value = -(label * log(p) + (ONE - label) * log(ONE - p))
    return value, choose(p == probability, (p - label) / (p * (ONE - p)), ZERO)


@njit(forceinline=True)
def _sigmoid_binary_cross_entropy(z, label, label_smoothing):
    """max(z, 0) - z · l + log(1 + exp(-|z|)), which neither overflows nor takes the logarithm of
    0."""
    label = label * (ONE - label_smoothing) + label_smoothing * HALF
    decayed = exp(-magnitude(z))
    value = choose(z > ZERO, z, ZERO) - z * label + log1p_of_share(decayed)
    return value, choose(z < ZERO, decayed, ONE) / (ONE + decayed) - label


_each = by_name(
    {
        "mean_squared_error": _squared_error,
        "mean_absolute_error": _absolute_error,
        "huber": _huber,
        "binary_cross_entropy": _binary_cross_entropy,
        "sigmoid_binary_cross_entropy": _sigmoid_binary_cross_entropy,
    }
)
"""A loss of each value: _each(name, y_pred, y_true, parameter) is the loss and its slope."""


@cache
def _mean_over_rows(name):
    @inner
    def mean_over_rows(values, gradient, y_pred, y_true, parameter):
        N, K = y_pred.shape
        step, part = rows_at_once(K), np.float32(1 / K)
        losses = np.empty((step, K), np.float32)
        flat_losses = losses.reshape(-1)
        for first in range(0, N, step):
            slopes = gradient[first : first + step].reshape(-1)
            predictions, truths = y_pred[first : first + step].reshape(-1), y_true[first : first + step].reshape(-1)
            for i in range(len(slopes)):
                value, slope = _each(name, predictions[i], truths[i], parameter)
                flat_losses[i] = value
                slopes[i] = slope * part
            for n in range(first, min(first + step, N)):
                values[n] = total(losses[n - first]) / K

    return mean_over_rows


@inner
def _softmax_cross_entropy(values, gradient, logits, labels, label_smoothing):
    """With m the largest logit, t = Σ exp(z - m) and L = Σ labels: log(t) · L - Σ labels · (z - m),
    and its gradient exp(z - m) · L / t - labels."""
    N, K = logits.shape
    step, keep, share = rows_at_once(K), ONE - label_smoothing, np.float32(label_smoothing / K)
    for first in range(0, N, step):
        rows, most = gradient[first : first + step], values[first : first + step]
        exponentials(rows, most, logits[first : first + step])
        for i in range(len(rows)):
            n = first + i
            weight = weighted = 0.0
            for k in range(K):
                label = labels[n, k] * keep + share
                weight += np.float64(label)
                weighted += np.float64(label * (logits[n, k] - most[i]))
            sum_ = total(rows[i])
            factor = np.float32(weight / sum_)
            for k in range(K):
                rows[i, k] = rows[i, k] * factor - (labels[n, k] * keep + share)
            most[i] = np.log(sum_) * weight - weighted


@inner
def _sparse_softmax_cross_entropy(values, gradient, logits, labels):
    """The same where one label is 1 and the others 0: log(t) - (z[label] - m), and exp(z - m) / t -
    (k = label)."""
    N, K = logits.shape
    step = rows_at_once(K)
    for first in range(0, N, step):
        rows, most = gradient[first : first + step], values[first : first + step]
        exponentials(rows, most, logits[first : first + step])
        for i in range(len(rows)):
            sum_, label = total(rows[i]), labels[first + i]
            share = np.float32(1.0 / sum_)
            for k in range(K):
                rows[i, k] *= share
            if 0 <= label < K:
                rows[i, label] -= ONE
                most[i] = np.log(sum_) - np.float64(logits[first + i, label] - most[i])
            else:
                most[i] = NOT_A_NUMBER


@inner
def _cross_entropy(values, gradient, probabilities, labels, label_smoothing):
    """With q = p / Σ p: -Σ labels · log(clip(q)), and through q the gradient (dq - Σ dq · q) / Σ
    p."""
    N, K = probabilities.shape
    step, keep, share = rows_at_once(K), ONE - label_smoothing, np.float32(label_smoothing / K)
    quotients, losses = np.empty((step, K), np.float32), np.empty((step, K), np.float32)
    flat_quotients, flat_losses = quotients.reshape(-1), losses.reshape(-1)
    for first in range(0, N, step):
        rows, sums = gradient[first : first + step], values[first : first + step]
        for i in range(len(rows)):
            sums[i] = total(probabilities[first + i])
            for k in range(K):
                quotients[i, k] = probabilities[first + i, k] / sums[i]
        slopes, flat_labels = rows.reshape(-1), labels[first : first + step].reshape(-1)
        for i in range(len(slopes)):
            label = flat_labels[i] * keep + share
            clipped = clamp(flat_quotients[i], EPSILON, ALMOST_ONE)
            flat_losses[i] = label * log(clipped)
            slopes[i] = choose(clipped == flat_quotients[i], -label / clipped, ZERO)
        for i in range(len(rows)):
            along, divisor = np.float32(total_of_products(rows[i], quotients[i])), sums[i]
            for k in range(K):
                rows[i, k] = (rows[i, k] - along) / divisor
            sums[i] = -total(losses[i])


@inner
def _sparse_cross_entropy(values, gradient, probabilities, labels):
    """The same where one label is 1 and the others 0: only one dq is not 0."""
    N, K = probabilities.shape
    for n in range(N):
        label, sum_ = labels[n], np.float32(total(probabilities[n]))
        if not 0 <= label < K:
            values[n] = NOT_A_NUMBER
            gradient[n] = ZERO
            continue
        q = probabilities[n, label] / sum_
        clipped = clamp(q, EPSILON, ALMOST_ONE)
        slope = choose(clipped == q, -ONE / clipped, ZERO) / sum_
        for k in range(K):
            gradient[n, k] = -slope * q
        gradient[n, label] += slope
        values[n] = -log(clipped)


@inner
def _scale_rows(y, gradient, factors):
    for n in range(y.shape[0]):
        factor = factors[n]
        for k in range(y.shape[1]):
            y[n, k] = gradient[n, k] * factor


def _supports(first: Spec, second: Spec, **_: Any) -> bool:
    classes = len(second.shape) < len(first.shape) and second.dtype.kind in "iu"
    return first.dtype == np.float32 and (second.dtype == np.float32 or classes)


def _register(op: Op, function: Any, **default: float) -> None:
    """All losses are of one form: rows of outputs, labels, and at most one parameter."""

    @kernel(op, "rows", "njit", supports=_supports, compiled=True)
    def launch(values, gradient, y_pred, labels, **parameter):
        in_slices(function, (values, gradient, y_pred, labels), *map(np.float32, (default | parameter).values()))


_register(loss.softmax_cross_entropy, _softmax_cross_entropy)
_register(loss.sparse_softmax_cross_entropy, _sparse_softmax_cross_entropy)
_register(loss.cross_entropy, _cross_entropy)
_register(loss.sparse_cross_entropy, _sparse_cross_entropy)
for _op in (loss.sigmoid_binary_cross_entropy, loss.binary_cross_entropy, loss.huber):
    _register(_op, _mean_over_rows(_op.name))
for _op in (loss.mean_squared_error, loss.mean_absolute_error):
    _register(_op, _mean_over_rows(_op.name), parameter=0.0)


@kernel(loss.scale_rows, "rows", "njit", supports=_supports, compiled=True)
def launch_scale_rows(y, gradient, factors):
    in_slices(_scale_rows, (y, gradient, factors))
