"""The bias added in one loop over rows that are taken side by side, so that ten channels fill
vectors too; its gradient by sums of slices of the rows, in float64, which are added in order.

Traffic: x read and y written once; for the gradient dy read once.
"""

from __future__ import annotations

import math

import numpy as np

from gpucnn.devices.njit import inner
from gpucnn.devices.team import whole
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.bias import bias, bias_grad

from ..shared.columns_njit import column_sums, fold, fold_all, repeat, row_bounds, sums_of_slices, width
from ..shared.slices_launch import in_slices

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def _supports(x: Spec, *_: Spec) -> bool:
    return x.dtype == _FLOAT32


def _workspace(dy: Spec) -> tuple[Spec, ...]:
    """A sum for each slice of the rows, if there are several."""
    size, columns = math.prod(dy.shape), dy.shape[-1]
    count = len(row_bounds(size, columns)) - 1
    return () if count == 1 else (Spec((count, width(size, columns)), _FLOAT64),)


@kernel(bias, "rows", "njit", supports=_supports, compiled=True)
def launch(y, x, b):
    columns = b.size
    in_slices(_add, (y.reshape(-1, columns), x.reshape(-1, columns)), b, width(x.size, columns))


@inner
def _add(y, x, b, wide):
    summands = np.empty(wide, np.float32)
    repeat(summands, b)
    flat_x, flat_y = x.reshape(-1), y.reshape(-1)
    for start in range(0, len(flat_x), wide):
        values, results = flat_x[start : start + wide], flat_y[start : start + wide]
        for j in range(len(values)):
            results[j] = values[j] + summands[j]


@kernel(bias_grad, "rows", "njit", supports=_supports, workspace=_workspace, compiled=True)
def launch_grad(db, dy, sums=None):
    flat = dy.reshape(-1)
    if sums is None:
        _sum(db, flat, width(dy.size, db.size))
        return
    sums_of_slices(len(sums), sums, flat, row_bounds(dy.size, db.size))
    fold_all(db, sums)


@whole
def _sum(db, dy, wide):
    sums = np.empty((1, wide))
    column_sums(sums[0], dy)
    fold(db, sums)
