"""Updates of weights by the common optimizers, and what comes before and after them: weight decay, averages,
clipping, penalties, norms. Each op makes one pass, in place, over the flat arrays of a model.

`update_rules` has the updates of Adamax, Lion, Ftrl, Lamb and Muon. `flat_updates` says what the row
of numbers holds, and how such an op is declared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..arguments import Count
from ..dispatch.case import Array, Case, Spec, among, real
from ..dispatch.op import op
from ..errors import ShapeError
from .flat_updates import (
    BLOCK,
    DECAY,
    MOMENTUM,
    RATE,
    ROW,
    SIGNS,
    SMALL_SQUARES,
    TAKE,
    in_place,
    sized,
    squares,
    zeros_and_signs,
)

LEAST_SCALE, MOST_SCALE = 2.0**-126, 2.0**126
"""Bounds of a norm's scale: within them, it and 1 / scale are normal numbers of float32."""


@in_place(
    "values",
    cases=[
        *sized(lambda n: (real(n), real(n), ROW)),
        zeros_and_signs(SIGNS, SIGNS, ROW),
    ],
)
def sgd(values: Array, gradients: Array, row: Array) -> None:
    """values - rate · gradients. All arrays (n,)."""
    values -= row[RATE] * gradients


@in_place(
    "values",
    "m",
    cases=[
        *sized(lambda n: (real(n), real(n), real(n), ROW), momentum=0.9, nesterov=True),
        zeros_and_signs(SIGNS, SIGNS, real(67), ROW, momentum=0.9, nesterov=True),
    ],
)
def momentum(values: Array, gradients: Array, m: Array, row: Array, *, momentum: float, nesterov: bool) -> None:
    """Momentum m, plain or Nesterov's: Sutskever et al., ICML 2013, section 2. All arrays (n,)."""
    m *= momentum
    m -= row[RATE] * gradients
    values += momentum * m - row[RATE] * gradients if nesterov else m


_ADAM: dict[str, Any] = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}


