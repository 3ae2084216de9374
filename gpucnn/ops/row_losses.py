"""Losses of rows and their gradients, computed together: of values, of angles, of margins, of overlaps.

Rows are samples (or pixels of samples), the K columns classes or outputs, as in `ops.loss`. Each op
returns the loss of every row and its gradient with respect to the first operand. The formulas, with
their clipping and their ε = 10⁻⁷, are those of Keras 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..arguments import NotNegative, Positive
from ..dispatch.case import Array, Case, Draw, Spec, integers, real
from ..dispatch.op import op
from ..errors import ArgumentError, ShapeError
from .loss import EPSILON

_SHAPES = {"one_row": (1, 2), "one_column": (5, 1), "ragged": (7, 5), "mnist": (128, 10), "wide": (3, 1000)}
_BENCH = (512, 10)


def _outputs(name: str) -> Callable[..., tuple[Spec, Spec]]:
    """The shape rule of an op whose two operands are rows of equal length."""

    def outputs(y_pred: Spec, y_true: Spec, **params: float) -> tuple[Spec, Spec]:
        if len(y_pred.shape) != 2 or y_pred.shape != y_true.shape or not y_pred.shape[1]:
            raise ShapeError(f"{name}: both operands need one shape (N, K) and have {y_pred.shape} and {y_true.shape}")
        return y_pred.like(y_pred.shape[0]), y_pred

    return outputs


def _cases(
    low: float, high: float, labels: Callable[[int, int], Draw], ending: str = "", **params: float | str
) -> list[Case]:
    """Cases with predictions in [low, high); `labels(n, k)` draws the second operand."""
    cases = [
        Case(f"{name}{ending}", (real(n, k, low=low, high=high), labels(n, k)), dict(params))
        for name, (n, k) in _SHAPES.items()
    ]
    n, k = _BENCH
    return [*cases, Case(f"cifar_batch{ending}", (real(n, k, low=low, high=high), labels(n, k)), dict(params), True)]


def _fractions(n: int, k: int) -> Draw:
    return real(n, k, low=0.0, high=1.0)


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _logarithms(p: Array, t: Array) -> Array:
    return np.log(np.maximum(p, EPSILON) + 1) - np.log(np.maximum(t, EPSILON) + 1)


def _kl_divergence(p: Array, t: Array) -> Array:
    t = np.clip(t, EPSILON, 1)
    return t * np.log(t / np.clip(p, EPSILON, 1))


FUNCTIONS: dict[str, tuple[Callable[[Array, Array], Array], Callable[[Array, Array], Array]]] = {
    "mean_absolute_percentage_error": (
        lambda p, t: 100 * np.abs(p - t) / np.maximum(np.abs(t), EPSILON),
        lambda p, t: 100 * np.sign(p - t) / np.maximum(np.abs(t), EPSILON),
    ),
    "mean_squared_logarithmic_error": (
        lambda p, t: _logarithms(p, t) ** 2,
        lambda p, t: np.where(p < EPSILON, 0, 2 * _logarithms(p, t) / (np.maximum(p, EPSILON) + 1)),
    ),
    "log_cosh": (
        lambda p, t: p - t + _softplus(-2 * (p - t)) - math.log(2),
        lambda p, t: np.tanh(p - t),
    ),
    "poisson": (
        lambda p, t: p - t * np.log(p + EPSILON),
        lambda p, t: 1 - t / (p + EPSILON),
    ),
    "hinge": (
        lambda p, t: np.maximum(1 - t * p, 0),
        lambda p, t: np.where(1 - t * p > 0, -t, 0 * t),
    ),
    "squared_hinge": (
        lambda p, t: np.maximum(1 - t * p, 0) ** 2,
        lambda p, t: -2 * t * np.maximum(1 - t * p, 0),
    ),
    "kl_divergence": (
        _kl_divergence,
        lambda p, t: np.where((p < EPSILON) | (p > 1), 0, -np.clip(t, EPSILON, 1) / p),
    ),
}
"""For each loss of a prediction p and a target t: its value, and its slope by p."""

SUMMED = ("kl_divergence",)
"""Losses whose values are summed over a row; of the others, the mean is taken."""


def _check_function(function: str) -> None:
    if function not in FUNCTIONS:
        raise ArgumentError(f"value_loss: function={function!r} is unknown: use one of {', '.join(FUNCTIONS)}")


def _value_outputs(y_pred: Spec, y_true: Spec, *, function: str) -> tuple[Spec, Spec]:
    _check_function(function)
    return _outputs("value_loss")(y_pred, y_true)


@op(
    outputs=_value_outputs,
    cases=[
        *(case for f in FUNCTIONS for case in _cases(0.1, 0.9, _fractions, f"_{f}", function=f)),
        *(
            Case(f"signs_{f}", (real(33, 7, low=-2, high=2), real(33, 7)), {"function": f})
            for f in ("log_cosh", "hinge", "squared_hinge", "mean_absolute_percentage_error")
        ),
        Case("far_log_cosh", (real(33, 7, low=-1e4, high=1e4), real(33, 7)), {"function": "log_cosh"}),
    ],
    prefer=("rows",),
    ulps=16,
)
def value_loss(y_pred: Array, y_true: Array, *, function: str) -> tuple[Array, Array]:
    """The mean over each row of one of `FUNCTIONS`, or its sum for those of `SUMMED`.

    y_pred, y_true  (N, K)
    function        name of the function
    →               loss of each row (N,), dy_pred (N, K)
    """
    value, slope = FUNCTIONS[function]
    share = 1 if function in SUMMED else 1 / y_pred.shape[1]
    return value(y_pred, y_true).sum(axis=1) * share, slope(y_pred, y_true) * share


@op(
    outputs=_outputs("binary_focal"),
    cases=[
        *_cases(0.1, 0.9, _fractions, gamma=2.0, of_ones=1.0, of_zeros=1.0),
        *_cases(0.1, 0.9, _fractions, "_weighted", gamma=1.5, of_ones=0.25, of_zeros=0.75),
        *_cases(0.1, 0.9, _fractions, "_plain", gamma=0.0, of_ones=1.0, of_zeros=1.0),
    ],
    prefer=("rows",),
    ulps=16,
)
def binary_focal(
    probabilities: Array, labels: Array, *, gamma: NotNegative, of_ones: float, of_zeros: float
) -> tuple[Array, Array]:
    """The mean over each row of the binary crossentropy times (1 - p_t)^gamma, p_t being the probability of
    the truth: Lin et al., "Focal loss for dense object detection", ICCV 2017, equation 4.

    probabilities      (N, K) in [0, 1]
    labels             (N, K) in [0, 1]
    gamma              how much less well predicted values count
    of_ones, of_zeros  weights of the labels 1 and 0
    →                  loss of each row (N,), dprobabilities (N, K)
    """
    clipped = np.clip(probabilities, EPSILON, 1 - EPSILON)
    crossentropy = -(labels * np.log(clipped) + (1 - labels) * np.log(1 - clipped))
    slope = np.where(clipped == probabilities, (clipped - labels) / (clipped * (1 - clipped)), 0)
    missed = labels * (1 - probabilities) + (1 - labels) * probabilities
    factor = missed**gamma
    steepness = gamma * np.maximum(missed, 1e-30) ** (gamma - 1) * (1 - 2 * labels)
    weight = (labels * of_ones + (1 - labels) * of_zeros) / probabilities.shape[1]
    return (weight * factor * crossentropy).sum(axis=1), weight * (steepness * crossentropy + factor * slope)


@op(
    outputs=_outputs("categorical_focal"),
    cases=[
        *_cases(0.1, 1.0, lambda n, k: real(n, k, low=0.0, high=2.0 / k), alpha=0.25, gamma=2.0),
        *_cases(0.1, 1.0, lambda n, k: real(n, k, low=0.0, high=2.0 / k), "_plain", alpha=1.0, gamma=0.0),
    ],
    prefer=("rows",),
    ulps=32,
)
def categorical_focal(
    probabilities: Array, labels: Array, *, alpha: NotNegative, gamma: NotNegative
) -> tuple[Array, Array]:
    """-alpha · Σ labels · (1 - q)^gamma · log q over each row, q = clip(probabilities / Σ probabilities).

    probabilities  (N, K); each row is divided by its sum
    labels         (N, K) probabilities
    →              loss of each row (N,), dprobabilities (N, K)
    """
    total = probabilities.sum(axis=1, keepdims=True)
    scaled = probabilities / total
    q = np.clip(scaled, EPSILON, 1 - EPSILON)
    rest, logarithm = 1 - q, np.log(q)
    values = -alpha * (labels * rest**gamma * logarithm).sum(axis=1)
    slope = -alpha * labels * rest**gamma * (1 / q - gamma * logarithm / rest)
    dscaled = np.where(q == scaled, slope, 0)
    return values, (dscaled - (dscaled * scaled).sum(axis=1, keepdims=True)) / total


@op(outputs=_outputs("cosine"), cases=_cases(-1.0, 1.0, real), prefer=("rows",), ulps=32)
def cosine(y_pred: Array, y_true: Array) -> tuple[Array, Array]:
    """Minus the cosine of the angle between rows: -Σ y_pred · y_true / (|y_pred| · |y_true|).

    Norms below ε count as ε.

    y_pred, y_true  (N, K)
    →               loss of each row (N,), dy_pred (N, K)
    """
    length = np.sqrt((y_pred * y_pred).sum(axis=1, keepdims=True))
    a = 1 / np.maximum(length, EPSILON)
    b = 1 / np.maximum(np.sqrt((y_true * y_true).sum(axis=1, keepdims=True)), EPSILON)
    along = (y_pred * y_true).sum(axis=1, keepdims=True)
    turn = np.where(length > EPSILON, y_pred * (a * a * along), 0)
    return (-a * b * along)[:, 0], -a * b * (y_true - turn)


@op(
    outputs=_outputs("categorical_hinge"),
    cases=_cases(-1.0, 1.0, _fractions),
    prefer=("rows",),
    ulps=32,
)
def categorical_hinge(y_pred: Array, y_true: Array) -> tuple[Array, Array]:
    """max(1 + max((1 - y_true) · y_pred) - Σ y_true · y_pred, 0) over each row.

    y_pred, y_true  (N, K)
    →               loss of each row (N,), dy_pred (N, K)
    """
    others = (1 - y_true) * y_pred
    strongest = others.argmax(axis=1)
    values = others.max(axis=1) - (y_true * y_pred).sum(axis=1) + 1
    gradient = -y_true
    rows = np.arange(len(y_pred))
    gradient[rows, strongest] += 1 - y_true[rows, strongest]
    return np.maximum(values, 0), np.where(values[:, None] > 0, gradient, 0)


@op(
    outputs=_outputs("overlap"),
    cases=[
        *_cases(0.0, 1.0, _fractions, alpha=0.5, beta=0.5, epsilon=5e-8),
        *_cases(0.0, 1.0, _fractions, "_uneven", alpha=0.25, beta=0.75, epsilon=1e-7),
        Case(
            "image", (real(2, 9001, low=0, high=1), _fractions(2, 9001)), {"alpha": 0.5, "beta": 0.5, "epsilon": 1e-7}
        ),
    ],
    prefer=("rows",),
    ulps=32,
)
def overlap(
    y_pred: Array, y_true: Array, *, alpha: NotNegative, beta: NotNegative, epsilon: Positive
) -> tuple[Array, Array]:
    """1 - I / (I + alpha · Σ y_true · (1 - y_pred) + beta · Σ y_pred · (1 - y_true) + epsilon) over each row,
    with I = Σ y_true · y_pred.

    With alpha = beta = 1/2, one minus the coefficient of Dice: Salehi, Erdogmus, Gholipour, "Tversky
    loss function for image segmentation", MLMI 2017.

    y_pred, y_true  (N, K)
    →               loss of each row (N,), dy_pred (N, K)
    """
    shared = (y_true * y_pred).sum(axis=1, keepdims=True)
    whole = (
        (1 - alpha - beta) * shared
        + alpha * y_true.sum(axis=1, keepdims=True)
        + beta * y_pred.sum(axis=1, keepdims=True)
        + epsilon
    )
    grows = (1 - alpha - beta) * y_true + beta
    return (1 - shared / whole)[:, 0], (shared / whole * grows - y_true) / whole


def _power_outputs(probabilities: Spec, labels: Spec, *, q: float) -> tuple[Spec, Spec]:
    shape = probabilities.shape
    if len(shape) != 2 or labels.shape != shape[:1] or not shape[1] or labels.dtype.kind not in "iu":
        raise ShapeError(
            f"power_loss: the operands need the shapes (N, K) and (N,), of integers, and have {shape} and "
            f"{labels.shape} {labels.dtype}"
        )
    return probabilities.like(shape[0]), probabilities


@op(
    outputs=_power_outputs,
    cases=_cases(0.1, 1.0, lambda n, k: integers(n, high=k), q=0.5),
    prefer=("rows",),
    ulps=16,
)
def power_loss(probabilities: Array, labels: Array, *, q: Positive) -> tuple[Array, Array]:
    """(1 - p^q) / q, p being the probability of the label of each row: Zhang, Sabuncu, "Generalized cross
    entropy loss", NeurIPS 2018, equation 6.

    probabilities  (N, K)
    labels         (N,) integers in [0, K)
    →              loss of each row (N,), dprobabilities (N, K)
    """
    rows = np.arange(len(probabilities))
    p = probabilities[rows, labels]
    gradient = np.zeros_like(probabilities)
    gradient[rows, labels] = -(p ** (q - 1))
    return (1 - p**q) / q, gradient
