"""Gradients of a convolution with few channels whose results are pooled by 2 × 2: only values of dy are
multiplied, never the zeros between them.

`pooled_gemm` computes products with dz, which has four cells for each value of dy, and whose columns
fill half a tile where filters are few. Here every value of dy is multiplied by the patch of its
window, or by its filter: a quarter of the multiplications, without a loop over slabs that waits for
global memory. Images and filters must fit into shared memory.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import conv2d_maxpool_grad_input, conv2d_maxpool_grad_weight

from ..shared.gemm_launch import FLOAT32, MULTIPROCESSORS, join_both
from ..shared.pooled_launch import fits_tensor_cores
from ..shared.stage_launch import FLOATS

LONGEST_RUN = 16
"""Sums of a thread of the gradient of the weight."""

THREADS = 512
"""About as many to a block."""

BLOCKS = 2 * MULTIPROCESSORS
"""As many run side by side."""

MOST_CHANNELS = 16
"""Sums of a thread of the gradient of x."""

of_dweight, sum_parts_of_both, of_dx = (
    cuda_function(__file__, name, RUN=1, CHANNELS=1)
    for name in ("conv2d_maxpool_grad_weight_sparse", "sum_parts_of_both", "conv2d_maxpool_grad_input_sparse")
)


class WeightPlan(NamedTuple):
    """How the gradient of the weight is laid out: `images` times `bands` blocks of `items` times `lanes`
    threads."""

    run: int
    items: int
    lanes: int
    images: int
    bands: int

    @property
    def parts(self) -> int:
        """Of the sum: one of each block."""
        return self.images * self.bands


class InputPlan(NamedTuple):
    """How the gradient of x is laid out: blocks of `rows` rows of an image, each cell in `shares`."""

    rows: int
    shares: int


def pools_within_reach(pools_h: int, rows: int, taps: int) -> int:
    """At most so many rows of pooling windows reach `rows` rows of an image by filters of so many rows."""
    return min(pools_h, ceil_div(rows + taps, 2) + 1)


def weight_plan(dy, x, kernel_size, strides, dilation) -> WeightPlan | None:
    """The plan of dweight, or None if no block has the memory or the threads."""
    (N, pools_h, pools_w, K), (R, S), C = dy, kernel_size, x[-1]
    runs = next(n for n in range(ceil_div(S * C, LONGEST_RUN), S * C + 1) if S * C % n == 0)
    items = K * R * runs
    for bands in range(min(pools_h, max(1, BLOCKS // max(N, 1))), pools_h + 1):
        rows = ceil_div(pools_h, bands)
        high = (2 * rows - 1) * strides[0] + (R - 1) * dilation[0] + 1
        image = high * ((2 * pools_w - 1) * strides[1] + S) * C
        if 2 * rows * pools_w * K + image <= FLOATS and items <= THREADS:
            lanes = min(THREADS // items, rows * pools_w, 1 + FLOATS // (items * (S * C // runs + 1)))
            return WeightPlan(S * C // runs, items, lanes, min(N, max(1, BLOCKS // bands)), bands)
    return None


def input_plan(dy, weight, size) -> InputPlan | None:
    """The plan of dx, or None if no block has the memory or the threads."""
    (N, pools_h, pools_w, K), (R, S, C, _), (H, W) = dy, weight, size
    for bands in range(min(H, max(1, BLOCKS // max(N, 1))), H + 1):
        rows = ceil_div(H, bands)
        values = pools_within_reach(pools_h, rows, R) * pools_w * K
        filters = (R * S + 1) * (ceil_div(K * ceil_div(C, 4) * 4, 8) * 8 + 4)
        shares = max(1, min(THREADS // (rows * W), K, FLOATS // (rows * W * C)))
        if filters + 4 * values <= FLOATS and rows * W * C <= FLOATS and rows * W <= 2 * THREADS:
            return InputPlan(rows, shares)
    return None


def supports_grad_weight(dy, index, x, *, kernel_size, strides, dilation, **_):
    """Float32, no dilation along a row, images and lists that fit into shared memory."""
    fits = dy.dtype == FLOAT32 and dilation[1] == 1
    return fits and weight_plan(dy.shape, x.shape, kernel_size, strides, dilation) is not None


def supports_grad_input(dy, index, weight, *, size, dilation, **_):
    """Float32, few channels, no dilation, filters and lists that fit into shared memory."""
    fits = dy.dtype == FLOAT32 and dilation == (1, 1) and weight.shape[2] <= MOST_CHANNELS
    return fits and input_plan(dy.shape, weight.shape, size) is not None


def pays_grad_weight(dy, index, x, *, kernel_size, **window):
    """Unless tensor cores compute the convolution faster."""
    return not fits_tensor_cores(x, x.like(*kernel_size, x.shape[-1], dy.shape[-1]), **window)


def pays_grad_input(dy, index, weight, *, size, **window):
    """The same."""
    return not fits_tensor_cores(dy.like(dy.shape[0], *size, weight.shape[2]), weight, **window)


def workspace_grad_weight(dy, index, x, *, kernel_size, strides, dilation, **_):
    """The parts of dweight and db."""
    plan = weight_plan(dy.shape, x.shape, kernel_size, strides, dilation)
    return (dy.like(plan.parts, (prod(kernel_size) * x.shape[-1] + 1) * dy.shape[-1]),)


def executed_grad_weight(dy, index, x, *, kernel_size, strides, dilation, **_):
    """FLOPs of dweight, and of its longest block."""
    plan = weight_plan(dy.shape, x.shape, kernel_size, strides, dilation)
    total = 2.0 * prod(dy.shape) * prod(kernel_size) * x.shape[-1]
    return total, total * ceil_div(dy.shape[0], plan.images) / (dy.shape[0] * plan.bands)


def executed_grad_input(dy, index, weight, *, size, **_):
    """FLOPs of dx if every thread met every value that its block lists, and of its longest block."""
    plan = input_plan(dy.shape, weight.shape, size)
    reach = pools_within_reach(dy.shape[1], plan.rows, weight.shape[0])
    block = 2.0 * plan.rows * size[1] * weight.shape[2] * reach * dy.shape[2] * dy.shape[3]
    return block * dy.shape[0] * ceil_div(size[0], plan.rows), block


@kernel(
    conv2d_maxpool_grad_weight,
    "sparse",
    "cuda",
    supports=supports_grad_weight,
    pays=pays_grad_weight,
    workspace=workspace_grad_weight,
    executed=executed_grad_weight,
)
def launch_grad_weight(dweight, db, dy, index, x, parts, *, kernel_size, strides, padding, dilation):
    """dweight and db, a part of both for each block, which are then added up."""
    plan = weight_plan(dy.shape, x.shape, kernel_size, strides, dilation)
    variant = {"RUN": plan.run, "CHANNELS": x.shape[-1]}
    pitch = dweight.size + db.size
    (top, _), (left, _) = padding
    of_dweight.define(**variant)[plan.parts, ceil_div(plan.items * plan.lanes, 32) * 32](
        *(parts, parts.reshape(-1)[dweight.size :], dy, index, x),
        *(*x.shape[:3], *dy.shape[1:], *kernel_size, *strides, top, left, dilation[0]),
        *(plan.bands, plan.lanes, pitch),
    )
    join_both(sum_parts_of_both.define(**variant), dweight, db, parts)


@kernel(
    conv2d_maxpool_grad_input,
    "sparse",
    "cuda",
    supports=supports_grad_input,
    pays=pays_grad_input,
    executed=executed_grad_input,
)
def launch_grad_input(dx, dy, index, weight, *, size, strides, padding, dilation):
    """dx, a block for some rows of an image."""
    plan = input_plan(dy.shape, weight.shape, size)
    (top, _), (left, _) = padding
    of_dx.define(RUN=1, CHANNELS=weight.shape[2])[
        (dy.shape[0], ceil_div(size[0], plan.rows)), ceil_div(plan.rows * size[1] * plan.shares, 32) * 32
    ](
        *(dx, dy, index, weight),
        *(*size, *dy.shape[1:], *weight.shape[:2], *strides, top, left, plan.rows, plan.shares),
    )
