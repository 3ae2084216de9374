"""An update in one pass: each element of weights, gradients and slots is read once and written
once.

The body of an op makes a pass over the arrays for every operation of its formula, in blocks that
stay in cache; here the formula is one loop. Traffic for Adam: 4 arrays read, 3 written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.njit import njit
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.update import RATE, adam, momentum, regularize, rmsprop, sgd

_SMALLEST = 1 << 14
"""Elements of a slice: fewer are done before a second thread is awake."""


def _float32(values: Spec, *_: Any, **__: Any) -> bool:
    return values.dtype == np.float32


def _in_slices(formula: Callable[..., None], arrays: tuple[np.ndarray, ...], *numbers: float) -> None:
    slices = threads.slices(arrays[0].size, _SMALLEST)

    def task(i: int) -> None:
        formula(*(a[slices[i]] for a in arrays), *map(np.float32, numbers))

    threads.run(task, len(slices))


@kernel(sgd, "fused", "njit", supports=_float32)
def launch_sgd(values, gradients, row):
    """Gradient descent."""
    _in_slices(_sgd, (values, gradients), row[RATE])


@njit(nogil=True, cache=True, error_model="numpy")
def _sgd(values, gradients, rate):
    for i in range(len(values)):
        values[i] -= rate * gradients[i]


@kernel(momentum, "fused", "njit", supports=_float32)
def launch_momentum(values, gradients, m, row, *, momentum, nesterov):
    """Momentum, Nesterov's if `nesterov`."""
    _in_slices(_momentum, (values, gradients, m), row[RATE], momentum, nesterov)


@njit(nogil=True, cache=True, error_model="numpy")
def _momentum(values, gradients, m, rate, beta, nesterov):
    for i in range(len(values)):
        change = rate * gradients[i]
        m[i] = beta * m[i] - change
        values[i] += nesterov * (beta * m[i] - change) + (np.float32(1) - nesterov) * m[i]


def _plain_adam(values: Spec, gradients: Spec, m: Spec, v: Spec, v_max: Spec | None, row: Spec, **_: Any) -> bool:
    return values.dtype == np.float32 and v_max is None


@kernel(adam, "fused", "njit", supports=_plain_adam)
def launch_adam(values, gradients, m, v, v_max, row, *, beta_1, beta_2, epsilon):
    """Adam; AMSGrad is left to the body."""
    _in_slices(_adam, (values, gradients, m, v), row[RATE], 1 - beta_1, 1 - beta_2, epsilon)


@njit(nogil=True, cache=True, error_model="numpy")
def _adam(values, gradients, m, v, rate, take_1, take_2, epsilon):
    for i in range(len(values)):
        g = gradients[i]
        m[i] += take_1 * (g - m[i])
        v[i] += take_2 * (g * g - v[i])
        values[i] -= rate * m[i] / (np.sqrt(v[i]) + epsilon)


@kernel(regularize, "fused", "njit", supports=_float32)
def launch_regularize(gradients, values, *, l1, l2):
    """The derivative of a penalty."""
    _in_slices(_regularize, (gradients, values), l1, 2 * l2)


@njit(nogil=True, cache=True, error_model="numpy")
def _regularize(gradients, values, l1, twice_l2):
    if l1 == 0:
        for i in range(len(values)):
            gradients[i] += twice_l2 * values[i]
        return
    for i in range(len(values)):
        gradients[i] += l1 * np.sign(values[i]) + twice_l2 * values[i]


def _plain_rmsprop(
    values: Spec, gradients: Spec, v: Spec, mean: Spec | None, m: Spec | None, row: Spec, **_: Any
) -> bool:
    return values.dtype == np.float32 and mean is None and m is None


@kernel(rmsprop, "fused", "njit", supports=_plain_rmsprop)
def launch_rmsprop(values, gradients, v, mean, m, row, *, rho, momentum, epsilon):
    """RMSprop without momentum and not centered; the variants are left to the body."""
    _in_slices(_rmsprop, (values, gradients, v), row[RATE], rho, 1 - rho, epsilon)


@njit(nogil=True, cache=True, error_model="numpy")
def _rmsprop(values, gradients, v, rate, keep, take, epsilon):
    for i in range(len(values)):
        g = gradients[i]
        v[i] = keep * v[i] + take * (g * g)
        values[i] -= rate * g / np.sqrt(v[i] + epsilon)
