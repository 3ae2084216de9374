"""Winograd's algorithm with pooling by any windows once the results of an image are there, as `implicit_gemm`.

`shared/winograd_njit.py` holds the algorithm.
"""

from __future__ import annotations

from typing import Any

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.conv_pool import conv_bias_activation_pool

from ..shared.implicit_gemm_njit import filters_of
from ..shared.pooling_njit import ending, extents_of
from ..shared.winograd_njit import convolve, pooled_workspace, workspace
from ..shared.winograd_tiles import pays, supports, tiles_by


def _supports(
    x: Spec, weight: Spec, b: Spec, *, function, alpha, kind, keep, pool, pool_strides, pool_padding, **window
) -> bool:
    return len(x.shape) == 4 and supports(x, weight.shape[2:], weight.shape[:2], **window)


def _pays(x: Spec, weight: Spec, b: Spec, *, padding: Any, **_: Any) -> bool:
    return pays(*weight.shape[2:], tiles_by(x, weight, padding))


def _workspace(
    x: Spec, weight: Spec, b: Spec, *, kind: str, keep: bool, strides: Any, padding: Any, dilation: Any, **_: Any
) -> tuple[Spec, ...]:
    sizes = x.shape[0], *weight.shape[2:], tiles_by(x, weight, padding)
    if kind == "mean" and keep:
        return workspace(*sizes)
    return pooled_workspace(*sizes, extents_of(x, weight, strides, padding, dilation))


@kernel(
    conv_bias_activation_pool,
    "winograd",
    "njit",
    supports=_supports,
    pays=_pays,
    workspace=_workspace,
    compiled=True,
)
def launch(y, *arrays, function, alpha, kind, keep, padding, strides, dilation, groups, **windows):
    """y = the largest or the mean of each window of f(x by the filters + b)."""
    kept, (x, weight, b, *scratch) = (arrays[0] if keep else None), arrays[keep:]
    *scratch, work = (*scratch, None) if kind == "mean" and keep else scratch
    extents = extents_of(x, weight, strides, padding, dilation)
    results, first, pooling = ending(y, kept, work, extents, function, kind, **windows)
    convolve(
        results, x, filters_of(weight), tiles_by(x, weight, padding), *scratch, bias=b, function=first, alpha=alpha,
        pooling=pooling,
    )  # fmt: skip
