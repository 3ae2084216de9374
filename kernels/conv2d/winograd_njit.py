"""Convolution with half of the multiplications, or 4/9 for 3 × 3 filters: Winograd's F(2×2, R×S).

`shared/winograd_njit.py` holds the algorithm and what it costs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight

from ..shared.implicit_gemm_njit import Matrix, filters_of
from ..shared.transposed_winograd_njit import correlate, transposed_workspace
from ..shared.winograd_njit import convolve, workspace
from ..shared.winograd_tiles import Tiles, correlation_pays, pays, supports, tiles_of


def _tiles(x: Any, kernel_size: tuple[int, int], filters: int, *, padding: Any, **_: Any) -> Tiles:
    return tiles_of(*x.shape[1:], kernel_size, padding, x.shape[0], filters)


def _forward_supports(x: Spec, weight: Spec, **window: Any) -> bool:
    return supports(x, weight.shape[2:], weight.shape[:2], **window)


def _forward_pays(x: Spec, weight: Spec, **window: Any) -> bool:
    return pays(*weight.shape[2:], _tiles(x, weight.shape[:2], weight.shape[3], **window))


def _forward_workspace(x: Spec, weight: Spec, **window: Any) -> tuple[Spec, ...]:
    return workspace(x.shape[0], *weight.shape[2:], _tiles(x, weight.shape[:2], weight.shape[3], **window))


@kernel(
    conv2d,
    "winograd",
    "njit",
    supports=_forward_supports,
    pays=_forward_pays,
    workspace=_forward_workspace,
    compiled=True,
)
def launch(y, x, weight, *scratch, **window):
    """y = x by the filters."""
    convolve(y, x, filters_of(weight), _tiles(x, weight.shape[:2], weight.shape[3], **window), *scratch)


def _tiles_of_dy(dy: Any, weight: Any, *, padding: Any, **_: Any) -> Tiles:
    taps = weight.shape[:2]
    around = tuple((n - 1 - before, n - 1 - behind) for n, (before, behind) in zip(taps, padding, strict=True))
    return tiles_of(*dy.shape[1:], taps, around, dy.shape[0], weight.shape[2])


def _input_supports(dy: Spec, weight: Spec, *, size: Any, **window: Any) -> bool:
    return supports(dy, weight.shape[2:], weight.shape[:2], **window)


def _input_pays(dy: Spec, weight: Spec, *, size: Any, **window: Any) -> bool:
    return pays(weight.shape[3], weight.shape[2], _tiles_of_dy(dy, weight, **window))


def _input_workspace(dy: Spec, weight: Spec, *, size: Any, **window: Any) -> tuple[Spec, ...]:
    return workspace(dy.shape[0], weight.shape[3], weight.shape[2], _tiles_of_dy(dy, weight, **window))


@kernel(
    conv2d_grad_input,
    "winograd",
    "njit",
    supports=_input_supports,
    pays=_input_pays,
    workspace=_input_workspace,
    compiled=True,
)
def launch_grad_input(dx, dy, weight, *scratch, size, **window):
    """dx = dy by the filters, turned around, with channels and filters exchanged."""
    R, S, channels, filters = weight.shape
    rows = np.add.outer(np.arange(R * S - 1, -1, -1) * channels * filters, np.arange(filters)).ravel()
    convolve(dx, dy, Matrix(weight, rows, filters, 0), _tiles_of_dy(dy, weight, **window), *scratch)


def _weight_supports(dy: Spec, x: Spec, *, kernel_size: Any, padding: Any, **window: Any) -> bool:
    """A tap that meets nothing but padding has a gradient of 0, which would be a rounding error."""
    meets = all(results > max(pads) for results, pads in zip(dy.shape[1:3], padding, strict=True))
    return meets and supports(x, (x.shape[3], dy.shape[3]), kernel_size, padding=padding, **window)


def _weight_pays(dy: Spec, x: Spec, *, kernel_size: Any, **window: Any) -> bool:
    return correlation_pays(x.shape[3], dy.shape[3], _tiles(x, kernel_size, dy.shape[3], **window))


def _weight_workspace(dy: Spec, x: Spec, *, kernel_size: Any, **window: Any) -> tuple[Spec, ...]:
    return transposed_workspace(x.shape[0], x.shape[3], dy.shape[3], _tiles(x, kernel_size, dy.shape[3], **window))


@kernel(
    conv2d_grad_weight,
    "winograd",
    "njit",
    supports=_weight_supports,
    pays=_weight_pays,
    workspace=_weight_workspace,
    compiled=True,
)
def launch_grad_weight(dweight, dy, x, *scratch, kernel_size, **window):
    """dweight, summed by slices of the batch."""
    correlate(dweight, dy, x, _tiles(x, kernel_size, dy.shape[3], **window), *scratch)
