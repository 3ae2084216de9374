"""Implicit GEMM that finishes each tile while it is in registers, and each block of tiles while it is
in the first-level cache: bias, activation and, for pooling, the largest of four.

The four patches of a tile are one pooling window, so a pooled convolution writes a quarter of the
values and one byte for each of them. Bias and activation come after the maximum: both keep its
place.
"""

from __future__ import annotations

import numpy as np

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import conv2d_bias_activation, conv2d_bias_activation_maxpool

from ..shared.epilogue_njit import end
from ..shared.implicit_gemm_njit import FLOAT32, NONE, POOL, RELU, filters_of, product, workspace
from ..shared.patches_njit import Patches, patches, pooled_patches

_NO_INDEX = np.empty(1, np.uint8)


def _supports(x: Spec, weight: Spec, b: Spec, **_: object) -> bool:
    return x.dtype == FLOAT32


def _table(x: Spec, weight: Spec, pool: bool, strides, padding, dilation) -> Patches:
    make = pooled_patches if pool else patches
    return make(x.shape[1:3], x.shape[3], weight.shape[:2], strides, padding, dilation)


def _workspace(x: Spec, weight: Spec, b: Spec, *, function, alpha, keep_input, **window) -> tuple[Spec, Spec]:
    return workspace(x.shape[0], weight.shape[3], _table(x, weight, False, **window))


def _pool_workspace(x: Spec, weight: Spec, b: Spec, *, function, alpha, **window) -> tuple[Spec, Spec]:
    return workspace(x.shape[0], weight.shape[3], _table(x, weight, True, **window))


@kernel(conv2d_bias_activation, "implicit_gemm", "njit", supports=_supports, workspace=_workspace, compiled=True)
def launch(y, *arrays, function, alpha, keep_input, **window):
    """y = f(patches of x times weight + b); what f is applied to comes second if it is kept."""
    sums, (x, weight, b, panels, scratch) = (arrays[0] if keep_input else None), arrays[keep_input:]
    table, matrix = _table(x, weight, False, **window), filters_of(weight)
    if function == "relu" and not keep_input:
        product(y, _NO_INDEX, x, matrix, b, table, RELU, panels, scratch)
    else:
        product(
            y, _NO_INDEX, x, matrix, b, table, NONE, panels, scratch, sums=sums, function=end(function), alpha=alpha
        )


@kernel(
    conv2d_bias_activation_maxpool,
    "implicit_gemm",
    "njit",
    supports=_supports,
    workspace=_pool_workspace,
    compiled=True,
)
def launch_pooled(y, index, x, weight, b, panels, scratch, *, function, alpha, **window):
    """The same with the patches in the order of the pooling windows."""
    table, matrix = _table(x, weight, True, **window), filters_of(weight)
    if function == "relu":
        product(y, index, x, matrix, b, table, RELU | POOL, panels, scratch)
    else:
        product(y, index, x, matrix, b, table, POOL, panels, scratch, function=end(function), alpha=alpha)
