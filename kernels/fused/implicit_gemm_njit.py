"""Implicit GEMM that finishes each tile while it is in registers: bias, ReLU and, for pooling, the
largest of four.

The four patches of a tile are one pooling window, so a pooled convolution writes a quarter of the
values and one byte for each of them. Bias and ReLU come after the maximum: both keep its place.
"""

from __future__ import annotations

import numpy as np

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import conv2d_bias_relu, conv2d_bias_relu_maxpool

from ..shared.implicit_gemm_njit import FLOAT32, RELU, RELU_POOL, filters_of, product, workspace
from ..shared.patches_njit import Patches, patches, pooled_patches

_NO_INDEX = np.empty(1, np.uint8)


def _supports(x: Spec, weight: Spec, b: Spec, **_: object) -> bool:
    return x.dtype == FLOAT32


def _table(x: Spec, weight: Spec, pool: bool, strides, padding, dilation) -> Patches:
    make = pooled_patches if pool else patches
    return make(x.shape[1:3], x.shape[3], weight.shape[:2], strides, padding, dilation)


def _workspace(x: Spec, weight: Spec, b: Spec, **window) -> tuple[Spec, Spec]:
    return workspace(x.shape[0], weight.shape[3], _table(x, weight, False, **window))


def _pool_workspace(x: Spec, weight: Spec, b: Spec, **window) -> tuple[Spec, Spec]:
    return workspace(x.shape[0], weight.shape[3], _table(x, weight, True, **window))


@kernel(conv2d_bias_relu, "implicit_gemm", "njit", supports=_supports, workspace=_workspace)
def launch(y, x, weight, b, panels, scratch, *, strides, padding, dilation):
    """y = max(patches of x times weight + b, 0)."""
    table = _table(x, weight, False, strides, padding, dilation)
    product(y, _NO_INDEX, x, filters_of(weight), b, table, RELU, panels, scratch)


@kernel(conv2d_bias_relu_maxpool, "implicit_gemm", "njit", supports=_supports, workspace=_pool_workspace)
def launch_pooled(y, index, x, weight, b, panels, scratch, *, strides, padding, dilation):
    """The same with the patches in the order of the pooling windows."""
    table = _table(x, weight, True, strides, padding, dilation)
    product(y, index, x, filters_of(weight), b, table, RELU_POOL, panels, scratch)
