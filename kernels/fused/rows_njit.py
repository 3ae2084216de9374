"""The gradient of bias and ReLU in one pass over the rows: mask, write, and add to the sum of the
slice.

Traffic: dy and y read once, dz written once; the sums of all channels stay in the first-level
cache.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.njit import njit
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import bias_relu_grad

from ..shared.simd_njit import add, load, not_positive, select, splat, store

_SMALL = 1 << 17
"""Below this many values a second thread costs more than it brings."""

_FLOAT32 = np.dtype(np.float32)


def _supports(dy: Spec, y: Spec) -> bool:
    return dy.dtype == _FLOAT32


def _workspace(dy: Spec, y: Spec) -> Spec:
    return Spec((len(threads.slices(dy.shape[0])), dy.shape[-1]), _FLOAT32)


@kernel(bias_relu_grad, "rows", "njit", supports=_supports, workspace=_workspace)
def launch(dz, db, dy, y, sums):
    """One sum for each slice of the batch, added in order."""
    slices = threads.slices(len(dy))
    rows = dy.size // dy.shape[-1] // len(dy)
    flat = dz.reshape(-1), dy.reshape(-1), y.reshape(-1)

    def task(i: int) -> None:
        _mask(*flat, sums[i], slices[i].start * rows, slices[i].stop * rows)

    threads.run(task, len(slices), parallel=dy.size > _SMALL)
    np.add.reduce(sums, axis=0, out=db)


@njit(nogil=True, cache=True, error_model="numpy")
def _mask(dz, dy, y, db, first, last):
    """Rows first … last - 1."""
    filters = db.shape[0]
    zero = splat(np.float32(0))
    whole = filters // 8 * 8
    db[:] = np.float32(0)
    for row in range(first, last):
        i = row * filters
        for vector in range(filters // 8):
            k = 8 * vector
            g = select(not_positive(load(y, i + k)), zero, load(dy, i + k))
            store(dz, i + k, g)
            store(db, k, add(load(db, k), g))
        for k in range(whole, filters):
            g = np.float32(0) if y[i + k] <= 0 else dy[i + k]
            dz[i + k] = g
            db[k] += g