@in_place(
    "values",
    "m",
    "v",
    "v_max",
    cases=[
        *sized(lambda n: (real(n), real(n), real(n), squares(n), squares(n), ROW), **_ADAM),
        *sized(lambda n: (real(n), real(n), real(n), squares(n), None, ROW), "_plain", **_ADAM),
        zeros_and_signs(SIGNS, SIGNS, real(67), SMALL_SQUARES, SMALL_SQUARES, ROW, **_ADAM),
    ],
)
def adam(
    values: Array,
    gradients: Array,
    m: Array,
    v: Array,
    v_max: Array | None,
    row: Array,
    *,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> None:
    """Adam: Kingma and Ba, ICLR 2015, algorithm 1 as rewritten before section 2.1. All arrays (n,).

    row[RATE] is rate · √(1 - β₂ᵗ) / (1 - β₁ᵗ). With v_max AMSGrad: Reddi, Kale, Kumar, ICLR 2018,
    algorithm 2.
    """
    m += (1 - beta_1) * (gradients - m)
    v += (1 - beta_2) * (gradients * gradients - v)
    if v_max is not None:
        v = np.maximum(v_max, v, out=v_max)
    values -= row[RATE] * m / (np.sqrt(v) + epsilon)


@in_place(
    "values",
    "m",
    "v",
    cases=[
        *sized(lambda n: (real(n), real(n), real(n), squares(n), ROW), **_ADAM),
        zeros_and_signs(SIGNS, SIGNS, real(67), SMALL_SQUARES, ROW, **_ADAM),
    ],
)
def nadam(
    values: Array, gradients: Array, m: Array, v: Array, row: Array, *, beta_1: float, beta_2: float, epsilon: float
) -> None:
    """Adam with Nesterov's momentum: Dozat, ICLR workshop 2016, algorithm 2. All arrays (n,).

    row[RATE:] is the factor of m, the factor of the gradient (learning rate and momentum schedule
    in both), and 1 / (1 - β₂ᵗ).
    """
    of_m, of_gradients, correction = row[RATE : RATE + 3]
    m += (1 - beta_1) * (gradients - m)
    v += (1 - beta_2) * (gradients * gradients - v)
    values -= (of_m * m + of_gradients * gradients) / (np.sqrt(correction * v) + epsilon)


_RMSPROP: dict[str, Any] = {"rho": 0.9, "momentum": 0.9, "epsilon": 1e-7}


@in_place(
    "values",
    "v",
    "mean",
    "m",
    cases=[
        *sized(lambda n: (real(n), real(n), squares(n), real(n, low=-0.5, high=0.5), real(n), ROW), **_RMSPROP),
        *sized(lambda n: (real(n), real(n), squares(n), None, None, ROW), "_plain", **_RMSPROP),
        zeros_and_signs(SIGNS, SIGNS, SMALL_SQUARES, real(67, low=-1e-5, high=1e-5), real(67), ROW, **_RMSPROP),
    ],
)
def rmsprop(
    values: Array,
    gradients: Array,
    v: Array,
    mean: Array | None,
    m: Array | None,
    row: Array,
    *,
    rho: float,
    momentum: float,
    epsilon: float,
) -> None:
    """RMSprop: Hinton, "Neural networks for machine learning", 2012, lecture 6e. All arrays (n,).

    With mean, the running mean of the gradients, it divides by their standard deviation (Graves,
    arXiv:1308.0850, equations 38 to 41); with m the change has momentum.
    """
    v *= rho
    v += (1 - rho) * (gradients * gradients)
    spread = v + epsilon
    if mean is not None:
        mean *= rho
        mean += (1 - rho) * gradients
        spread -= mean * mean
    change = row[RATE] * gradients / np.sqrt(spread)
    if m is not None:
        m *= momentum
        m += change
        change = m
    values -= change


@in_place(
    "values",
    "v",
    cases=[
        *sized(lambda n: (real(n), real(n), squares(n), ROW), epsilon=1e-7),
        zeros_and_signs(SIGNS, SIGNS, SMALL_SQUARES, ROW, epsilon=1e-7),
    ],
)
def adagrad(values: Array, gradients: Array, v: Array, row: Array, *, epsilon: float) -> None:
    """Adagrad: Duchi, Hazan, Singer, JMLR 12 (2011), figure 1. v sums squares. All arrays (n,)."""
    v += gradients * gradients
    values -= row[RATE] * gradients / np.sqrt(v + epsilon)


@in_place(
    "values",
    "v",
    "delta",
    cases=[
        *sized(lambda n: (real(n), real(n), squares(n), real(n, low=0.0), ROW), rho=0.95, epsilon=1e-7),
        zeros_and_signs(SIGNS, SIGNS, SMALL_SQUARES, real(67, low=0.0), ROW, rho=0.95, epsilon=1e-7),
    ],
)
def adadelta(
    values: Array, gradients: Array, v: Array, delta: Array, row: Array, *, rho: float, epsilon: float
) -> None:
    """Adadelta: Zeiler, arXiv:1212.5701, algorithm 1. All arrays (n,).

    v is the running mean of the squared gradients, delta that of the squared changes.
    """
    v *= rho
    v += (1 - rho) * (gradients * gradients)
    change = np.sqrt(delta + epsilon) * gradients / np.sqrt(v + epsilon)
    delta *= rho
    delta += (1 - rho) * (change * change)
    values -= row[RATE] * change


@in_place("values", cases=[*sized(lambda n: (real(n), ROW)), zeros_and_signs(SIGNS, ROW)])
def decay(values: Array, row: Array) -> None:
    """Decoupled weight decay: Loshchilov and Hutter, ICLR 2019, algorithm 1. All arrays (n,)."""
    values -= row[DECAY] * values


@in_place(
    "averages",
    cases=[*sized(lambda n: (real(n), real(n), ROW)), zeros_and_signs(real(67), SIGNS, ROW)],
)
def average(averages: Array, values: Array, row: Array) -> None:
    """Update the moving average of the weights with their current values. All arrays (n,)."""
    averages *= row[MOMENTUM]
    averages += row[TAKE] * values


@in_place("total", cases=[*sized(lambda n: (real(n), real(n))), zeros_and_signs(real(67), SIGNS)])
def accumulate(total: Array, gradients: Array) -> None:
    """Add gradients to total. All arrays (n,)."""
    total += gradients


@in_place(
    "gradients",
    "total",
    cases=[
        *sized(lambda n: (real(n), real(n)), count=4),
        zeros_and_signs(SIGNS, real(67), count=4),
    ],
)
def take_mean(gradients: Array, total: Array, *, count: Count) -> None:
    """gradients becomes (gradients + total) / count, and total becomes 0. All arrays (n,)."""
    gradients += total
    gradients /= count
    total[...] = 0


@in_place("gradients", cases=[*sized(lambda n: (real(n),), limit=0.5), zeros_and_signs(SIGNS, limit=0.5)])
def clip_by_value(gradients: Array, *, limit: float) -> None:
    """Clip every element to -limit … limit. All arrays (n,)."""
    np.clip(gradients, -limit, limit, out=gradients)


@in_place(
    "gradients",
    cases=[
        *sized(lambda n: (real(n), real(2, low=1.0, high=2.0)), limit=0.5),
        zeros_and_signs(SIGNS, real(2, low=0.1, high=0.2), limit=0.5),
        Case(
            "infinite",
            (among(67, values=(-math.inf, -2.0, 0.0, math.inf)), among(2, values=(math.inf,))),
            {"limit": 0.5},
        ),
    ],
)
def clip_by_norm(gradients: Array, parts: Array, *, limit: float) -> None:
    """gradients · limit / max(norm, limit), where norm = scale · √total.

    If the norm is infinite, infinite gradients become ±limit and all others 0.

    gradients  (n,), changed in place
    parts      (2,): scale and total, as `norm_parts` returns them
    """
    scale, total = parts.astype(np.float64)
    if np.isinf(scale):
        gradients[...] = np.where(np.isinf(gradients), np.copysign(limit, gradients), 0)
        return
    gradients *= (limit / np.maximum(scale * np.sqrt(total), limit)).astype(gradients.dtype)


@in_place(
    "gradients",
    cases=[
        *sized(lambda n: (real(n), real(n)), l1=0.25, l2=0.125),
        zeros_and_signs(SIGNS, SIGNS, l1=0.25, l2=0.125),
    ],
)
def regularize(gradients: Array, values: Array, *, l1: float, l2: float) -> None:
    """Add the derivative of l1 · Σ|values| + l2 · Σ values² to the gradients. All arrays (n,).

    The derivative of |0| is 0.
    """
    if l1:
        gradients += l1 * np.sign(values) + 2.0 * l2 * values
    else:
        gradients += 2.0 * l2 * values


@in_place("values", cases=[*sized(lambda n: (real(n),)), zeros_and_signs(SIGNS)])
def non_neg(values: Array) -> None:
    """The constraint "non_neg": negative values become 0. All arrays (n,)."""
    np.maximum(values, 0, out=values)


def _flat_to(count: Count) -> Callable[..., Spec]:
    """The shape rule of a reduction of a flat array to `count` numbers."""

    def outputs(x: Spec, **params: Any) -> Spec:
        if len(x.shape) != 1:
            raise ShapeError(f"the array that is summed must be flat and has shape {x.shape}")
        return x.like(count)

    return outputs


@op(outputs=_flat_to(2), cases=sized(lambda n: (real(n),)), prefer=("two_stage",), terms=lambda x: x.shape[0])
def norm_parts(x: Array) -> Array:
    """The Euclidean norm as two numbers, scale · √total.

    No gradient is too large or too small for them to be computed.

    scale  the largest power of two up to max |x|, within 2⁻¹²⁶ … 2¹²⁶; 0 if all of x is 0
    total  the sum of (x / scale)²; 1 if x has a NaN or an infinity, which is then the scale

    x  (n,)
    →  (2,): scale, total
    """
    largest, total = 0.0, 0.0
    for start in range(0, x.size, BLOCK):
        block = x[start : start + BLOCK]
        largest = np.maximum(largest, np.maximum(block.max(), -block.min()))
        total += np.square(block, dtype=np.float64).sum()
    return np.array(parts_of(float(largest), float(total)), x.dtype)


def parts_of(largest: float, square_sum: float) -> tuple[float, float]:
    """Scale and total of `norm_parts`, from max |x| and the sum of squares in float64."""
    if not math.isfinite(largest):
        return largest, 1.0
    if not largest:
        return 0.0, 0.0
    scale = min(max(math.ldexp(0.5, math.frexp(largest)[1]), LEAST_SCALE), MOST_SCALE)
    return scale, square_sum / scale**2


@op(
    outputs=_flat_to(1),
    cases=sized(lambda n: (real(n),), l1=0.5, l2=0.25),
    prefer=("two_stage",),
    terms=lambda values, **_: 2 * values.shape[0],
)
def penalty(values: Array, *, l1: float, l2: float) -> Array:
    """l1 · Σ|values| + l2 · Σ values², whose derivative `regularize` adds.

    values  (n,)
    →       (1,)
    """
    total = 0.0
    for start in range(0, values.size, BLOCK):
        block = values[start : start + BLOCK]
        if l1:
            total += l1 * np.sum(np.abs(block), dtype=np.float64)
        if l2:
            total += l2 * np.sum(np.square(block, dtype=np.float64))
    return np.array([total], values.dtype)
