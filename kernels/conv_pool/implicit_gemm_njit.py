"""Implicit GEMM whose results are pooled when those of an image are there, in the second-level cache: windows of
any size, the largest or the mean. Results are written to memory only if a gradient needs what a mean is taken of.
"""

from __future__ import annotations

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.conv_pool import conv_bias_activation_pool

from ..shared.channelwise_njit import reads_few
from ..shared.convolution_njit import supports
from ..shared.implicit_gemm_njit import NONE, filters_of, pooled_workspace, product, workspace
from ..shared.pooling_njit import NO_INDEX, ending, extents_of
from ..shared.side_by_side_njit import way_of, widened


def _pays(x: Spec, weight: Spec, b: Spec, *, groups: int, **_: object) -> bool:
    return not reads_few(x, weight, groups=groups)


def _workspace(
    x: Spec, weight: Spec, b: Spec, *, function, alpha, kind, keep, groups, pool, pool_strides, pool_padding, **window
) -> tuple[Spec, ...]:
    way, table = way_of(x, weight, groups=groups, **window)
    if kind == "mean" and keep:
        return workspace(x.shape[0], way.shape[-1], table, groups=groups)
    return pooled_workspace(x.shape[0], way.shape[-1], table, groups)


@kernel(
    conv_bias_activation_pool,
    "implicit_gemm",
    "njit",
    supports=supports,
    pays=_pays,
    workspace=_workspace,
    compiled=True,
)
def launch(y, *arrays, function, alpha, kind, keep, strides, padding, dilation, groups, **windows):
    """y = the largest or the mean of each window of f(patches of x times weight + b)."""
    kept, (x, weight, b, panels, scratch, *rest) = (arrays[0] if keep else None), arrays[keep:]
    work = rest[0] if rest else None
    extents = extents_of(x, weight, strides, padding, dilation)
    way, table = way_of(x, weight, padding, dilation, strides, groups)
    weight, b = widened(weight, b, way)
    results, first, pooling = ending(y, kept, work, extents, function, kind, **windows)
    if work is None:
        results = results.reshape(len(results), -1, way.shape[-1])
    product(
        results, NO_INDEX, x, filters_of(weight, groups), b, table, NONE, panels, scratch, groups, function=first,
        alpha=alpha, pooling=pooling,
    )  # fmt: skip
