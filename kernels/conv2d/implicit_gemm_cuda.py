"""Implicit GEMM: im2col and the product in one, so that the matrix of patches, R · S times the
images, never exists.

A convolution is a product: pixels by taps times taps by filters. `im2col` writes the left matrix to
global memory and reads it back, 8 R S C bytes for each pixel compared with 2 R S C K FLOPs, which
for 32 filters is only 8 FLOPs for each byte. Here the tiles of that matrix are built in shared
memory straight from the images, which the caches hold: global traffic falls to the images, the
filters and the result. The FLOPs stay the same, and so does the main loop, that of
`matmul/warptiled`; only the source of its left operand is another. The gradients are products of
the same kind:

    dx       pixels of x by (taps, filters), one product for each remainder of the cells by the strides, since the cells
             of one remainder meet the same taps: no multiplication by the zeros between the windows
    dweight  taps by filters, a sum over all pixels of all images, cut into parts that are added up in order

A depthwise convolution (one channel for a group) has no sum over channels to share values in:
`direct` serves it better.
"""

from __future__ import annotations

from math import gcd, prod

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight

from ..shared import convolution_products as products
from ..shared.gemm_launch import FLOAT32, LARGE, Plan, join, product_plan
from ..shared.implicit_gemm_launch import forward, workspace

DEFAULT = LARGE._asdict()

conv2d_implicit_gemm = cuda_function(__file__, "conv2d_implicit_gemm", **DEFAULT)
conv2d_grad_input_implicit_gemm = cuda_function(__file__, "conv2d_grad_input_implicit_gemm", **DEFAULT)
conv2d_grad_weight_implicit_gemm = cuda_function(__file__, "conv2d_grad_weight_implicit_gemm", **DEFAULT)
sum_parts = cuda_function(__file__, "sum_parts", **DEFAULT)

GROUPS = 65535
"""The extent of a grid along z."""


def planned_grad_input(dy, weight, size, strides, dilation, groups) -> Plan:
    """The plan of dx: cells of the largest remainder by channels, over its taps and the filters of
    the group."""
    (stride_h, stride_w), (dilation_h, dilation_w) = strides, dilation
    cells = dy[0] * ceil_div(size[0], stride_h) * ceil_div(size[1], stride_w)
    taps_r = ceil_div(weight[0], stride_h // gcd(stride_h, dilation_h))
    taps_s = ceil_div(weight[1], stride_w // gcd(stride_w, dilation_w))
    remainders = min(stride_h, size[0]) * min(stride_w, size[1])
    return product_plan(cells, weight[2], taps_r * taps_s * dy[-1] // groups, groups=groups, repeats=remainders)


def planned_grad_weight(dy, x, kernel_size, groups) -> Plan:
    """The plan of dweight: taps by filters, over all pixels."""
    return product_plan(prod(kernel_size) * x[-1] // groups, dy[-1] // groups, prod(dy[:-1]), groups=groups)


def supports(one, other, *, groups, **_):
    """Float32, groups of several channels; for the weight's gradient `other` is x."""
    return one.dtype == FLOAT32 and groups <= GROUPS and (groups == 1 or other.shape[-2] > 1)


def supports_grad_weight(dy, x, *, groups, **_):
    """The same, of x."""
    return dy.dtype == FLOAT32 and groups <= GROUPS and (groups == 1 or x.shape[-1] > groups)


def workspace_grad_input(dy, weight, *, size, strides, dilation, groups, **_):
    """The parts of dx, if its sums are cut."""
    plan = planned_grad_input(dy.shape, weight.shape, size, strides, dilation, groups)
    return plan.workspace(dy.shape[0] * prod(size) * weight.shape[-2] * groups)


def workspace_grad_weight(dy, x, *, kernel_size, groups, **_):
    """The parts of dweight, which is nearly always cut."""
    plan = planned_grad_weight(dy.shape, x.shape, kernel_size, groups)
    return plan.workspace(prod(kernel_size) * x.shape[-1] // groups * dy.shape[-1])


@kernel(conv2d, "implicit_gemm", "cuda", supports=supports, workspace=workspace)
def launch(y, x, weight, parts=None, **window):
    """y = patches of x · weight."""
    forward(conv2d_implicit_gemm, sum_parts, y, parts, x, weight, **window)


def executed_grad_input(dy, weight, *, size, **window) -> tuple[float, float]:
    """FLOPs of dx, and of its longest block."""
    window = {"size": size, **window}
    plan = planned_grad_input(dy.shape, weight.shape, size, window["strides"], window["dilation"], window["groups"])
    return products.executed_grad_input(plan, dy.shape, weight.shape, **window)


@kernel(
    conv2d_grad_input,
    "implicit_gemm",
    "cuda",
    supports=supports,
    workspace=workspace_grad_input,
    executed=executed_grad_input,
)
def launch_grad_input(dx, dy, weight, parts=None, *, size, strides, padding, dilation, groups):
    """dx = patches of dy · weight turned around, for each remainder of the cells by the strides."""
    plan = planned_grad_input(dy.shape, weight.shape, size, strides, dilation, groups)
    shape = products.extents(dx.shape, weight.shape[:-1], dy.shape, strides, padding, dilation, groups)
    remainders_h, remainders_w = (min(s, n) for s, n in zip(strides, size, strict=True))
    divisors = (gcd(s, d) for s, d in zip(strides, dilation, strict=True))
    tiles = plan.tiles // (remainders_h * remainders_w)
    variant = plan.macros_with_more_registers()
    conv2d_grad_input_implicit_gemm.define(**variant)[plan.grid(groups), plan.tile.THREADS](
        dx if parts is None else parts, dy, weight, *shape, *divisors, remainders_w, tiles
    )
    join(sum_parts.define(**variant), plan, dx, parts)


@kernel(conv2d_grad_weight, "implicit_gemm", "cuda", supports=supports_grad_weight, workspace=workspace_grad_weight)
def launch_grad_weight(dweight, dy, x, parts=None, *, kernel_size, strides, padding, dilation, groups):
    """dweight = transposed patches of x · dy."""
    plan = planned_grad_weight(dy.shape, x.shape, kernel_size, groups)
    shape = products.extents(x.shape, dweight.shape[:-1], dy.shape, strides, padding, dilation, groups)
    variant = plan.macros_with_more_registers() | products.padded(padding)
    conv2d_grad_weight_implicit_gemm.define(**variant)[plan.grid(groups), plan.tile.THREADS](
        dweight if parts is None else parts, dy, x, *shape, plan.length
    )
    join(sum_parts.define(**variant), plan, dweight, parts)
