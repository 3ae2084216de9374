"""An update in one pass: each element of weights, gradients and slots is read once and written
once.

The body of an op makes a pass over the arrays for every operation of its formula, in blocks that
stay in cache; here the formula is one loop over vectors. Slots that an optimizer does without are
None, and the compiler leaves out what concerns them. Traffic for Adam: 4 arrays read, 3 written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpucnn.devices.njit import inner
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import Op, kernel
from gpucnn.ops import update
from gpucnn.ops.update import DECAY, MOMENTUM, RATE, TAKE

from ..shared.slices_launch import in_slices
from ..shared.vector_math_njit import INFINITY, ZERO
from ..shared.vector_operators_njit import choose, magnitude, with_sign


@inner
def _sgd(values, gradients, rate):
    for i in range(len(values)):
        values[i] -= rate * gradients[i]


@inner
def _momentum(values, gradients, m, rate, beta, nesterov):
    for i in range(len(values)):
        change = rate * gradients[i]
        m[i] = beta * m[i] - change
        values[i] += nesterov * (beta * m[i] - change) + (np.float32(1) - nesterov) * m[i]


@inner
def _adam(values, gradients, m, v, v_max, rate, take_1, take_2, epsilon):
    for i in range(len(values)):
        g = gradients[i]
        m[i] += take_1 * (g - m[i])
        v[i] += take_2 * (g * g - v[i])
        spread = v[i]
        if v_max is not None:
            spread = choose(v_max[i] > spread, v_max[i], spread)
            v_max[i] = spread
        values[i] -= rate * m[i] / (np.sqrt(spread) + epsilon)


@inner
def _nadam(values, gradients, m, v, of_m, of_gradients, correction, take_1, take_2, epsilon):
    for i in range(len(values)):
        g = gradients[i]
        m[i] += take_1 * (g - m[i])
        v[i] += take_2 * (g * g - v[i])
        values[i] -= (of_m * m[i] + of_gradients * g) / (np.sqrt(correction * v[i]) + epsilon)


@inner
def _rmsprop(values, gradients, v, mean, m, rate, keep, take, beta, epsilon):
    for i in range(len(values)):
        g = gradients[i]
        v[i] = keep * v[i] + take * (g * g)
        spread = v[i] + epsilon
        if mean is not None:
            mean[i] = keep * mean[i] + take * g
            spread -= mean[i] * mean[i]
        change = rate * g / np.sqrt(spread)
        if m is not None:
            change += beta * m[i]
            m[i] = change
        values[i] -= change


@inner
def _adagrad(values, gradients, v, rate, epsilon):
    for i in range(len(values)):
        g = gradients[i]
        v[i] += g * g
        values[i] -= rate * g / np.sqrt(v[i] + epsilon)


@inner
def _adadelta(values, gradients, v, delta, rate, keep, take, epsilon):
    for i in range(len(values)):
        g = gradients[i]
        v[i] = keep * v[i] + take * (g * g)
        change = np.sqrt(delta[i] + epsilon) * g / np.sqrt(v[i] + epsilon)
        delta[i] = keep * delta[i] + take * (change * change)
        values[i] -= rate * change


@inner
def _decay(values, share):
    for i in range(len(values)):
        values[i] -= share * values[i]


@inner
def _average(averages, values, keep, take):
    for i in range(len(values)):
        averages[i] = keep * averages[i] + take * values[i]


@inner
def _accumulate(total, gradients):
    for i in range(len(total)):
        total[i] += gradients[i]


@inner
def _take_mean(gradients, total, count):
    for i in range(len(total)):
        gradients[i] = (gradients[i] + total[i]) / count
        total[i] = ZERO


@inner
def _clip(gradients, limit):
    for i in range(len(gradients)):
        inside = choose(gradients[i] > limit, limit, gradients[i])
        gradients[i] = choose(inside < -limit, -limit, inside)


@inner
def _scale(gradients, factor):
    for i in range(len(gradients)):
        gradients[i] *= factor


@inner
def _to_limit_where_infinite(gradients, limit):
    for i in range(len(gradients)):
        infinite = magnitude(gradients[i]) == INFINITY
        gradients[i] = choose(infinite, with_sign(limit, gradients[i]), ZERO)


@inner
def _regularize(gradients, values, l1, twice_l2):
    if l1 == 0:
        for i in range(len(values)):
            gradients[i] += twice_l2 * values[i]
        return
    for i in range(len(values)):
        gradients[i] += l1 * np.sign(values[i]) + twice_l2 * values[i]


@inner
def _non_neg(values):
    for i in range(len(values)):
        values[i] = choose(values[i] <= ZERO, ZERO, values[i])


def _float32(values: Spec, *_: Any, **__: Any) -> bool:
    return values.dtype == np.float32


def _register(op: Op, formula: Any, numbers: Callable[..., tuple[Any, ...]]) -> None:
    """Register the loop of an op; `numbers` are those of its row, if it has one, and of its
    parameters, in the order in which the loop takes them."""
    has_row = op.operand_names[-1] == "row"

    @kernel(op, "fused", "njit", supports=_float32)
    def launch(*arrays, **params):
        row = arrays[-1:] if has_row else ()
        in_slices(formula, arrays[: len(arrays) - has_row], *map(np.float32, numbers(*row, **params)))


_register(update.sgd, _sgd, lambda row: (row[RATE],))
_register(update.momentum, _momentum, lambda row, momentum, nesterov: (row[RATE], momentum, nesterov))
_register(update.adam, _adam, lambda row, beta_1, beta_2, epsilon: (row[RATE], 1 - beta_1, 1 - beta_2, epsilon))
_register(
    update.nadam,
    _nadam,
    lambda row, beta_1, beta_2, epsilon: (*row[RATE : RATE + 3], 1 - beta_1, 1 - beta_2, epsilon),
)
_register(update.rmsprop, _rmsprop, lambda row, rho, momentum, epsilon: (row[RATE], rho, 1 - rho, momentum, epsilon))
_register(update.adagrad, _adagrad, lambda row, epsilon: (row[RATE], epsilon))
_register(update.adadelta, _adadelta, lambda row, rho, epsilon: (row[RATE], rho, 1 - rho, epsilon))
_register(update.decay, _decay, lambda row: (row[DECAY],))
_register(update.average, _average, lambda row: (row[MOMENTUM], row[TAKE]))
_register(update.accumulate, _accumulate, lambda: ())
_register(update.take_mean, _take_mean, lambda count: (count,))
_register(update.clip_by_value, _clip, lambda limit: (limit,))
_register(update.regularize, _regularize, lambda l1, l2: (l1, 2 * l2))
_register(update.non_neg, _non_neg, lambda: ())


@kernel(update.clip_by_norm, "fused", "njit", supports=_float32)
def launch_clip_by_norm(gradients, parts, *, limit):
    """One factor for all, unless the norm is infinite or NaN."""
    scale, total = parts.astype(np.float64)
    if np.isinf(scale):
        in_slices(_to_limit_where_infinite, (gradients,), np.float32(limit))
    else:
        in_slices(_scale, (gradients,), np.float32(limit / np.maximum(scale * np.sqrt(total), limit)))
