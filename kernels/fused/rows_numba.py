"""The gradient of bias and ReLU in one pass over the rows: a thread masks the values of its rows,
writes them, and adds them to the sum of its lane; then few blocks add up the slices.

    dz[i, k] = dy[i, k] where y[i, k] is not 0, else 0          db[k] = Σ dz[i, k]

Traffic: dy and y read once, dz written once, 12 bytes for each value.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.numba_cuda import numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import bias_relu_grad

from ..shared.column_sums_numba import add_lanes, share_of_thread, sum_rows, sums_of_slices


@numba_function
def bias_relu_grad_rows(sums, dz, dy, y, width):
    """dz, and sums[slice, k] = Σ dz[i, k] over the rows i of the slice."""
    first, end, step, k = share_of_thread(sums.shape[0], dy.shape[0], dy.shape[1], width)
    value = np.float32(0)
    for i in range(first, end, step):
        masked = np.float32(0) if y[i, k] <= 0 else dy[i, k]
        dz[i, k] = masked
        value += masked
    add_lanes(sums, value, width)


@kernel(bias_relu_grad, "rows", "numba", workspace=sums_of_slices)
def launch(dz, db, dy, y, sums=None):
    sum_rows(bias_relu_grad_rows, db, sums, dz, dy, y)
