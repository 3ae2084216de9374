"""Losses over rows by warp shuffles: a few lanes for a short row, a block for a long one.

A value costs 12 bytes of memory traffic and at most two logarithms or powers; the rereading of a row
stays in the cache.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops import row_losses as losses
from gpucnn.ops.loss import EPSILON

from ..shared.row_losses_launch import DEFINES, NUMBERS, scale
from ..shared.rows_launch import over_rows


def supported(y_pred, labels, **_):
    return labels.dtype == (np.int32 if len(labels.shape) == 1 else y_pred.dtype)


def register(op, numbers):
    """For a kernel that takes rows of outputs, labels, and numbers made of the op's parameters."""
    function = cuda_function(__file__, f"{op.name}_rows", EPSILON=f"{EPSILON}f", **DEFINES)

    @kernel(op, "rows", "cuda", supports=supported)
    def launch(values, gradient, y_pred, labels, **params):
        N, K = y_pred.shape
        function[over_rows(N, K)](values, gradient, y_pred, labels, N, K, *numbers(K, **params))


register(losses.value_loss, lambda K, function: (NUMBERS[function], scale(function, K)))
register(losses.binary_focal, lambda _, gamma, of_ones, of_zeros: (gamma, of_ones, of_zeros))
register(losses.categorical_focal, lambda _, alpha, gamma: (alpha, gamma))
register(losses.cosine, lambda _: ())
register(losses.categorical_hinge, lambda _: ())
register(losses.overlap, lambda _, alpha, beta, epsilon: (alpha, beta, epsilon))
register(losses.power_loss, lambda _, q: (q,))
