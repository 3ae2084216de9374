"""Losses over rows by trees in shared memory: a few threads for a short row, a block for a long
one.

The loss of each row and its gradient come from one kernel. A value costs 12 bytes of memory traffic
and at most two logarithms or powers. Rows are read up to three times, but only the first time from
beyond the cache.

grid: blocks of (threads of a row, rows) threads. Threads of a row that does not exist go without
columns: the barriers need them.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from gpucnn.devices.numba_cuda import cuda, numba_device, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops import loss, row_losses

from ..shared.clamp_numba import clamp
from ..shared.row_losses_launch import NUMBERS, scale
from ..shared.rows_launch import MOST_THREADS, over_rows
from ..shared.rows_numba import LOWEST, row_and_columns, row_max, row_sum, sum_of_row

ZERO, ONE, TWO = (np.float32(number) for number in (0, 1, 2))
EPSILON, HUNDRED, TINY, LOG_2 = (np.float32(number) for number in (loss.EPSILON, 100, 1e-30, math.log(2)))

PERCENTAGE = NUMBERS["mean_absolute_percentage_error"]
LOGARITHMIC = NUMBERS["mean_squared_logarithmic_error"]
LOG_COSH, POISSON = NUMBERS["log_cosh"], NUMBERS["poisson"]
HINGE, SQUARED_HINGE = NUMBERS["hinge"], NUMBERS["squared_hinge"]


@numba_device
def value_term(function, p, t):
    """The loss of a value and its slope."""
    error = p - t
    if function == PERCENTAGE:
        sign = ONE if error > ZERO else -ONE if error < ZERO else error
        factor = HUNDRED / max(abs(t), EPSILON)
        return abs(error) * factor, sign * factor
    if function == LOGARITHMIC:
        above = max(p, EPSILON) + ONE
        distance = math.log(above) - math.log(max(t, EPSILON) + ONE)
        return distance * distance, ZERO if p < EPSILON else TWO * distance / above
    if function == LOG_COSH:
        size = abs(error)
        return size + math.log1p(math.exp(-TWO * size)) - LOG_2, math.tanh(error)
    if function == POISSON:
        rate = p + EPSILON
        return p - t * math.log(rate), ONE - t / rate
    if function == HINGE:
        lack = ONE - t * p
        return max(lack, ZERO), -t if lack > ZERO else ZERO
    if function == SQUARED_HINGE:
        lack = max(ONE - t * p, ZERO)
        return lack * lack, -TWO * t * lack
    share = clamp(t, EPSILON, ONE)
    value = share * math.log(share / clamp(p, EPSILON, ONE))
    return value, ZERO if p < EPSILON or p > ONE else -share / p


@numba_function
def value_loss_rows(values, gradient, y_pred, y_true, function, factor):
    partials = cuda.shared.array(MOST_THREADS, numba.float32)
    N, K = y_pred.shape
    n, columns = row_and_columns(y_pred)
    total, share = ZERO, factor / np.float32(K)
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        value, slope = value_term(function, y_pred[n, k], y_true[n, k])
        total += value
        gradient[n, k] = slope * share
    total = row_sum(total, partials)
    if cuda.threadIdx.x == 0 and n < N:
        values[n] = total * share


@numba_function
def binary_focal_rows(values, gradient, probabilities, labels, gamma, of_ones, of_zeros):
    partials = cuda.shared.array(MOST_THREADS, numba.float32)
    N, K = probabilities.shape
    n, columns = row_and_columns(probabilities)
    total, share = ZERO, ONE / np.float32(K)
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        probability, label = probabilities[n, k], labels[n, k]
        p = clamp(probability, EPSILON, ONE - EPSILON)
        crossentropy = -(label * math.log(p) + (ONE - label) * math.log(ONE - p))
        slope = (p - label) / (p * (ONE - p)) if p == probability else ZERO
        missed = label * (ONE - probability) + (ONE - label) * probability
        factor = math.pow(missed, gamma)
        steepness = gamma * math.pow(max(missed, TINY), gamma - ONE) * (ONE - TWO * label)
        weight = (label * of_ones + (ONE - label) * of_zeros) * share
        total += weight * factor * crossentropy
        gradient[n, k] = weight * (steepness * crossentropy + factor * slope)
    total = row_sum(total, partials)
    if cuda.threadIdx.x == 0 and n < N:
        values[n] = total


@numba_function
def categorical_focal_rows(values, dprobabilities, probabilities, labels, alpha, gamma):
    partials = cuda.shared.array(MOST_THREADS, numba.float32)
    n, columns = row_and_columns(probabilities)
    total = sum_of_row(probabilities, n, columns, partials)
    value, along = ZERO, ZERO
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        scaled = probabilities[n, k] / total
        q = clamp(scaled, EPSILON, ONE - EPSILON)
        rest, logarithm = ONE - q, math.log(q)
        factor = -alpha * labels[n, k] * math.pow(rest, gamma)
        dq = factor * (ONE / q - gamma * logarithm / rest) if q == scaled else ZERO
        value += factor * logarithm
        along += dq * scaled
        dprobabilities[n, k] = dq  # kept for this thread's next loop
    value = row_sum(value, partials)
    along = row_sum(along, partials)
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        dprobabilities[n, k] = (dprobabilities[n, k] - along) / total
    if cuda.threadIdx.x == 0 and n < probabilities.shape[0]:
        values[n] = value


@numba_function
def cosine_rows(values, gradient, y_pred, y_true):
    partials = cuda.shared.array(MOST_THREADS, numba.float32)
    n, columns = row_and_columns(y_pred)
    squares, of_truth, along = ZERO, ZERO, ZERO
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        squares += y_pred[n, k] * y_pred[n, k]
        of_truth += y_true[n, k] * y_true[n, k]
        along += y_pred[n, k] * y_true[n, k]
    length = math.sqrt(row_sum(squares, partials))
    a = ONE / max(length, EPSILON)
    b = ONE / max(math.sqrt(row_sum(of_truth, partials)), EPSILON)
    along = row_sum(along, partials)
    turn = a * a * along if length > EPSILON else ZERO
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        gradient[n, k] = -a * b * (y_true[n, k] - y_pred[n, k] * turn)
    if cuda.threadIdx.x == 0 and n < y_pred.shape[0]:
        values[n] = -a * b * along


@numba_function
def categorical_hinge_rows(values, gradient, y_pred, y_true):
    partials = cuda.shared.array(MOST_THREADS, numba.float32)
    n, columns = row_and_columns(y_pred)
    right, strongest = ZERO, LOWEST
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        right += y_true[n, k] * y_pred[n, k]
        strongest = max(strongest, (ONE - y_true[n, k]) * y_pred[n, k])
    right = row_sum(right, partials)
    strongest = row_max(strongest, partials)
    place = LOWEST  # minus the first column that has it
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        if (ONE - y_true[n, k]) * y_pred[n, k] == strongest:
            place = max(place, -np.float32(k))
    place = row_max(place, partials)
    value = strongest - right + ONE
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        slope = (ONE - y_true[n, k] if -np.float32(k) == place else ZERO) - y_true[n, k]
        gradient[n, k] = slope if value > ZERO else ZERO
    if cuda.threadIdx.x == 0 and n < y_pred.shape[0]:
        values[n] = max(value, ZERO)


@numba_function
def overlap_rows(values, gradient, y_pred, y_true, alpha, beta, epsilon):
    partials = cuda.shared.array(MOST_THREADS, numba.float32)
    n, columns = row_and_columns(y_pred)
    common, truths, predictions = ZERO, ZERO, ZERO
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        common += y_true[n, k] * y_pred[n, k]
        truths += y_true[n, k]
        predictions += y_pred[n, k]
    common = row_sum(common, partials)
    truths = row_sum(truths, partials)
    predictions = row_sum(predictions, partials)
    both = ONE - alpha - beta
    whole = both * common + alpha * truths + beta * predictions + epsilon
    share = common / whole
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        gradient[n, k] = (share * (both * y_true[n, k] + beta) - y_true[n, k]) / whole
    if cuda.threadIdx.x == 0 and n < y_pred.shape[0]:
        values[n] = ONE - share


@numba_function
def power_loss_rows(values, dprobabilities, probabilities, labels, q):
    n, columns = row_and_columns(probabilities)
    if n >= probabilities.shape[0]:
        return
    p = probabilities[n, labels[n]]
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        dprobabilities[n, k] = -math.pow(p, q - ONE) if k == labels[n] else ZERO
    if cuda.threadIdx.x == 0:
        values[n] = (ONE - math.pow(p, q)) / q


def register(op, function, numbers):
    """For a kernel that takes rows of outputs, labels, and numbers made of the op's parameters."""

    @kernel(op, "rows", "numba")
    def launch(values, gradient, y_pred, labels, **params):
        N, K = y_pred.shape
        function[over_rows(N, K)](values, gradient, y_pred, labels, *numbers(K, **params))


register(
    row_losses.value_loss,
    value_loss_rows,
    lambda K, function: (NUMBERS[function], scale(function, K)),
)
register(
    row_losses.binary_focal,
    binary_focal_rows,
    lambda _, gamma, of_ones, of_zeros: (float(gamma), float(of_ones), float(of_zeros)),
)
register(row_losses.categorical_focal, categorical_focal_rows, lambda _, alpha, gamma: (float(alpha), float(gamma)))
register(row_losses.cosine, cosine_rows, lambda _: ())
register(row_losses.categorical_hinge, categorical_hinge_rows, lambda _: ())
register(
    row_losses.overlap,
    overlap_rows,
    lambda _, alpha, beta, epsilon: (float(alpha), float(beta), float(epsilon)),
)
register(row_losses.power_loss, power_loss_rows, lambda _, q: (float(q),))
