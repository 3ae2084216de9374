"""The gradient of pooling by 2 × 2 written out, and the gradient of the bias below it, in one pass: a
thread writes the four cells of each value of its rows and adds the value to the sum of its lane; then
few blocks add up the slices.

Traffic: 5 bytes read and 16 written for each value of dy.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.numba_cuda import numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import DEAD, conv2d_maxpool_grad_sums

from ..shared.column_sums_numba import add_lanes, share_of_thread, sum_rows, sums_of_slices


@numba_function
def into_cells(sums, dy, index, dz, pools_h, pools_w, width):
    """dz (N, P, Q, K), and sums[slice, k] = Σ dy[i, k] over the rows i of the slice that are not dead."""
    first, end, step, k = share_of_thread(sums.shape[0], dy.shape[0], dy.shape[1], width)
    total = np.float32(0)
    for i in range(first, end, step):
        q, p, n = i % pools_w, i // pools_w % pools_h, i // pools_w // pools_h
        gradient, cell = dy[i, k], index[i, k]
        for h in range(dz.shape[1] - 2 * p if p + 1 == pools_h else 2):
            for w in range(dz.shape[2] - 2 * q if q + 1 == pools_w else 2):
                inside = h < 2 and w < 2 and cell == 2 * h + w
                dz[n, 2 * p + h, 2 * q + w, k] = gradient if inside else np.float32(0)
        if cell < DEAD:
            total += gradient
    add_lanes(sums, total, width)


def workspace(dy, index, *, size):
    """The sums of the slices, if there are several."""
    return sums_of_slices(dy)


@kernel(conv2d_maxpool_grad_sums, "rows", "numba", workspace=workspace)
def launch(dz, db, dy, index, sums=None, *, size):
    sum_rows(into_cells, db, sums, dy, index, end=(dz, *dy.shape[1:3]))
