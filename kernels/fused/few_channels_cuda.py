"""Convolution of images with few channels, with bias and activation at its end, directly: the first
layer of most networks.

A filter of one or three channels has few taps, and a tile of a product would spend its time in building
patches, and in starting and ending. Here the rows of the image that a block needs and the filters are in
shared memory, into which they must fit, and each thread has the sums of neighbouring windows in registers.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.ops.conv2d import conv2d
from gpucnn.ops.fused import conv2d_bias_activation

from ..shared.gemm_launch import FLOAT32, MULTIPROCESSORS, End
from ..shared.pooled_launch import fits_tensor_cores

FLOATS = 10240
"""Of the shared memory of a block."""

THREADS = 256
"""At most as many to a block."""

ITEMS = 2 * THREADS
"""About as many to a block: four filters at the windows of a thread."""

BLOCKS = 3 * MULTIPROCESSORS
"""At least as many, where there are enough rows."""

MOST_CHANNELS = 4
MOST_WINDOWS = 8

KEPT = 24
"""Floats of the image that a thread keeps in registers for windows that meet them later."""

LONGEST_ROW = 32
"""Taps of a filter's row, whose products are written out one by one."""

of_y = cuda_function(
    __file__,
    "conv2d_bias_activation_few_channels",
    **{"TAPS": 1, "NEXT": 1, "WINDOWS": MOST_WINDOWS, "QUADS": 1},
    **End(None, "relu", 0.0).macros(),
)


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


def supports(x, weight, b, *, keep_input, strides, padding, dilation, **_):
    """Float32, few channels, no dilation along a row; a row of windows and the filters fit into shared
    memory; one result."""
    S, C = weight.shape[1:3]
    fits = x.dtype == FLOAT32 and C <= MOST_CHANNELS and S * C <= LONGEST_ROW and dilation[1] == 1
    if keep_input or not fits:
        return False
    (y,) = conv2d.specs(x, weight, strides=strides, padding=padding, dilation=dilation, groups=1)
    return rows_of_a_block(y.shape, weight.shape, strides, dilation) > 0


def pays(x, weight, b, *, strides, padding, dilation, **_):
    """Unless tensor cores compute the convolution faster."""
    return not fits_tensor_cores(x, weight, strides=strides, padding=padding, dilation=dilation)


@kernel(conv2d_bias_activation, "few_channels", "cuda", supports=supports, pays=pays)
def launch(y, x, weight, b, *, function, alpha, keep_input, strides, padding, dilation):
    """y, some rows of an image in a block."""
    (N, H, W, C), (_, P, Q, K), (R, S) = x.shape, y.shape, weight.shape[:2]
    (top, _), (left, _) = padding
    windows = windows_of_a_thread(Q, weight.shape, strides)
    rows = rows_of_a_block(y.shape, weight.shape, strides, dilation)
    items = rows * ceil_div(Q, windows) * ceil_div(K, 4)
    variant = {"TAPS": S * C, "NEXT": strides[1] * C, "WINDOWS": windows, "QUADS": int(K % 4 == 0)}
    of_y.define(**variant | End(b, function, alpha).macros())[
        (N, ceil_div(P, rows)), ceil_div(ceil_div(items, ceil_div(items, THREADS)), 32) * 32
    ](
        *(y, x, weight, b, alpha, H, W * C, P, Q, K, R, strides[0], top, left * C, dilation[0]),
        *(rows, floats_of_a_row(Q, weight.shape, strides)),
    )
