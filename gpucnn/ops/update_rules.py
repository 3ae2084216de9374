"""Updates of weights by the optimizers that `update` lacks: Adamax, Lion, Ftrl, and the steps of Lamb and
Muon, which look at each weight array as a whole.

`flat_updates` says what the row of numbers holds, and how such an op is declared.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dispatch.case import Array, Draw, real
from .flat_updates import RATE, ROW, SIGNS, SMALL_SQUARES, in_place, sized, squares, zeros_and_signs

_MOMENTS: dict[str, Any] = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}


@in_place(
    "values",
    "m",
    "u",
    cases=[
        *sized(lambda n: (real(n), real(n), real(n), squares(n), ROW), **_MOMENTS),
        zeros_and_signs(SIGNS, SIGNS, real(67), SMALL_SQUARES, ROW, **_MOMENTS),
    ],
)
def adamax(
    values: Array, gradients: Array, m: Array, u: Array, row: Array, *, beta_1: float, beta_2: float, epsilon: float
) -> None:
    """Adam with the largest gradient instead of a mean of squares: Kingma and Ba, ICLR 2015, algorithm 2.

    row[RATE] is rate / (1 - β₁ᵗ). All arrays (n,).
    """
    m += (1 - beta_1) * (gradients - m)
    np.maximum(beta_2 * u, np.abs(gradients), out=u)
    values -= row[RATE] * m / (u + epsilon)


@in_place(
    "values",
    "m",
    cases=[
        *sized(lambda n: (real(n), real(n), real(n), ROW), beta_1=0.9, beta_2=0.99),
        zeros_and_signs(SIGNS, SIGNS, SIGNS, ROW, beta_1=0.5, beta_2=0.99),
    ],
)
def lion(values: Array, gradients: Array, m: Array, row: Array, *, beta_1: float, beta_2: float) -> None:
    """Lion, whose steps are signs: Chen et al., NeurIPS 2023, algorithm 2. All arrays (n,)."""
    values -= row[RATE] * np.sign(beta_1 * m + (1 - beta_1) * gradients)
    m *= beta_2
    m += (1 - beta_2) * gradients


_FTRL: dict[str, Any] = {"power": 0.5, "l1": 0.25, "l2": 0.125, "shrinkage": 0.0625, "beta": 0.5}


@in_place(
    "values",
    "v",
    "linear",
    cases=[
        *sized(lambda n: (real(n), real(n), squares(n), real(n), ROW), **_FTRL),
        *sized(
            lambda n: (real(n), real(n), squares(n), real(n), ROW),
            "_plain",
            **{**dict.fromkeys(_FTRL, 0.0), "power": 0.5},
        ),
        zeros_and_signs(SIGNS, SIGNS, squares(67), SIGNS, ROW, **{**_FTRL, "power": 0.75}),
    ],
    ulps=64,
)
def ftrl(
    values: Array,
    gradients: Array,
    v: Array,
    linear: Array,
    row: Array,
    *,
    power: float,
    l1: float,
    l2: float,
    shrinkage: float,
    beta: float,
) -> None:
    """Follow the regularised leader: McMahan et al., KDD 2013, algorithm 1, with shrinkage as in Keras.

    v sums squares, and `power` is minus Keras' learning_rate_power. A value on which nothing has acted
    yet becomes 0. All arrays (n,).
    """
    rate = row[RATE]
    before = v**power
    v += gradients * gradients
    after = v**power
    linear += gradients + 2 * shrinkage * values - (after - before) / rate * values
    quadratic = after / rate + 2 * l2 + beta / rate
    change = np.clip(linear, -l1, l1) - linear
    values[...] = np.where(quadratic > 0, change / np.where(quadratic > 0, quadratic, 1), 0)


@in_place(
    "gradients",
    "m",
    "v",
    cases=[
        *sized(lambda n: (real(n), real(n), squares(n), ROW), **_MOMENTS),
        zeros_and_signs(SIGNS, real(67), SMALL_SQUARES, ROW, **_MOMENTS),
    ],
    ulps=16,
)
def lamb(gradients: Array, m: Array, v: Array, row: Array, *, beta_1: float, beta_2: float, epsilon: float) -> None:
    """The direction of Lamb, which replaces the gradients: You et al., ICLR 2020, algorithm 2.

    row[RATE + 1:] is 1 / (1 - β₁ᵗ) and 1 / (1 - β₂ᵗ). All arrays (n,).
    """
    m += (1 - beta_1) * (gradients - m)
    v += (1 - beta_2) * (gradients * gradients - v)
    gradients[...] = m * row[RATE + 1] / (np.sqrt(v * row[RATE + 2]) + epsilon)


def _norm_parts(scale: float) -> Draw:
    return real(2, low=scale, high=2 * scale)


@in_place(
    "values",
    cases=[
        *sized(lambda n: (real(n), real(n), _norm_parts(1.0), _norm_parts(0.5), ROW)),
        zeros_and_signs(SIGNS, SIGNS, real(2, low=0.0, high=0.0), _norm_parts(1.0), ROW),
    ],
)
def trust_step(values: Array, gradients: Array, value_parts: Array, parts: Array, row: Array) -> None:
    """values - rate · ratio · gradients, where the ratio is that of both norms, or 1 if one is 0.

    value_parts, parts  (2,): the norms of values and gradients, as `norm_parts` returns them
    """
    of_values, of_gradients = (float(scale) * np.sqrt(float(total)) for scale, total in (value_parts, parts))
    ratio = of_values / of_gradients if of_values > 0 and of_gradients > 0 else 1.0
    values -= (row[RATE] * ratio).astype(values.dtype) * gradients


@in_place(
    "gradients",
    "m",
    cases=[
        *sized(lambda n: (real(n), real(n)), momentum=0.95, nesterov=True),
        *sized(lambda n: (real(n), real(n)), "_plain", momentum=0.95, nesterov=False),
        zeros_and_signs(SIGNS, real(67), momentum=0.95, nesterov=True),
    ],
)
def gather_momentum(gradients: Array, m: Array, *, momentum: float, nesterov: bool) -> None:
    """m becomes momentum · m + gradients, and replaces the gradients; with Nesterov's momentum, gradients +
    momentum · m does. All arrays (n,)."""
    m *= momentum
    m += gradients
    gradients[...] = gradients + momentum * m if nesterov else m


@in_place(
    "gradients",
    cases=[
        *sized(lambda n: (real(n), _norm_parts(1.0)), epsilon=1e-7),
        zeros_and_signs(SIGNS, real(2, low=0.0, high=0.0), epsilon=1e-7),
    ],
)
def to_unit(gradients: Array, parts: Array, *, epsilon: float) -> None:
    """gradients / (norm + epsilon).

    gradients  (n,), changed in place
    parts      (2,): the norm, as `norm_parts` returns it
    """
    scale, total = (float(part) for part in parts)
    gradients /= np.asarray(scale * np.sqrt(total) + epsilon, gradients.dtype)
