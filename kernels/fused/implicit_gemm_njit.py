"""Implicit GEMM that finishes each tile while it is in registers, and each block of tiles while it is
in the first-level cache: bias, activation and, for pooling, the largest of four.

The four patches of a tile are one pooling window, so a pooled convolution writes a quarter of the
values and one byte for each of them. Bias and activation come after the maximum: both keep its
place.
"""

from __future__ import annotations

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import conv2d_bias_activation, conv2d_bias_activation_maxpool

from ..shared.epilogue_njit import end
from ..shared.implicit_gemm_njit import FLOAT32, NO_INDEX, NONE, POOL, RELU, filters_of, product, workspace
from ..shared.patches_njit import Patches, pooled_patches
from ..shared.side_by_side_njit import way_of, widened


def _supports(x: Spec, weight: Spec, b: Spec, **_: object) -> bool:
    return x.dtype == FLOAT32


def _pooled(x: Spec, weight: Spec, strides, padding, dilation) -> Patches:
    return pooled_patches(x.shape[1:3], x.shape[3], weight.shape[:2], strides, padding, dilation)


def _workspace(x: Spec, weight: Spec, b: Spec, *, function, alpha, keep_input, groups=1, **window) -> tuple[Spec, Spec]:
    way, table = way_of(x, weight, groups=groups, **window)
    return workspace(x.shape[0], way.shape[3], table, groups=groups)


def _pool_workspace(x: Spec, weight: Spec, b: Spec, *, function, alpha, **window) -> tuple[Spec, Spec]:
    return workspace(x.shape[0], weight.shape[3], _pooled(x, weight, **window))


@kernel(conv2d_bias_activation, "implicit_gemm", "njit", supports=_supports, workspace=_workspace, compiled=True)
def launch(y, *arrays, function, alpha, keep_input, groups=1, **window):
    """y = f(patches of x times weight + b); what f is applied to comes second if it is kept."""
    sums, (x, weight, b, panels, scratch) = (arrays[0] if keep_input else None), arrays[keep_input:]
    way, table = way_of(x, weight, groups=groups, **window)
    weight, b = widened(weight, b, way)
    results, kept = (a if a is None else a.reshape(len(y), -1, way.shape[3]) for a in (y, sums))
    arrays = results, NO_INDEX, x, filters_of(weight, groups), b, table
    if function == "relu" and not keep_input:
        product(*arrays, RELU, panels, scratch, groups)
    else:
        product(*arrays, NONE, panels, scratch, groups, sums=kept, function=end(function), alpha=alpha)


@kernel(
    conv2d_bias_activation_maxpool,
    "implicit_gemm",
    "njit",
    supports=_supports,
    workspace=_pool_workspace,
    compiled=True,
)
def launch_pooled(y, index, x, weight, b, panels, scratch, *, function, alpha, **window):
    """The same with the patches in the order of the pooling windows."""
    table, matrix = _pooled(x, weight, **window), filters_of(weight)
    if function == "relu":
        product(y, index, x, matrix, b, table, RELU | POOL, panels, scratch)
    else:
        product(y, index, x, matrix, b, table, POOL, panels, scratch, function=end(function), alpha=alpha)
