"""Direct convolution of images with few channels whose results are pooled by 2 × 2: the first layer of
a small network.

A filter of one channel has few taps, and a tile of a product would spend its time in starting and ending.
Here each thread has the four sums of a pooling window, for four or eight filters, and the image and the
filters are in shared memory, into which they must fit.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import conv2d_bias_activation_maxpool

from ..shared.gemm_launch import FLOAT32, MULTIPROCESSORS, End
from ..shared.stage_launch import FLOATS

THREADS = 512
"""At most as many to a block."""

MOST_CHANNELS = 4

of_y = cuda_function(
    __file__,
    "conv2d_bias_activation_maxpool_direct",
    **{"TAPS": 1, "NEXT": 1, "FILTERS": 4},
    **End(None, "relu", 0.0).macros(),
)


def filters_of_a_thread(K: int) -> int:
    """Eight, unless that would leave many without work."""
    return 8 if -K % 8 < 4 else 4


def rows_of_a_block(x, weight, strides, padding, dilation) -> int | None:
    """How many rows of pooling windows a block computes, or None if the memory of none suffices: all, or
    less if there are few images or many windows."""
    (N, H, W, C), (R, S, _, K) = x.shape, weight.shape
    pools_h, pools_w = (
        ((size + sum(pads) - (taps - 1) * dilated - 1) // stride + 1) // 2
        for size, pads, taps, dilated, stride in zip((H, W), padding, (R, S), dilation, strides, strict=True)
    )
    each = filters_of_a_thread(K)
    groups = ceil_div(K, each)
    for bands in range(min(pools_h, max(1, 2 * MULTIPROCESSORS // max(N, 1))), pools_h + 1):
        rows = ceil_div(pools_h, bands)
        high = (2 * rows - 1) * strides[0] + (R - 1) * dilation[0] + 1
        image = high * ((2 * pools_w - 1) * strides[1] + S) * C
        if R * S * C * groups * each + image <= FLOATS and (rows * pools_w * groups <= THREADS or rows == 1):
            return rows
    return None


def supports(x, weight, *_, strides, padding, dilation, **__):
    """Float32, few channels, no dilation along a row, an image and filters that fit into shared memory."""
    fits = x.dtype == FLOAT32 and x.shape[-1] <= MOST_CHANNELS and dilation[1] == 1
    return fits and rows_of_a_block(x, weight, strides, padding, dilation) is not None


@kernel(conv2d_bias_activation_maxpool, "pooled_direct", "cuda", supports=supports)
def launch(y, index, x, weight, b, *, function, alpha, strides, padding, dilation):
    """y, index = the largest of each window, finished, and its cell."""
    rows = rows_of_a_block(x, weight, strides, padding, dilation)
    (N, H, W, C), (_, pools_h, pools_w, K), (R, S) = x.shape, y.shape, weight.shape[:2]
    each = filters_of_a_thread(K)
    (top, _), (left, _) = padding
    variant = {"TAPS": S * C, "NEXT": strides[1] * C, "FILTERS": each} | End(b, function, alpha).macros()
    threads = min(THREADS, ceil_div(rows * pools_w * ceil_div(K, each), 32) * 32)
    of_y.define(**variant)[(N, ceil_div(pools_h, rows)), threads](
        *(y, index, x, weight, b, alpha, H, W, C, pools_h, pools_w, K, R, strides[0], top, left, dilation[0], rows)
    )
