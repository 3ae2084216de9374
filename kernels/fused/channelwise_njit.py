"""A depthwise convolution, or one in small groups, with bias and activation: a stretch of results ends while
it is in the first-level cache.

`shared/channelwise_njit.py` holds the convolution and what it costs.
"""

from __future__ import annotations

from typing import Any

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import conv2d_bias_activation

from ..shared.channelwise_njit import forward, forward_workspace, reads_few, reads_some
from ..shared.epilogue_njit import end


def _supports(x: Spec, weight: Spec, b: Spec, *, groups: int = 1, **_: Any) -> bool:
    return reads_some(x, weight, groups=groups)


def _pays(x: Spec, weight: Spec, b: Spec, *, groups: int = 1, **_: Any) -> bool:
    return reads_few(x, weight, groups=groups)


def _workspace(
    x: Spec, weight: Spec, b: Spec, *, function: str, alpha: float, keep_input: bool, groups: int = 1, **window: Any
) -> Spec:
    return forward_workspace(x, weight, groups=groups, **window)


@kernel(
    conv2d_bias_activation,
    "channelwise",
    "njit",
    supports=_supports,
    pays=_pays,
    workspace=_workspace,
    compiled=True,
)
def launch(y, *arrays, function, alpha, keep_input, groups=1, **window):
    """y = f(x by the filters + b); what f is applied to comes second if it is kept."""
    sums, (x, weight, b, scratch) = (arrays[0] if keep_input else y), arrays[keep_input:]
    forward(
        sums, x, weight, scratch, bias=b, ended=y, function=end(function), alpha=alpha, groups=groups, **window
    )  # fmt: skip
