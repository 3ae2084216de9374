"""Convolution by 3 × 3 filters with 4/9 of the multiplications: F(2×2, 3×3) of Winograd.

`shared/winograd_njit.py` holds the algorithm and what it costs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight

from ..shared.implicit_gemm_njit import Matrix, filters_of
from ..shared.winograd_njit import (
    Tiles,
    convolve,
    correlate,
    pays,
    supports,
    tiles_of,
    transposed_workspace,
    workspace,
)


def _tiles(x: Any, *, padding: Any, **_: Any) -> Tiles:
    return tiles_of(*x.shape[1:], padding, x.shape[0])


def _forward_supports(x: Spec, weight: Spec, **window: Any) -> bool:
    return supports(x, weight.shape[2:], weight.shape[:2], **window)


def _forward_pays(x: Spec, weight: Spec, **window: Any) -> bool:
    return pays(*weight.shape[2:], _tiles(x, **window))


def _forward_workspace(x: Spec, weight: Spec, **window: Any) -> tuple[Spec, ...]:
    return workspace(x.shape[0], *weight.shape[2:], _tiles(x, **window))


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
    convolve(y, x, filters_of(weight), _tiles(x, **window), *scratch)


def _tiles_of_dy(dy: Any, *, padding: Any, **_: Any) -> Tiles:
    return tiles_of(*dy.shape[1:], tuple((2 - before, 2 - behind) for before, behind in padding), dy.shape[0])


def _input_supports(dy: Spec, weight: Spec, *, size: Any, **window: Any) -> bool:
    return supports(dy, weight.shape[2:], weight.shape[:2], **window)


def _input_pays(dy: Spec, weight: Spec, *, size: Any, **window: Any) -> bool:
    return pays(weight.shape[3], weight.shape[2], _tiles_of_dy(dy, **window))


def _input_workspace(dy: Spec, weight: Spec, *, size: Any, **window: Any) -> tuple[Spec, ...]:
    return workspace(dy.shape[0], weight.shape[3], weight.shape[2], _tiles_of_dy(dy, **window))


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
    channels, filters = weight.shape[2:]
    rows = np.add.outer(np.arange(8, -1, -1) * channels * filters, np.arange(filters)).ravel()
    convolve(dx, dy, Matrix(weight, rows, filters, 0), _tiles_of_dy(dy, **window), *scratch)


def _weight_supports(dy: Spec, x: Spec, *, kernel_size: Any, **window: Any) -> bool:
    return supports(x, (x.shape[3], dy.shape[3]), kernel_size, **window)


def _weight_pays(dy: Spec, x: Spec, *, kernel_size: Any, **window: Any) -> bool:
    return pays(x.shape[3], dy.shape[3], _tiles(x, **window))


def _weight_workspace(dy: Spec, x: Spec, *, kernel_size: Any, **window: Any) -> tuple[Spec, ...]:
    return transposed_workspace(x.shape[0], x.shape[3], dy.shape[3], _tiles(x, **window))


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
    correlate(dweight, dy, x, _tiles(x, **window), *scratch)
