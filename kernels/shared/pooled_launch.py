"""Extents of convolutions whose results are pooled by 2 × 2, and which of them tensor cores compute."""

from __future__ import annotations

from . import tensor_convolution_launch as tensor
from .convolution_products import window_numbers

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
