"""Winograd's algorithm with pooling by any windows once the results of an image are there, as `implicit_gemm`.

`shared/winograd_njit.py` holds the algorithm.
"""

from __future__ import annotations

from typing import Any

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.conv_pool import conv2d_bias_activation_pool
from gpucnn.ops.window import positions

from ..shared.implicit_gemm_njit import filters_of
from ..shared.pooling_njit import ending
from ..shared.winograd_njit import convolve, pooled_workspace, workspace
from ..shared.winograd_tiles import Tiles, pays, supports, tiles_of


def _tiles(x: Any, weight: Any, padding: Any) -> Tiles:
    return tiles_of(*x.shape[1:], weight.shape[:2], padding, x.shape[0], weight.shape[3])


def _extents(x: Any, weight: Any, padding: Any) -> tuple[int, ...]:
    """Rows, columns and filters of the results of an image."""
    ones = (1, 1)
    return *map(positions, x.shape[1:3], weight.shape[:2], ones, ones, padding), weight.shape[3]


def _supports(
    x: Spec, weight: Spec, b: Spec, *, function, alpha, kind, pool, pool_strides, pool_padding, **window
) -> bool:
    return supports(x, weight.shape[2:], weight.shape[:2], **window)


def _pays(x: Spec, weight: Spec, b: Spec, *, padding: Any, **_: Any) -> bool:
    return pays(*weight.shape[2:], _tiles(x, weight, padding))


def _workspace(x: Spec, weight: Spec, b: Spec, *, kind: str, padding: Any, **_: Any) -> tuple[Spec, ...]:
    sizes = x.shape[0], *weight.shape[2:], _tiles(x, weight, padding)
    return workspace(*sizes) if kind == "mean" else pooled_workspace(*sizes, _extents(x, weight, padding))


@kernel(
    conv2d_bias_activation_pool,
    "winograd",
    "njit",
    supports=_supports,
    pays=_pays,
    workspace=_workspace,
    compiled=True,
)
def launch(y, kept, x, weight, b, *scratch, function, alpha, kind, padding, strides, dilation, groups, **windows):
    """y = the largest or the mean of each window of f(x by the filters + b)."""
    *scratch, work = scratch if kind == "max" else (*scratch, None)
    results, first, pooling = ending(y, kept, work, _extents(x, weight, padding), function, kind, **windows)
    convolve(
        results, x, filters_of(weight), _tiles(x, weight, padding), *scratch, bias=b, function=first, alpha=alpha,
        pooling=pooling,
    )  # fmt: skip
