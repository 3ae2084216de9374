"""Losses and their gradients, computed together because they share their exponentials.

Rows are samples (or pixels of samples), the K columns classes or outputs. Each op returns the loss
of every row and its gradient with respect to the first operand. The ops on logits stay exact where
a softmax or a sigmoid saturates; the others clip probabilities to [ε, 1 - ε] as Keras does.
`scale_rows` applies the chain rule for the reduction of the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..arguments import Fraction, Positive
from ..dispatch.case import Array, Case, Draw, Spec, integers, real
from ..dispatch.op import Op, op
from ..errors import ShapeError

EPSILON = 1e-7
"""Probabilities are clipped to [ε, 1 - ε] before a logarithm: Keras' `backend.epsilon()`."""


def _dense_rows(name: str) -> Callable[..., tuple[Spec, Spec]]:
    """The shape rule of an op whose two operands are rows of equal length."""

    def outputs(y_pred: Spec, y_true: Spec, **params: float) -> tuple[Spec, Spec]:
        if len(y_pred.shape) != 2 or y_pred.shape != y_true.shape or not y_pred.shape[1]:
            raise ShapeError(f"{name}: both operands need one shape (N, K) and have {y_pred.shape} and {y_true.shape}")
        return y_pred.like(y_pred.shape[0]), y_pred

    return outputs


def _sparse_rows(name: str) -> Callable[[Spec, Spec], tuple[Spec, Spec]]:
    """The shape rule of an op whose second operand is one class number for each row."""

    def outputs(y_pred: Spec, labels: Spec) -> tuple[Spec, Spec]:
        if len(y_pred.shape) != 2 or labels.shape != y_pred.shape[:1] or not y_pred.shape[1]:
            raise ShapeError(
                f"{name}: the operands need the shapes (N, K) and (N,) and have {y_pred.shape} and {labels.shape}"
            )
        if labels.dtype.kind not in "iu":
            raise ShapeError(f"{name}: labels are {labels.dtype} and must be integers")
        return y_pred.like(y_pred.shape[0]), y_pred

    return outputs


def _cases(labels: Callable[[int, int], Draw], low: float, high: float, **params: float) -> list[Case]:
    """Cases with predictions in [low, high); `labels(n, k)` draws the second operand."""

    def case(name: str, n: int, k: int, bench: bool = False) -> Case:
        return Case(name, (real(n, k, low=low, high=high), labels(n, k)), dict(params), bench)

    return [
        case("one_row", 1, 2),
        case("one_column", 5, 1),
        case("ragged", 7, 5),
        case("mnist", 128, 10),
        case("wide", 3, 1000),
        case("cifar_batch", 512, 10, bench=True),
        case("imagenet_batch", 256, 1000, bench=True),
    ]


def _shares(n: int, k: int) -> Draw:
    return real(n, k, low=0.0, high=2.0 / k)


def _fractions(n: int, k: int) -> Draw:
    return real(n, k, low=0.0, high=1.0)


def _classes(n: int, k: int) -> Draw:
    return integers(n, high=k)


def _logit_cases(labels: Callable[[int, int], Draw]) -> list[Case]:
    """Cases of logits in [-5, 5), and one of logits at which a softmax or a sigmoid saturates."""
    return [*_cases(labels, -5.0, 5.0), Case("extreme", (real(33, 10, low=-1e4, high=1e4), labels(33, 10)))]


def _with_smoothing(cases: list[Case]) -> list[Case]:
    """The cases without label smoothing, and the ragged one with it."""
    (ragged,) = (case for case in cases if case.name == "ragged")
    smoothed = replace(ragged, name="smoothed", params={"label_smoothing": 0.1})
    return [*(replace(case, params={"label_smoothing": 0.0}) for case in cases), smoothed]


def _cross_entropy(outputs: Callable[..., tuple[Spec, Spec]], cases: list[Case]) -> Callable[[Callable], Op]:
    """Turn a body into an op: logarithms and quotients let the error grow to 16 ulps."""
    return op(outputs=outputs, cases=cases, prefer=("rows",), ulps=16)


