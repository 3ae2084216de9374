"""More updates in one pass: each element of weights, gradients and slots is read once and written once.

Each formula is one loop over vectors. Numbers of the row are taken out of it before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpucnn.devices.njit import inner
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import Op, kernel
from gpucnn.ops import update_rules
from gpucnn.ops.flat_updates import RATE

from ..shared.slices_launch import in_slices
from ..shared.vector_math_njit import ONE, ZERO
from ..shared.vector_operators_njit import choose, magnitude


@inner
def _adamax(values, gradients, m, u, rate, take_1, beta_2, epsilon):
    for i in range(len(values)):
        g = gradients[i]
        m[i] += take_1 * (g - m[i])
        faded, size = beta_2 * u[i], magnitude(g)
        u[i] = choose(faded > size, faded, choose(faded != faded, faded, size))
        values[i] -= rate * m[i] / (u[i] + epsilon)


@inner
def _lion(values, gradients, m, rate, beta_1, take_1, beta_2, take_2):
    for i in range(len(values)):
        g = gradients[i]
        direction = beta_1 * m[i] + take_1 * g
        sign = choose(direction > ZERO, ONE, choose(direction < ZERO, -ONE, direction))
        values[i] -= rate * sign
        m[i] = beta_2 * m[i] + take_2 * g


@inner
def _ftrl(values, gradients, v, linear, rate, power, l1, twice_l2, twice_shrinkage, beta):
    for i in range(len(values)):
        g, value = gradients[i], values[i]
        before = v[i] ** power
        v[i] += g * g
        after = v[i] ** power
        line = linear[i] + (g + twice_shrinkage * value - (after - before) / rate * value)
        quadratic = after / rate + twice_l2 + beta / rate
        inside = choose(line > l1, l1, choose(line < -l1, -l1, line))
        linear[i] = line
        values[i] = choose(quadratic > ZERO, (inside - line) / quadratic, ZERO)


@inner
def _lamb(gradients, m, v, of_m, of_v, take_1, take_2, epsilon):
    for i in range(len(gradients)):
        g = gradients[i]
        m[i] += take_1 * (g - m[i])
        v[i] += take_2 * (g * g - v[i])
        gradients[i] = m[i] * of_m / (np.sqrt(v[i] * of_v) + epsilon)


@inner
def _step(values, gradients, rate):
    for i in range(len(values)):
        values[i] -= rate * gradients[i]


@inner
def _gather_momentum(gradients, m, momentum, nesterov):
    for i in range(len(m)):
        m[i] = momentum * m[i] + gradients[i]
        gradients[i] = nesterov * (gradients[i] + momentum * m[i]) + (ONE - nesterov) * m[i]


@inner
def _divide(gradients, norm):
    for i in range(len(gradients)):
        gradients[i] /= norm


def _supports(first: Spec, *_: Any, **__: Any) -> bool:
    return first.dtype == np.float32


def _register(op: Op, function: Callable[..., None], numbers: Callable[..., tuple[Any, ...]]) -> None:
    """For a loop over the flat arrays of an op, all but those of a few numbers, which `numbers` takes."""
    flat = [name for name in op.operand_names if name not in ("row", "parts", "value_parts")]

    @kernel(op, "fused", "njit", supports=_supports)
    def launch(*arrays, **params):
        in_slices(function, arrays[: len(flat)], *map(np.float32, numbers(*arrays[len(flat) :], **params)))


def _norm(parts: np.ndarray) -> float:
    return float(parts[0]) * math.sqrt(float(parts[1]))


def _ratio(value_parts: np.ndarray, parts: np.ndarray) -> float:
    of_values, of_gradients = _norm(value_parts), _norm(parts)
    return of_values / of_gradients if of_values > 0 and of_gradients > 0 else 1.0


_register(
    update_rules.adamax,
    _adamax,
    lambda row, beta_1, beta_2, epsilon: (row[RATE], 1 - beta_1, beta_2, epsilon),
)
_register(
    update_rules.lion,
    _lion,
    lambda row, beta_1, beta_2: (row[RATE], beta_1, 1 - beta_1, beta_2, 1 - beta_2),
)
_register(
    update_rules.ftrl,
    _ftrl,
    lambda row, power, l1, l2, shrinkage, beta: (row[RATE], power, l1, 2 * l2, 2 * shrinkage, beta),
)
_register(
    update_rules.lamb,
    _lamb,
    lambda row, beta_1, beta_2, epsilon: (row[RATE + 1], row[RATE + 2], 1 - beta_1, 1 - beta_2, epsilon),
)
_register(
    update_rules.trust_step,
    _step,
    lambda value_parts, parts, row: (row[RATE] * _ratio(value_parts, parts),),
)
_register(update_rules.gather_momentum, _gather_momentum, lambda momentum, nesterov: (momentum, nesterov))
_register(update_rules.to_unit, _divide, lambda parts, epsilon: (_norm(parts) + epsilon,))
