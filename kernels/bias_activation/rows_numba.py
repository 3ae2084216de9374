"""Bias and activation over rows in one pass, and their gradient in one: a thread multiplies the values
of its rows by the slope, writes them, and adds them to the sum of its lane; then few blocks add up
the slices.

    y[i, k]  = f(z[i, k] + b[k])
    dz[i, k] = scale · dy[i, k] · f'  db[k] = Σ dz[i, k]

Traffic: z read once and y written once, 8 bytes for each value; dy and what was kept read once, dz
written once, 12 bytes.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.bias_activation import bias_activation, bias_activation_grad
from gpucnn.ops.epilogue import keeps_input

from ..shared.activations_launch import NUMBERS
from ..shared.activations_numba import gradient_at_result, slope, value
from ..shared.column_sums_numba import add_lanes, share_of_thread, sum_rows, sums_of_slices

THREADS = 256


@numba_function
def bias_activation_rows(y, sums, z, b, keep, function, alpha):
    """The thread owns y[i]; neighbours differ in k."""
    i = cuda.grid(1)
    if i >= z.size:
        return
    total = z[i] + b[i % b.size]
    if keep:
        sums[i] = total
    y[i] = value(function, total, alpha)


@numba_function
def bias_activation_grad_rows(sums, dz, dy, kept, of_result, function, alpha, scale, width):
    """dz, and sums[slice, k] = Σ dz[i, k] over the rows i of the slice."""
    first, end, step, k = share_of_thread(sums.shape[0], dy.shape[0], dy.shape[1], width)
    total = np.float32(0)
    for i in range(first, end, step):
        gradient = scale * dy[i, k]
        if of_result:
            gradient = gradient_at_result(function, gradient, kept[i, k], alpha)
        else:
            gradient *= slope(function, kept[i, k], alpha)
        dz[i, k] = gradient
        total += gradient
    add_lanes(sums, total, width)


@kernel(bias_activation, "rows", "numba")
def launch(y, *arrays, function, alpha, keep_input):
    sums, (z, b) = (arrays[0] if keep_input else y), arrays[keep_input:]
    flat = y.reshape(-1), sums.reshape(-1), z.reshape(-1)
    bias_activation_rows[blocks_1d(z.size, THREADS), THREADS](*flat, b, int(keep_input), NUMBERS[function], alpha)


def workspace(dy, kept, **_):
    """The sums of the slices, if there are several."""
    return sums_of_slices(dy)


@kernel(bias_activation_grad, "rows", "numba", workspace=workspace)
def launch_grad(dz, db, dy, kept, sums=None, *, function, alpha, scale=1.0):
    end = int(not keeps_input(function, alpha)), NUMBERS[function], alpha, scale
    sum_rows(bias_activation_grad_rows, db, sums, dz, dy, kept, end=end)