@_cross_entropy(_dense_rows("softmax_cross_entropy"), _with_smoothing(_logit_cases(_shares)))
def softmax_cross_entropy(logits: Array, labels: Array, *, label_smoothing: Fraction) -> tuple[Array, Array]:
    """-Σ labels · log softmax(logits) over each row.

    logits           (N, K)
    labels           (N, K) probabilities
    label_smoothing  s: labels become labels · (1 - s) + s / K
    →                loss of each row (N,), dlogits (N, K)
    """
    labels = _smooth(labels, label_smoothing, logits.shape[1])
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=1, keepdims=True)
    values = (labels * (np.log(total) - shifted)).sum(axis=1)
    return values, exponentials * (labels.sum(axis=1, keepdims=True) / total) - labels


@_cross_entropy(_sparse_rows("sparse_softmax_cross_entropy"), _logit_cases(_classes))
def sparse_softmax_cross_entropy(logits: Array, labels: Array) -> tuple[Array, Array]:
    """-log softmax(logits) at the label of each row.

    logits  (N, K)
    labels  (N,) integers in [0, K)
    →       loss of each row (N,), dlogits (N, K)
    """
    rows = np.arange(len(logits))
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=1, keepdims=True)
    dlogits = exponentials / total
    dlogits[rows, labels] -= 1
    return np.log(total[:, 0]) - shifted[rows, labels], dlogits


@_cross_entropy(_dense_rows("sigmoid_binary_cross_entropy"), _with_smoothing(_logit_cases(_fractions)))
def sigmoid_binary_cross_entropy(logits: Array, labels: Array, *, label_smoothing: Fraction) -> tuple[Array, Array]:
    """The mean over each row of -labels · log σ(logits) - (1 - labels) · log(1 - σ(logits)).

    Computed as max(z, 0) - z · labels + log(1 + exp(-|z|)) for the logits z.

    logits           (N, K)
    labels           (N, K) in [0, 1]
    label_smoothing  s: labels become labels · (1 - s) + s / 2
    →                loss of each row (N,), dlogits (N, K)
    """
    labels = _smooth(labels, label_smoothing, 2)
    decayed = np.exp(-np.abs(logits))
    values = (np.maximum(logits, 0) - logits * labels + np.log1p(decayed)).mean(axis=1)
    sigmoid = np.where(logits >= 0, 1, decayed) / (1 + decayed)
    return values, (sigmoid - labels) / logits.shape[1]


@_cross_entropy(_dense_rows("cross_entropy"), _with_smoothing(_cases(_shares, 0.1, 1.0)))
def cross_entropy(probabilities: Array, labels: Array, *, label_smoothing: Fraction) -> tuple[Array, Array]:
    """-Σ labels · log(clip(probabilities / Σ probabilities)) over each row.

    probabilities    (N, K); each row is divided by its sum
    labels           (N, K) probabilities
    label_smoothing  s: labels become labels · (1 - s) + s / K
    →                loss of each row (N,), dprobabilities (N, K)
    """
    labels = _smooth(labels, label_smoothing, probabilities.shape[1])
    total = probabilities.sum(axis=1, keepdims=True)
    scaled = probabilities / total
    clipped = np.clip(scaled, EPSILON, 1 - EPSILON)
    values = -(labels * np.log(clipped)).sum(axis=1)
    dscaled = np.where(clipped == scaled, -labels / clipped, 0)
    return values, (dscaled - (dscaled * scaled).sum(axis=1, keepdims=True)) / total


@_cross_entropy(_sparse_rows("sparse_cross_entropy"), _cases(_classes, 0.1, 1.0))
def sparse_cross_entropy(probabilities: Array, labels: Array) -> tuple[Array, Array]:
    """-log(clip(probabilities / Σ probabilities)) at the label of each row.

    probabilities  (N, K); each row is divided by its sum
    labels         (N,) integers in [0, K)
    →              loss of each row (N,), dprobabilities (N, K)
    """
    rows = np.arange(len(probabilities))
    total = probabilities.sum(axis=1)
    scaled = probabilities[rows, labels] / total
    clipped = np.clip(scaled, EPSILON, 1 - EPSILON)
    slope = np.where(clipped == scaled, -1 / clipped, 0) / total
    dprobabilities = np.repeat((-slope * scaled)[:, None], probabilities.shape[1], axis=1)
    dprobabilities[rows, labels] += slope
    return -np.log(clipped), dprobabilities


