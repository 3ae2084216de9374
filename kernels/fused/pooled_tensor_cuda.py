"""A convolution on tensor cores whose results are pooled by 2 × 2: the results before pooling are never
stored.

The product is that of `conv2d/tensor`; its windows are counted by fours, those of one pooling window
after another, as in `fused/pooled_gemm`, and a thread that holds four results of a window in registers
writes their largest and the number of its cell. Where the sums are cut into parts, the kernel that
adds them up picks the largest. Apart, pooling reads the results again and writes a quarter of them.

The gradients of such a layer are `conv2d_maxpool_grad_sums` and those of `conv2d`, on tensor cores too.
"""

from __future__ import annotations

from math import prod

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.dispatch.precision import PRECISIONS
from gpucnn.ops.fused import conv2d_bias_activation_maxpool

from ..shared import tensor_convolution_launch as convolution
from ..shared.gemm_launch import End, sum_block
from ..shared.pooled_launch import extents, fits_tensor_cores, windows
from ..shared.tensor_launch import DEFAULT, variant_of

of_y, sum_parts_largest = (
    cuda_function(__file__, name, **DEFAULT, **End(None, "relu", 0.0).macros())
    for name in ("conv2d_bias_activation_maxpool_tensor", "sum_parts_largest")
)


def supports(x, weight, b, *, function, alpha, **window):
    """What the convolution's kernel supports."""
    return convolution.supports(x, weight, **window)


def pays(x, weight, b, *, function, alpha, **window):
    """Large products."""
    return fits_tensor_cores(x, weight, **window)


def workspace(x, weight, b, **params):
    """The parts of the sums before pooling, if they are cut."""
    pooled, _ = conv2d_bias_activation_maxpool.specs(x, weight, b, **params)
    before = windows(pooled.shape)
    return convolution.planned(before, weight.shape, 1).workspace(prod(before))


@kernel(
    conv2d_bias_activation_maxpool,
    "pooled_tensor",
    "cuda",
    supports=supports,
    pays=pays,
    workspace=workspace,
    precisions=PRECISIONS,
)
def launch(y, index, x, weight, b, parts=None, *, function, alpha, **window):
    """y, index = the largest of each window, finished, and its cell."""
    plan = convolution.planned(windows(y.shape), weight.shape, 1)
    variant = variant_of(plan) | End(b, function, alpha).macros()
    shape = extents(x.shape, weight.shape[:2], y.shape, **window)
    of_y.define(**variant)[plan.grid(), plan.tile.THREADS](y, index, parts, x, weight, b, alpha, *shape, plan.length)
    if parts is not None:
        quads, rows = sum_block(plan.parts, each=4)
        sum_parts_largest.define(**variant)[ceil_div(y.size, 4 * quads), (quads, rows)](
            y, index, parts, b, alpha, y.size, plan.parts, b.size
        )
