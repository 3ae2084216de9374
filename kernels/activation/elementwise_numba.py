"""Elementwise activations, one thread per value: y = f(x), and dx = dy · f'(x) in the backward
pass.

A value costs 8 bytes (12 in the gradient) and a few dozen instructions at most: an H100 does that
many while it waits for the bytes, so a function takes little more time than a copy. Neighbouring
threads read neighbouring values, which is all that memory requires. One kernel holds all functions:
every thread takes the same branch, which costs little, and there is one kernel to compile instead
of one per function.

grid: a thread per value, whatever the shape.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.activation import activation, activation_grad, clipped_relu, clipped_relu_grad

from ..shared.activations_launch import NUMBERS
from ..shared.activations_numba import slope, value

THREADS = 256

ZERO, ONE = np.float32(0), np.float32(1)


@numba_function
def activation_elementwise(y, x, function, alpha):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = value(function, x[i], alpha)


@numba_function
def activation_grad_elementwise(dx, dy, x, function, alpha):
    i = cuda.grid(1)
    if i < x.size:
        dx[i] = dy[i] * slope(function, x[i], alpha)


@numba_function
def clipped_relu_elementwise(y, x, max_value, negative_slope, threshold):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = min(x[i], max_value) if x[i] > threshold else negative_slope * (x[i] - threshold)


@numba_function
def clipped_relu_grad_elementwise(dx, dy, x, max_value, negative_slope, threshold):
    i = cuda.grid(1)
    if i < x.size:
        if x[i] > threshold:
            dx[i] = dy[i] * (ONE if x[i] < max_value else ZERO)
        else:
            dx[i] = dy[i] * negative_slope


@kernel(activation, "elementwise", "numba")
def launch(y, x, *, function, alpha):
    y, x = y.reshape(-1), x.reshape(-1)
    activation_elementwise[blocks_1d(x.size, THREADS), THREADS](y, x, NUMBERS[function], alpha)


@kernel(activation_grad, "elementwise", "numba")
def launch_grad(dx, dy, x, *, function, alpha):
    dx, dy, x = dx.reshape(-1), dy.reshape(-1), x.reshape(-1)
    activation_grad_elementwise[blocks_1d(x.size, THREADS), THREADS](dx, dy, x, NUMBERS[function], alpha)


@kernel(clipped_relu, "elementwise", "numba")
def launch_clipped(y, x, *, max_value, negative_slope, threshold):
    y, x = y.reshape(-1), x.reshape(-1)
    clipped_relu_elementwise[blocks_1d(x.size, THREADS), THREADS](y, x, max_value, negative_slope, threshold)


@kernel(clipped_relu_grad, "elementwise", "numba")
def launch_clipped_grad(dx, dy, x, *, max_value, negative_slope, threshold):
    dx, dy, x = dx.reshape(-1), dy.reshape(-1), x.reshape(-1)
    clipped_relu_grad_elementwise[blocks_1d(x.size, THREADS), THREADS](dx, dy, x, max_value, negative_slope, threshold)
