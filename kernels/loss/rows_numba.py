"""Losses over rows by trees in shared memory: a few threads for a short row, a block for a long
one.

The loss of each row and its gradient by y_pred come from one kernel, because they share their
exponentials. A value costs 12 bytes of memory traffic (8 with class numbers) and two exponentials
or logarithms. Rows are read up to three times, but only the first time from beyond the cache.

grid: blocks of (threads of a row, rows) threads. Threads of a row that does not exist go without
columns: the barriers need them.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from gpucnn.devices.numba_cuda import cuda, numba_device, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops import loss

from ..shared.clamp_numba import clamp
from ..shared.rows_launch import MOST_THREADS, over_rows
from ..shared.rows_numba import largest_of_row, row_and_columns, row_of_thread, row_sum, sum_of_exponentials, sum_of_row

# Numba takes a literal for a float64, and would compute everything that it touches in float64.
ZERO, HALF, ONE, TWO = (np.float32(number) for number in (0, 0.5, 1, 2))
EPSILON = np.float32(loss.EPSILON)


# -- the mean over a row of a loss of each value -------------------------------------------------


@numba_device
def squared_error(prediction, truth, _):
    """e² and 2e."""
    error = prediction - truth
    return error * error, TWO * error


@numba_device
def absolute_error(prediction, truth, _):
    """|e| and its sign."""
    error = prediction - truth
    slope = ONE if error > ZERO else -ONE if error < ZERO else error  # 0 and NaN stay what they are
    return abs(error), slope


@numba_device
def huber(prediction, truth, delta):
    """e² / 2 up to delta, and beyond it the line that continues from there."""
    error = prediction - truth
    size = abs(error)
    value = HALF * error * error if size <= delta else delta * size - HALF * delta * delta
    return value, clamp(error, -delta, delta)


@numba_device
def binary_cross_entropy(probability, label, label_smoothing):
    """-l · log p - (1 - l) · log(1 - p), p being clipped."""
    label = label * (ONE - label_smoothing) + label_smoothing * HALF
    p = clamp(probability, EPSILON, ONE - EPSILON)
    value = -(label * math.log(p) + (ONE - label) * math.log(ONE - p))
    slope = (p - label) / (p * (ONE - p)) if p == probability else ZERO
    return value, slope


@numba_device
def sigmoid_binary_cross_entropy(z, label, label_smoothing):
    """max(z, 0) - z · l + log(1 + exp(-|z|)), which neither overflows nor takes the logarithm of
    0."""
    label = label * (ONE - label_smoothing) + label_smoothing * HALF
    decayed = math.exp(-abs(z))
    sigmoid = (ONE if z >= ZERO else decayed) / (ONE + decayed)
    return max(z, ZERO) - z * label + math.log1p(decayed), sigmoid - label


def mean_over_rows(each):
    """The kernel for a loss of each value: `each(y_pred, y_true, parameter)` returns it and its
    slope."""

    @numba_function
    def mean_over_rows(values, gradient, y_pred, y_true, parameter):
        partials = cuda.shared.array(MOST_THREADS, numba.float32)
        N, K = y_pred.shape
        n, columns = row_and_columns(y_pred)
        total = ZERO
        for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
            value, slope = each(y_pred[n, k], y_true[n, k], parameter)
            total += value
            gradient[n, k] = slope / np.float32(K)
        total = row_sum(total, partials)
        if cuda.threadIdx.x == 0 and n < N:
            values[n] = total / np.float32(K)

    return mean_over_rows


# -- cross entropies of K classes ----------------------------------------------------------------


@numba_function
def softmax_cross_entropy_rows(values, dlogits, logits, labels, label_smoothing):
    """With m the largest logit, t = Σ exp(z - m) and L = Σ labels: log(t) · L - Σ labels · (z - m),
    and its gradient exp(z - m) · L / t - labels."""
    partials = cuda.shared.array(MOST_THREADS, numba.float32)
    N, K = logits.shape
    n, columns = row_and_columns(logits)
    keep, share = ONE - label_smoothing, label_smoothing / np.float32(K)
    largest = largest_of_row(logits, n, columns, partials)

    total, weight, weighted = ZERO, ZERO, ZERO
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        shifted = logits[n, k] - largest
        label = labels[n, k] * keep + share
        total += math.exp(shifted)
        weight += label
        weighted += label * shifted
    total = row_sum(total, partials)
    weight = row_sum(weight, partials)
    weighted = row_sum(weighted, partials)

    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        label = labels[n, k] * keep + share
        dlogits[n, k] = math.exp(logits[n, k] - largest) * (weight / total) - label
    if cuda.threadIdx.x == 0 and n < N:
        values[n] = math.log(total) * weight - weighted


@numba_function
def sparse_softmax_cross_entropy_rows(values, dlogits, logits, labels):
    """The same where one label is 1 and the others 0: log(t) - (z[label] - m), and exp(z - m) / t -
    (k = label)."""
    partials = cuda.shared.array(MOST_THREADS, numba.float32)
    n, columns = row_and_columns(logits)
    largest = largest_of_row(logits, n, columns, partials)
    total = sum_of_exponentials(logits, n, columns, largest, partials)

    if n >= logits.shape[0]:
        return  # the last barrier is passed
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        dlogits[n, k] = math.exp(logits[n, k] - largest) / total - (ONE if k == labels[n] else ZERO)
    if cuda.threadIdx.x == 0:
        values[n] = math.log(total) - (logits[n, labels[n]] - largest)


@numba_function
def cross_entropy_rows(values, dprobabilities, probabilities, labels, label_smoothing):
    """With q = p / Σ p: -Σ labels · log(clip(q)), and through q the gradient (dq - Σ dq · q) / Σ
    p."""
    partials = cuda.shared.array(MOST_THREADS, numba.float32)
    N, K = probabilities.shape
    n, columns = row_and_columns(probabilities)
    keep, share = ONE - label_smoothing, label_smoothing / np.float32(K)
    total = sum_of_row(probabilities, n, columns, partials)

    value, along = ZERO, ZERO
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        label = labels[n, k] * keep + share
        q = probabilities[n, k] / total
        clipped = clamp(q, EPSILON, ONE - EPSILON)
        dq = -label / clipped if clipped == q else ZERO
        value -= label * math.log(clipped)
        along += dq * q
        dprobabilities[n, k] = dq  # kept for this thread's next loop
    value = row_sum(value, partials)
    along = row_sum(along, partials)

    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        dprobabilities[n, k] = (dprobabilities[n, k] - along) / total
    if cuda.threadIdx.x == 0 and n < N:
        values[n] = value


@numba_function
def sparse_cross_entropy_rows(values, dprobabilities, probabilities, labels):
    """The same where one label is 1 and the others 0: only one dq is not 0."""
    partials = cuda.shared.array(MOST_THREADS, numba.float32)
    n, columns = row_and_columns(probabilities)
    total = sum_of_row(probabilities, n, columns, partials)

    if n >= probabilities.shape[0]:
        return  # the last barrier is passed
    q = probabilities[n, labels[n]] / total
    clipped = clamp(q, EPSILON, ONE - EPSILON)
    slope = (-ONE / clipped if clipped == q else ZERO) / total
    for k in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        dprobabilities[n, k] = (slope if k == labels[n] else ZERO) - slope * q
    if cuda.threadIdx.x == 0:
        values[n] = -math.log(clipped)


# -- backward ------------------------------------------------------------------------------------


@numba_function
def scale_rows(y, gradient, factors):
    n = row_of_thread()
    if n < y.shape[0]:
        for k in range(cuda.threadIdx.x, y.shape[1], cuda.blockDim.x):
            y[n, k] = gradient[n, k] * factors[n]


def register(op, function, **default):
    """All losses are of one form: rows of outputs, labels, and at most one parameter."""

    @kernel(op, "rows", "numba")
    def launch(values, gradient, y_pred, labels, **parameter):
        N, K = y_pred.shape
        function[over_rows(N, K)](values, gradient, y_pred, labels, *(default | parameter).values())


register(loss.softmax_cross_entropy, softmax_cross_entropy_rows)
register(loss.sparse_softmax_cross_entropy, sparse_softmax_cross_entropy_rows)
register(loss.cross_entropy, cross_entropy_rows)
register(loss.sparse_cross_entropy, sparse_cross_entropy_rows)
register(loss.sigmoid_binary_cross_entropy, mean_over_rows(sigmoid_binary_cross_entropy))
register(loss.binary_cross_entropy, mean_over_rows(binary_cross_entropy))
register(loss.mean_squared_error, mean_over_rows(squared_error), parameter=0.0)
register(loss.mean_absolute_error, mean_over_rows(absolute_error), parameter=0.0)
register(loss.huber, mean_over_rows(huber))


@kernel(loss.scale_rows, "rows", "numba")
def launch_scale_rows(y, gradient, factors):
    scale_rows[over_rows(*gradient.shape)](y, gradient, factors)
