"""Sums in one loop over vectors, and channels joined row by row. Traffic: both arrays read and the
result written once."""

from __future__ import annotations

import numpy as np

from gpucnn.devices.njit import inner
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.merging import add, concatenate, weighted_sum

from ..shared.slices_launch import in_slices


def _supports(a: Spec, b: Spec, **_: float) -> bool:
    return a.dtype == np.float32


@kernel(add, "elementwise", "njit", supports=_supports, compiled=True)
def launch_add(y, a, b):
    in_slices(_add, (y.reshape(-1), a.reshape(-1), b.reshape(-1)))


@inner
def _add(y, a, b):
    for i in range(len(y)):
        y[i] = a[i] + b[i]


@kernel(weighted_sum, "elementwise", "njit", supports=_supports, compiled=True)
def launch_weighted_sum(y, a, b, *, of_a, of_b):
    in_slices(_weighted_sum, (y.reshape(-1), a.reshape(-1), b.reshape(-1)), np.float32(of_a), np.float32(of_b))


@inner
def _weighted_sum(y, a, b, of_a, of_b):
    for i in range(len(y)):
        y[i] = of_a * a[i] + of_b * b[i]


@kernel(concatenate, "elementwise", "njit", supports=_supports, compiled=True)
def launch_concatenate(y, a, b):
    in_slices(_concatenate, tuple(array.reshape(-1, array.shape[-1]) for array in (y, a, b)))


@inner
def _concatenate(y, a, b):
    A, B = a.shape[1], b.shape[1]
    for row in range(len(y)):
        for k in range(A):
            y[row, k] = a[row, k]
        for k in range(B):
            y[row, A + k] = b[row, k]
