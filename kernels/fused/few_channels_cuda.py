"""Convolution of images with few channels, with bias, activation and dropout at its end, directly, and the
gradients of its weight and bias: the first layer of most networks.

A filter of one or three channels has few taps, and a tile of a product would spend its time in building
patches, and in starting and ending. Here the rows of the image that a block needs are in shared memory,
into which they must fit, and each thread has sums of four filters in registers: of neighbouring windows,
or of the taps of a filter. For the gradients, dy and the result are read once and dz is never stored,
which saves 16 bytes for each value, and a launch.
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import NamedTuple

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.ops.conv2d import conv2d
from gpucnn.ops.fused import (
    conv2d_bias_activation,
    conv2d_bias_activation_dropout,
    conv2d_bias_activation_grad_weight,
)

from ..shared.gemm_launch import FLOAT32, MULTIPROCESSORS, Drop, End, join_both
from ..shared.pooled_launch import fits_tensor_cores
from ..shared.stage_launch import FLOATS

THREADS, GRADIENT_THREADS = 256, 128
"""At most as many to a block."""

ITEMS = 2 * THREADS
"""About as many to a block: four filters at the windows of a thread."""

BLOCKS = 3 * MULTIPROCESSORS
"""As many run side by side."""

MOST_CHANNELS = 4
MOST_WINDOWS = 8
GRADIENT_WINDOWS = 4

KEPT = 24
"""Floats of the image that a thread keeps in registers for windows that meet them later."""

LONGEST_ROW = 32
"""Taps of a filter's row, whose products are written out one by one."""

MOST_TAPS = 27
"""Taps of a filter of which a thread of the gradient has the sums."""

of_y, of_dweight, sum_parts_of_both = (
    cuda_function(
        __file__,
        name,
        **{"TAPS": 1, "NEXT": 1, "WINDOWS": 1, "FOURS": 1, "ROWS": 1},
        **End(None, "relu", 0.0).macros(),
    )
    for name in (
        "conv2d_bias_activation_few_channels",
        "conv2d_bias_activation_grad_weight_few_channels",
        "sum_parts_of_both",
    )
)


class GradientPlan(NamedTuple):
    """How the gradient of the weight is laid out: blocks of `items` times `lanes` threads, each for some of the
    N · `bands` bands of `rows` rows of windows, and each thread for `filter_rows` rows of a filter."""

    filter_rows: int
    items: int
    lanes: int
    rows: int
    bands: int
    blocks: int