@_cross_entropy(_dense_rows("binary_cross_entropy"), _with_smoothing(_cases(_fractions, 0.1, 0.9)))
def binary_cross_entropy(probabilities: Array, labels: Array, *, label_smoothing: Fraction) -> tuple[Array, Array]:
    """The mean over each row of -labels · log p - (1 - labels) · log(1 - p).

    p are the clipped probabilities.

    probabilities    (N, K) in [0, 1]
    labels           (N, K) in [0, 1]
    label_smoothing  s: labels become labels · (1 - s) + s / 2
    →                loss of each row (N,), dprobabilities (N, K)
    """
    labels = _smooth(labels, label_smoothing, 2)
    clipped = np.clip(probabilities, EPSILON, 1 - EPSILON)
    values = -(labels * np.log(clipped) + (1 - labels) * np.log(1 - clipped)).mean(axis=1)
    slope = (clipped - labels) / (clipped * (1 - clipped) * probabilities.shape[1])
    return values, np.where(clipped == probabilities, slope, 0)


@op(outputs=_dense_rows("mean_squared_error"), cases=_cases(real, -1.0, 1.0), prefer=("rows",))
def mean_squared_error(y_pred: Array, y_true: Array) -> tuple[Array, Array]:
    """The mean over each row of (y_pred - y_true)².

    y_pred, y_true  (N, K)
    →               loss of each row (N,), dy_pred (N, K)
    """
    error = y_pred - y_true
    return (error * error).mean(axis=1), error * (2 / error.shape[1])


@op(outputs=_dense_rows("mean_absolute_error"), cases=_cases(real, -1.0, 1.0), prefer=("rows",))
def mean_absolute_error(y_pred: Array, y_true: Array) -> tuple[Array, Array]:
    """The mean over each row of |y_pred - y_true|; its gradient is 0 where they are equal.

    y_pred, y_true  (N, K)
    →               loss of each row (N,), dy_pred (N, K)
    """
    error = y_pred - y_true
    return np.abs(error).mean(axis=1), np.sign(error) / error.shape[1]


@op(outputs=_dense_rows("huber"), cases=_cases(real, -2.0, 2.0, delta=1.0), prefer=("rows",))
def huber(y_pred: Array, y_true: Array, *, delta: Positive) -> tuple[Array, Array]:
    """The mean over each row of e² / 2 where |e| ≤ delta, else delta · |e| - delta² / 2.

    e is y_pred - y_true. Huber, "Robust estimation of a location parameter", Ann. Math. Statist. 35
    (1964), section 5.

    y_pred, y_true  (N, K)
    →               loss of each row (N,), dy_pred (N, K)
    """
    error = y_pred - y_true
    size = np.abs(error)
    values = np.where(size <= delta, 0.5 * error * error, delta * size - 0.5 * delta * delta).mean(axis=1)
    return values, np.clip(error, -delta, delta) / error.shape[1]


def _scaled_rows(gradient: Spec, factors: Spec) -> Spec:
    if len(gradient.shape) != 2 or factors != gradient.like(*gradient.shape[:1]):
        raise ShapeError(
            f"scale_rows: the operands need the shapes (N, K) and (N,) and one dtype, and are {gradient.shape} "
            f"{gradient.dtype} and {factors.shape} {factors.dtype}"
        )
    return gradient


@op(outputs=_scaled_rows, cases=_cases(lambda n, _: real(n), -1.0, 1.0), prefer=("rows",))
def scale_rows(gradient: Array, factors: Array) -> Array:
    """Multiply each row by its factor: the chain rule from the losses of rows to the reduced loss.

    gradient  (N, K): gradient of the loss of each row
    factors   (N,): gradient of the reduced loss with respect to the loss of each row
    →         (N, K): gradient of the reduced loss
    """
    return gradient * factors[:, None]


def _smooth(labels: Array, label_smoothing: Fraction, share: int) -> Array:
    return labels * (1 - label_smoothing) + label_smoothing / share if label_smoothing else labels
