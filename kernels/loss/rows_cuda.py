"""Losses over rows by warp shuffles: a few lanes for a short row, a block for a long one, so that
none waits idle.

A value costs 12 bytes of memory traffic (8 with class numbers) and two exponentials or logarithms;
the rereading of a row stays in the cache. Over the tree in shared memory, this adds the exchange of
registers within a warp, which needs no barrier: rows of up to 256 values never meet one.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops import loss

from ..shared.rows_launch import over_rows

DEFINES = {"EPSILON": f"{loss.EPSILON}f"}

LOSSES = (
    loss.softmax_cross_entropy,
    loss.sparse_softmax_cross_entropy,
    loss.sigmoid_binary_cross_entropy,
    loss.cross_entropy,
    loss.sparse_cross_entropy,
    loss.binary_cross_entropy,
    loss.mean_squared_error,
    loss.mean_absolute_error,
    loss.huber,
)
"""All of one form: rows of outputs, labels, and at most one parameter."""


def supported(y_pred, labels, **_):
    return labels.dtype == (np.int32 if len(labels.shape) == 1 else y_pred.dtype)


def register(op):
    function = cuda_function(__file__, f"{op.name}_rows", **DEFINES)

    @kernel(op, "rows", "cuda", supports=supported)
    def launch(values, gradient, y_pred, labels, **parameter):
        N, K = y_pred.shape
        function[over_rows(N, K)](values, gradient, y_pred, labels, N, K, *parameter.values())


for op in LOSSES:
    register(op)

scale_rows = cuda_function(__file__, "scale_rows", **DEFINES)


@kernel(loss.scale_rows, "rows", "cuda")
def launch_scale_rows(y, gradient, factors):
    N, K = gradient.shape
    scale_rows[over_rows(N, K)](y, gradient, factors, N, K)