def windows_of_a_thread(Q: int, weight, strides) -> int:
    """As many as registers can hold the cells of, and such that the last thread of a row has few of them
    in vain."""
    _, S, C, _ = weight
    most = MOST_WINDOWS if strides[1] >= S else min(MOST_WINDOWS, KEPT // (strides[1] * C) + 1)
    return min(range(most, most // 2, -1), key=lambda windows: -Q % windows)


def floats_of_a_row(Q: int, weight, strides) -> int:
    """How many floats of a padded row of the image the threads read."""
    windows = windows_of_a_thread(Q, weight, strides)
    return ((ceil_div(Q, windows) * windows - 1) * strides[1] + weight[1]) * weight[2]


def rows_of_a_block(y, weight, strides, dilation) -> int:
    """How many rows of windows a block computes; 0 if the memory does not suffice for one."""
    (N, P, Q, K), (R, S, C, _) = y, weight
    groups = ceil_div(K, 4)
    left = FLOATS - R * S * C * 4 * groups
    fit = (left // floats_of_a_row(Q, weight, strides) - (R - 1) * dilation[0] - 1) // strides[0] + 1
    busy = min(ITEMS // (ceil_div(Q, windows_of_a_thread(Q, weight, strides)) * groups), N * P // BLOCKS)
    most = min(P, fit, max(1, busy))
    return ceil_div(P, ceil_div(P, most)) if most > 0 else 0


def supports(x, weight, *_, keep_input=False, groups=1, strides, padding, dilation, **__):
    """Float32, few channels in one group, no dilation along a row; a row of windows and the filters fit into shared
    memory; one result."""
    S, C = weight.shape[1:3]
    fits = x.dtype == FLOAT32 and C <= MOST_CHANNELS and S * C <= LONGEST_ROW and dilation[1] == 1
    if keep_input or groups > 1 or not fits:
        return False
    (y,) = conv2d.specs(x, weight, strides=strides, padding=padding, dilation=dilation, groups=1)
    return rows_of_a_block(y.shape, weight.shape, strides, dilation) > 0


def supports_dropped(x, weight, *_, **params):
    """The same with quads of filters."""
    return weight.shape[-1] % 4 == 0 and supports(x, weight, **params)


def pays(x, weight, *_, strides, padding, dilation, **__):
    """Unless tensor cores compute the convolution faster."""
    return not fits_tensor_cores(x, weight, strides=strides, padding=padding, dilation=dilation)


@kernel(conv2d_bias_activation, "few_channels", "cuda", supports=supports, pays=pays)
def launch(y, x, weight, b, *, function, alpha, keep_input=False, strides, padding, dilation, drop=None):
    """y, some rows of an image in a block."""
    (N, H, W, C), (_, P, Q, K), (R, S) = x.shape, y.shape, weight.shape[:2]
    (top, _), (left, _) = padding
    windows = windows_of_a_thread(Q, weight.shape, strides)
    rows = rows_of_a_block(y.shape, weight.shape, strides, dilation)
    items = rows * ceil_div(Q, windows) * ceil_div(K, 4)
    variant = {"TAPS": S * C, "NEXT": strides[1] * C, "WINDOWS": windows, "FOURS": int(K % 4 == 0), "ROWS": 1}
    end = End(b, function, alpha, drop)
    of_y.define(**variant | end.macros())[
        (N, ceil_div(P, rows)), ceil_div(ceil_div(items, ceil_div(items, THREADS)), 32) * 32
    ](
        *(y, x, weight, *end.arguments(True), H, W * C, P, Q, K, R, strides[0], top, left * C, dilation[0]),
        *(rows, floats_of_a_row(Q, weight.shape, strides)),
    )


@kernel(conv2d_bias_activation_dropout, "few_channels", "cuda", supports=supports_dropped, pays=pays)
def launch_dropped(y, x, weight, b, step, *, rate, seed, stream, counter=0, **params):
    """The same, dropped."""
    launch(y, x, weight, b, drop=Drop(step, rate, seed, stream, counter), **params)


@cache
def gradient_plan(dy, channels, kernel_size, strides, dilation) -> GradientPlan | None:
    """The plan of dweight, or None if no block has the memory or the threads."""
    (N, P, Q, K), (R, S) = dy, kernel_size
    filter_rows = max((n for n in range(1, R + 1) if R % n == 0 and n * S * channels <= MOST_TAPS), default=0)
    wide, columns = ((Q - 1) * strides[1] + S) * channels, ceil_div(Q, GRADIENT_WINDOWS)
    fit = (FLOATS // wide - (R - 1) * dilation[0] - 1) // strides[0] + 1
    items = ceil_div(K, 4) * (R // filter_rows) if filter_rows else GRADIENT_THREADS + 1
    if fit < 1 or items > GRADIENT_THREADS:
        return None

    def plan(rows: int) -> GradientPlan:
        lanes, bands = min(GRADIENT_THREADS // items, rows * columns), ceil_div(P, rows)
        return GradientPlan(filter_rows, items, lanes, rows, bands, min(BLOCKS, N * bands))

    def steps(one: GradientPlan) -> int:
        """Of the longest block; a band that is loaded takes about one more."""
        return ceil_div(N * one.bands, one.blocks) * (ceil_div(one.rows * columns, one.lanes) + 1)

    return min((plan(rows) for rows in range(1, min(P, fit) + 1)), key=steps)


def supports_grad_weight(dy, y, x, *, kernel_size, strides, dilation, **_):
    """Float32, few channels, no dilation along a row; a row of windows fits into shared memory, and the
    sums of a filter's row into registers."""
    fits = dy.dtype == FLOAT32 and x.shape[-1] <= MOST_CHANNELS and dilation[1] == 1
    return fits and gradient_plan(dy.shape, x.shape[-1], kernel_size, strides, dilation) is not None


def pays_grad_weight(dy, y, x, *, function, alpha, kernel_size, scale=1.0, **window):
    """Unless tensor cores compute the gradient faster."""
    return not fits_tensor_cores(x, x.like(*kernel_size, x.shape[-1], dy.shape[-1]), **window)


def workspace_grad_weight(dy, y, x, *, kernel_size, strides, dilation, **_):
    """The parts of dweight and db."""
    plan = gradient_plan(dy.shape, x.shape[-1], kernel_size, strides, dilation)
    return (dy.like(plan.blocks, (prod(kernel_size) * x.shape[-1] + 1) * dy.shape[-1]),)


@kernel(
    conv2d_bias_activation_grad_weight,
    "few_channels",
    "cuda",
    supports=supports_grad_weight,
    pays=pays_grad_weight,
    workspace=workspace_grad_weight,
)
def launch_grad_weight(
    dweight, db, dy, y, x, parts, *, function, alpha, kernel_size, strides, padding, dilation, scale=1.0
):
    """dweight and db, a part of both for each block, which are then added up."""
    (N, H, W, C), (_, P, Q, K), (R, S) = x.shape, dy.shape, kernel_size
    (top, _), (left, _) = padding
    plan = gradient_plan(dy.shape, C, kernel_size, strides, dilation)
    variant = {"TAPS": S * C, "NEXT": strides[1] * C, "WINDOWS": GRADIENT_WINDOWS, "FOURS": int(K % 4 == 0)}
    variant |= {"ROWS": plan.filter_rows} | End(None, function, alpha).macros()
    columns, wide, pitch = ceil_div(Q, GRADIENT_WINDOWS), ((Q - 1) * strides[1] + S) * C, dweight.size + db.size
    extents = N, H, W * C, P, Q, K, R, strides[0], top, left * C, dilation[0]
    of_dweight.define(**variant)[plan.blocks, ceil_div(plan.items * plan.lanes, 32) * 32](
        *(parts, parts.reshape(-1)[dweight.size :], dy, y, x, alpha, scale, *extents),
        *(plan.rows, plan.bands, plan.lanes, columns, wide, pitch),
    )
    join_both(sum_parts_of_both.define(**variant), dweight, db, parts)
