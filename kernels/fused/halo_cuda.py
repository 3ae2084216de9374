"""A convolution at stride 1 on tensor cores, with each cell in shared memory once, that finishes its sums: bias and
activation, and pooling by 2 × 2.

The product is that of `conv2d/halo`. A pooling window's four results are sums of one thread, as in
`fused/pooled_tensor`.
"""

from __future__ import annotations

from math import prod

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.dispatch.precision import PRECISIONS
from gpucnn.ops.fused import conv2d_bias_activation, conv2d_bias_activation_maxpool

from ..conv2d import halo_cuda as convolution
from ..shared import halo_launch as halo
from ..shared.convolution_products import window_numbers
from ..shared.gemm_launch import End, join
from ..shared.pooled_launch import USUAL_BATCH, join_largest, windows
from ..shared.tensor_launch import DEFAULT, variant_of

of_y, of_pooled, sum_parts_bias_activation, sum_parts_largest = (
    cuda_function(__file__, name, **DEFAULT, **End(None, "relu", 0.0).macros())
    for name in (
        "conv2d_bias_activation_halo",
        "conv2d_bias_activation_maxpool_halo",
        "sum_parts_bias_activation",
        "sum_parts_largest",
    )
)


def supports(x, weight, b, *, function, alpha, keep_input, **window):
    """What the convolution's kernel supports; one result."""
    return not keep_input and convolution.supports(x, weight, **window, groups=1)


def pays(x, weight, b, *, function, alpha, keep_input, **window):
    """As for the convolution alone."""
    return convolution.pays(x, weight, **window, groups=1)


def workspace(x, weight, b, *, function, alpha, keep_input, **window):
    """The parts of y, if its channels are cut."""
    return convolution.workspace(x, weight, **window, groups=1)


@kernel(
    conv2d_bias_activation,
    "halo",
    "cuda",
    supports=supports,
    pays=pays,
    workspace=workspace,
    precisions=PRECISIONS,
)
def launch(y, x, weight, b, parts=None, *, function, alpha, keep_input, **window):
    """y = f(patches of x · weight + b)."""
    plan, end = convolution.planned(x, weight, **window, groups=1), End(b, function, alpha)
    variant = variant_of(plan.product) | end.macros()
    of_y.define(**variant)[plan.geometry()](
        y if parts is None else parts,
        x,
        weight,
        *end.arguments(parts is None),
        *convolution.extents(x, weight, y, **window),
        *plan.numbers,
    )
    join(sum_parts_bias_activation.define(**variant), plan.product, y, parts, end)


def planned_pooled(x, weight, b, *, function, alpha, **window):
    """The plan of the sums before pooling, or None; and the windows that are pooled."""
    pooled, _ = conv2d_bias_activation_maxpool.specs(x, weight, b, function=function, alpha=alpha, **window)
    *taps, C, K = weight.shape
    images, P, Q, _ = windows(pooled.shape)
    if not halo.serves(x.dtype, C, K, strides=window["strides"]):
        return None, images * P * Q
    return halo.halo_plan(images, (P, Q), taps, window["dilation"], C, K, pooled=True), images * P * Q


def supports_pooled(x, weight, b, **params):
    """Float32, quads of channels and of filters, stride 1, cells that fit."""
    return planned_pooled(x, weight, b, **params)[0] is not None


def pays_pooled(x, weight, b, **params):
    """Where `pooled_tensor` is expected to take longer, in a usual batch if in this one."""
    *taps, C, K = weight.shape
    batches = {x.shape[0], USUAL_BATCH}
    return all(halo.pays(*planned_pooled(x.like(n, *x.shape[1:]), weight, b, **params), taps, C, K) for n in batches)


def workspace_pooled(x, weight, b, **params):
    """The parts of the sums before pooling, if the channels are cut."""
    plan, count = planned_pooled(x, weight, b, **params)
    return plan.product.workspace(count * weight.shape[-1])


@kernel(
    conv2d_bias_activation_maxpool,
    "halo",
    "cuda",
    supports=supports_pooled,
    pays=pays_pooled,
    workspace=workspace_pooled,
    precisions=PRECISIONS,
)
def launch_pooled(y, index, x, weight, b, parts=None, *, function, alpha, strides, padding, dilation):
    """y, index = the largest of each window, finished, and its cell."""
    window = {"strides": strides, "padding": padding, "dilation": dilation}
    plan, _ = planned_pooled(x, weight, b, function=function, alpha=alpha, **window)
    variant = variant_of(plan.product) | End(b, function, alpha).macros()
    of_pooled.define(**variant)[plan.geometry()](
        y, index, parts, x, weight, b, alpha, *convolution.extents(x, weight, y, **window), *plan.numbers
    )
    join_largest(sum_parts_largest.define(**variant), plan.product, y, index, parts, b, alpha)
