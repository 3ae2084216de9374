"""Elementwise activations in one loop: y = f(x), and dx = dy · f'(x) in the backward pass.

A function without a branch and without a call of the C library becomes a loop over vectors, and
even the dearest of them (the error function) takes little longer than the memory takes to deliver.
NumPy would make a pass over memory for each operation of the formula. There is one kernel for each
function, compiled when it is first used. Traffic: x read and y written once (dy, x and dx).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from gpucnn.devices.njit import inner
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.activation import activation, activation_grad, clipped_relu, clipped_relu_grad

from ..shared.activations_njit import SLOPES, VALUES
from ..shared.by_name_njit import by_name
from ..shared.slices_launch import in_slices
from ..shared.vector_operators_njit import choose

ZERO = np.float32(0)
value, slope = by_name(VALUES), by_name(SLOPES)


def _float32(x: Spec, *_: Spec, **__: Any) -> bool:
    return x.dtype == np.float32


@cache
def _forward(function):
    @inner
    def forward(y, x, alpha):
        for i in range(len(x)):
            y[i] = value(function, x[i], alpha)

    return forward


@cache
def _backward(function):
    @inner
    def backward(dx, dy, x, alpha):
        for i in range(len(x)):
            dx[i] = dy[i] * slope(function, x[i], alpha)

    return backward


@kernel(activation, "elementwise", "njit", supports=_float32, compiled=True)
def launch(y, x, *, function, alpha):
    in_slices(_forward(function), (y.reshape(-1), x.reshape(-1)), np.float32(alpha))


@kernel(activation_grad, "elementwise", "njit", supports=_float32, compiled=True)
def launch_grad(dx, dy, x, *, function, alpha):
    in_slices(_backward(function), (dx.reshape(-1), dy.reshape(-1), x.reshape(-1)), np.float32(alpha))


@inner
def _clipped(y, x, max_value, negative_slope, threshold):
    for i in range(len(x)):
        upper = choose(x[i] > max_value, max_value, x[i])
        y[i] = choose(x[i] > threshold, upper, negative_slope * (x[i] - threshold))


@inner
def _clipped_grad(dx, dy, x, max_value, negative_slope, threshold):
    for i in range(len(x)):
        inside = choose(x[i] < max_value, dy[i], ZERO)
        dx[i] = choose(x[i] > threshold, inside, negative_slope * dy[i])


@kernel(clipped_relu, "elementwise", "njit", supports=_float32, compiled=True)
def launch_clipped(y, x, *, max_value, negative_slope, threshold):
    in_slices(_clipped, (y.reshape(-1), x.reshape(-1)), *map(np.float32, (max_value, negative_slope, threshold)))


@kernel(clipped_relu_grad, "elementwise", "njit", supports=_float32, compiled=True)
def launch_clipped_grad(dx, dy, x, *, max_value, negative_slope, threshold):
    arrays = dx.reshape(-1), dy.reshape(-1), x.reshape(-1)
    in_slices(_clipped_grad, arrays, *map(np.float32, (max_value, negative_slope, threshold)))
