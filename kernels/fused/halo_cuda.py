"""A convolution at stride 1 on tensor cores, with each cell in shared memory once, that finishes its sums: bias and
activation, and pooling by 2 × 2.

The product is that of `conv2d/halo`. A pooling window's four results are sums of one thread, as in
`fused/pooled_tensor`.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.dispatch.precision import PRECISIONS
from gpucnn.ops.fused import conv2d_bias_activation, conv2d_bias_activation_maxpool

from ..shared import halo_launch as halo
from ..shared.gemm_launch import End
from ..shared.pooled_launch import windows
from ..shared.tensor_launch import DEFAULT

of_result, of_pooled = (
    cuda_function(__file__, name, **DEFAULT, **End(None, "relu", 0.0).macros())
    for name in ("conv2d_bias_activation_halo", "conv2d_bias_activation_maxpool_halo")
)


def supports(x, weight, b, *, function, alpha, keep_input, groups=1, **window):
    """What the convolution's kernel supports, in one group; one result."""
    return not keep_input and groups == 1 and halo.of_y(x, weight, **window) is not None


def pays(x, weight, b, *, function, alpha, keep_input, **window):
    """As for the convolution alone."""
    return halo.pays(halo.of_y(x, weight, **window), *weight.shape[2:])


@kernel(conv2d_bias_activation, "halo", "cuda", supports=supports, pays=pays, precisions=PRECISIONS)
def launch(y, x, weight, b, *, function, alpha, keep_input, strides, padding, dilation):
    """y = f(patches of x · weight + b)."""
    plan = halo.of_y(x, weight, strides=strides, padding=padding, dilation=dilation)
    variant = plan.variant() | End(b, function, alpha).macros()
    extents = halo.numbers(plan, x, weight, y, padding, dilation)
    of_result.define(**variant)[plan.geometry](y, x, weight, b, alpha, *extents)


def planned_pooled(x, weight, b, *, strides, **params):
    """The plan of the windows that are pooled, or None."""
    *taps, C, K = weight.shape
    if not halo.serves(x.dtype, C, K, strides=strides):
        return None
    pooled, _ = conv2d_bias_activation_maxpool.specs(x, weight, b, strides=strides, **params)
    images, *size, _ = windows(pooled.shape)
    return halo.halo_plan(images, size, taps, params["dilation"], K, together=2)


def supports_pooled(x, weight, b, **params):
    """Float32, quads of channels and of filters, stride 1, cells that fit."""
    return planned_pooled(x, weight, b, **params) is not None


def pays_pooled(x, weight, b, **params):
    """Where `pooled_tensor` is expected to take longer."""
    return halo.pays(planned_pooled(x, weight, b, **params), *weight.shape[2:])


@kernel(
    conv2d_bias_activation_maxpool,
    "halo",
    "cuda",
    supports=supports_pooled,
    pays=pays_pooled,
    precisions=PRECISIONS,
)
def launch_pooled(y, index, x, weight, b, *, function, alpha, strides, padding, dilation):
    """y, index = the largest of each window, finished, and its cell."""
    plan = planned_pooled(
        x, weight, b, function=function, alpha=alpha, strides=strides, padding=padding, dilation=dilation
    )
    variant = plan.variant() | End(b, function, alpha).macros()
    extents = halo.numbers(plan, x, weight, y, padding, dilation)
    of_pooled.define(**variant)[plan.geometry](y, index, x, weight, b, alpha, *extents)
