"""Direct convolution of images, with a patch of results per thread in registers. The baseline to beat.

Each op costs 2 · N P Q K · R S C FLOPs. One thread per value would load two floats for each multiply-add; a patch
of 4 × 4 results loads five times for sixteen. It needs no matrix of columns and no shared memory, takes every stride,
dilation and number of groups, and is at its best where matrix products are at their worst: few channels, depthwise
filters. What the three families of convolutions share stands in `shared/direct_launch.py` and `include/direct.cuh`.
"""

from __future__ import annotations

from gpucnn.nvrtc import cuda_function
from gpucnn.ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight
from gpucnn.registry import kernel

from ..shared.direct_launch import THREADS, exchanged_filters, forward, grad_input, grad_weight, partial_sums

conv2d_direct = cuda_function(__file__, "conv2d_direct", THREADS=THREADS)
conv2d_grad_input_direct = cuda_function(__file__, "conv2d_grad_input_direct", THREADS=THREADS)
conv2d_grad_weight_direct = cuda_function(__file__, "conv2d_grad_weight_direct", THREADS=THREADS)
exchange_filters = cuda_function(__file__, "exchange_filters", THREADS=THREADS)
join_slices = cuda_function(__file__, "join_slices", THREADS=THREADS)


@kernel(conv2d, "direct", "cuda")
def launch(y, x, weight, **window):
    forward(conv2d_direct, y, x, weight, **window)


@kernel(conv2d_grad_input, "direct", "cuda", workspace=exchanged_filters)
def launch_grad_input(dx, dy, weight, exchanged, *, size, **window):
    grad_input(conv2d_grad_input_direct, exchange_filters, dx, dy, weight, exchanged, **window)


@kernel(conv2d_grad_weight, "direct", "cuda", workspace=partial_sums)
def launch_grad_weight(dweight, dy, x, partial, *, kernel_size, **window):
    grad_weight(conv2d_grad_weight_direct, join_slices, dweight, dy, x, partial, **window)
