"""A convolution with bias and activation, with half of the multiplications, or 4/9 for 3 × 3 filters.

`shared/winograd_njit.py` holds the algorithm. The bias is one more term of its sums, and pooling and
activation follow for each tile of results while it is in the first-level cache: a tile of 2 × 2 is a
pooling window.
"""

from __future__ import annotations

from typing import Any

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import conv2d_bias_activation, conv2d_bias_activation_maxpool

from ..shared.epilogue_njit import end
from ..shared.implicit_gemm_njit import filters_of
from ..shared.winograd_njit import convolve, workspace
from ..shared.winograd_tiles import pays, supports, tiles_by


def _supports(
    x: Spec, weight: Spec, b: Spec, *, function: Any, alpha: Any, keep_input: Any = False, **window: Any
) -> bool:
    return supports(x, weight.shape[2:], weight.shape[:2], **window)


def _pays(x: Spec, weight: Spec, b: Spec, *, padding: Any, **_: Any) -> bool:
    return pays(*weight.shape[2:], tiles_by(x, weight, padding))


def _workspace(x: Spec, weight: Spec, b: Spec, *, padding: Any, **_: Any) -> tuple[Spec, ...]:
    return workspace(x.shape[0], *weight.shape[2:], tiles_by(x, weight, padding))


@kernel(conv2d_bias_activation, "winograd", "njit", supports=_supports, pays=_pays, workspace=_workspace, compiled=True)
def launch(y, *arrays, function, alpha, keep_input, padding, **_):
    """y = f(x by the filters + b); what f is applied to comes second if it is kept."""
    sums, (x, weight, b, *scratch) = (arrays[0] if keep_input else None), arrays[keep_input:]
    convolve(
        y,
        x,
        filters_of(weight),
        tiles_by(x, weight, padding),
        *scratch,
        bias=b,
        ended=sums,
        function=end(function),
        alpha=alpha,
    )


def _pool_pays(x: Spec, weight: Spec, b: Spec, *, padding: Any, **_: Any) -> bool:
    return pays(*weight.shape[2:], tiles_by(x, weight, padding, pooled=True))


def _pool_workspace(x: Spec, weight: Spec, b: Spec, *, padding: Any, **_: Any) -> tuple[Spec, ...]:
    return workspace(x.shape[0], *weight.shape[2:], tiles_by(x, weight, padding, pooled=True))


@kernel(
    conv2d_bias_activation_maxpool,
    "winograd",
    "njit",
    supports=_supports,
    pays=_pool_pays,
    workspace=_pool_workspace,
    compiled=True,
)
def launch_pooled(y, index, x, weight, b, *scratch, function, alpha, padding, **_):
    """y = f(the largest of each 2 × 2 of x by the filters + b), and which it was."""
    relu = function == "relu"
    convolve(
        y, x, filters_of(weight), tiles_by(x, weight, padding, pooled=True), *scratch, bias=b, index=index, relu=relu,
        function=0 if relu else end(function), alpha=alpha,
    )  # fmt: skip
