"""Extents of convolutions whose results are pooled by 2 × 2, and which of them tensor cores compute."""

from __future__ import annotations

from gpucnn.devices.launch import ceil_div

from . import tensor_convolution_launch as tensor
from .convolution_products import window_numbers
from .gemm_launch import Plan, sum_block

USUAL_BATCH = 128


def windows(pooled) -> tuple[int, int, int, int]:
    """The windows of the convolution that are pooled, by images, and its filters: of the shape of the
    pooled result."""
    n, p, q, k = pooled
    return n, 2 * p, 2 * q, k


def fits_tensor_cores(x, weight, **window) -> bool:
    """Whether tensor cores compute a convolution, and faster than ordinary arithmetic. Which layers are
    fused does not depend on the size of a batch: a usual one decides."""
    usual = x.like(USUAL_BATCH, *x.shape[1:])
    return tensor.supports(usual, weight, **window) and tensor.pays(usual, weight, **window)


def extents(x, taps, pooled, *, strides, padding, dilation):
    """The numbers that kernels take, in their order."""
    return *x, *pooled[1:], *taps, *window_numbers(strides, padding, dilation)


def join_largest(sum_parts_largest, plan: Plan, y, index, parts, b, alpha):
    """Add up the parts of sums before pooling, if there are several, and pick the largest of each window."""
    if parts is not None:
        quads, rows = sum_block(plan.parts, each=4)
        sum_parts_largest[ceil_div(y.size, 4 * quads), (quads, rows)](
            y, index, parts, b, alpha, y.size, plan.parts, b.size
        )
