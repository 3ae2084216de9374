"""The parametric rectifier, one thread per value: y = x above 0, alpha[k] · x up to it; its gradients.

    dx = dy above 0, alpha[k] · dy below, 0 at 0          dalpha[k] = Σ dy · x where x is not above 0

Memory sets the time, and neighbouring threads take neighbouring values. The sum is cut into slices of
the rows, which are added up in a fixed order.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.prelu import prelu, prelu_grad, prelu_grad_alpha

from ..shared.column_sums_numba import add_lanes, share_of_thread, sum_rows, sums_of_slices

THREADS = 256
ZERO = np.float32(0)


@numba_function
def prelu_rows(y, x, alpha):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = x[i] if x[i] > ZERO else alpha[i % alpha.size] * x[i]


@numba_function
def prelu_grad_rows(dx, dy, x, alpha):
    i = cuda.grid(1)
    if i >= x.size:
        return
    if x[i] > ZERO:
        dx[i] = dy[i]
    else:
        dx[i] = ZERO if x[i] == ZERO else alpha[i % alpha.size] * dy[i]


@numba_function
def prelu_grad_alpha_rows(sums, dy, x, width):
    """sums[slice, k] = Σ dy[i, k] · x[i, k] where x is not above 0, over the rows i of the slice."""
    first, end, step, k = share_of_thread(sums.shape[0], dy.shape[0], dy.shape[1], width)
    value = ZERO
    for i in range(first, end, step):
        value += ZERO if x[i, k] > ZERO else dy[i, k] * x[i, k]
    add_lanes(sums, value, width)


@kernel(prelu, "rows", "numba")
def launch(y, x, alpha):
    prelu_rows[blocks_1d(x.size, THREADS), THREADS](y.reshape(-1), x.reshape(-1), alpha)


@kernel(prelu_grad, "rows", "numba")
def launch_grad(dx, dy, x, alpha):
    prelu_grad_rows[blocks_1d(x.size, THREADS), THREADS](dx.reshape(-1), dy.reshape(-1), x.reshape(-1), alpha)


@kernel(prelu_grad_alpha, "rows", "numba", workspace=sums_of_slices)
def launch_grad_alpha(dalpha, dy, x, sums=None):
    sum_rows(prelu_grad_alpha_rows, dalpha, sums, dy, x)
