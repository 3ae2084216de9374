"""Softmax over rows: a few rows at a time, so that they stay in the first-level cache, and the
exponentials of all of them in one loop over vectors.

y = exp(x - m) / Σ exp(x - m), with m the largest x of the row, so that nothing overflows. Sums are
in float64. Traffic: x read and y written once (dy, y and dx in a gradient).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpucnn.devices.njit import inner
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import Op, kernel
from gpucnn.ops.activation import log_softmax, log_softmax_grad, softmax, softmax_grad

from ..shared.rows_njit import exponentials, rows_at_once, total, total_of_products
from ..shared.slices_launch import in_slices
from ..shared.vector_math_njit import exp, log


@inner
def _softmax(y, x):
    N, K = x.shape
    step = rows_at_once(K)
    most = np.empty(step, np.float32)
    for first in range(0, N, step):
        rows = y[first : first + step]
        exponentials(rows, most, x[first : first + step])
        for n in range(len(rows)):
            share = np.float32(1.0 / total(rows[n]))
            for k in range(K):
                rows[n, k] *= share


@inner
def _softmax_grad(dx, dy, y):
    N, K = y.shape
    for n in range(N):
        level = np.float32(total_of_products(dy[n], y[n]))
        for k in range(K):
            dx[n, k] = y[n, k] * (dy[n, k] - level)


@inner
def _log_softmax(y, x):
    N, K = x.shape
    step = rows_at_once(K)
    most, logarithms = np.empty(step, np.float32), np.empty(step, np.float32)
    for first in range(0, N, step):
        rows, values = y[first : first + step], x[first : first + step]
        exponentials(rows, most, values)
        for n in range(len(rows)):
            logarithms[n] = total(rows[n])
        for n in range(len(rows)):
            logarithms[n] = log(logarithms[n])
        for n in range(len(rows)):
            for k in range(K):
                rows[n, k] = (values[n, k] - most[n]) - logarithms[n]


@inner
def _log_softmax_grad(dx, dy, y):
    N, K = y.shape
    step = rows_at_once(K)
    for first in range(0, N, step):
        rows, slopes = dx[first : first + step], dy[first : first + step]
        flat, logarithms = rows.reshape(-1), y[first : first + step].reshape(-1)
        for i in range(len(flat)):
            flat[i] = exp(logarithms[i])
        for n in range(len(rows)):
            level = np.float32(total(slopes[n]))
            for k in range(K):
                rows[n, k] = slopes[n, k] - rows[n, k] * level


def _float32(x: Spec, *_: Spec, **__: Any) -> bool:
    return x.dtype == np.float32


def _register(op: Op, function: Any) -> None:
    """Register the kernel of an op on arrays that all have the shape (…, K)."""

    @kernel(op, "rows", "njit", supports=_float32, compiled=True)
    def launch(*arrays):
        in_slices(function, tuple(array.reshape(-1, array.shape[-1]) for array in arrays))


_register(softmax, _softmax)
_register(softmax_grad, _softmax_grad)
_register(log_softmax, _log_softmax)
_register(log_softmax_grad, _log_softmax_grad)
