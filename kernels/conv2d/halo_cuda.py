"""Convolution at stride 1 on tensor cores, with each cell of the images in shared memory once.

`tensor` copies a cell to shared memory for each tap that meets it, R · S times, and every warp splits what
it reads into factors. There the copies bind TF32 and bfloat16, and the splitting float32: on an H100 tensor cores
are busy for 26 and 52 % of the time. Here a block takes whole rows of windows. The cells that they meet
are brought to shared memory once for all taps, already as factors, and a tap is an offset.

A block's rows of cells, of 16 channels, must fit into 48 KB: images up to some 128 cells wide.
"""

from __future__ import annotations

from math import prod

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.dispatch.precision import PRECISIONS
from gpucnn.ops.conv2d import conv2d, conv2d_grad_input

from ..shared import halo_launch as halo
from ..shared.convolution_products import window_numbers
from ..shared.gemm_launch import join
from ..shared.tensor_launch import DEFAULT, variant_of

conv2d_halo = cuda_function(__file__, "conv2d_halo", **DEFAULT)
conv2d_grad_input_halo = cuda_function(__file__, "conv2d_grad_input_halo", **DEFAULT)
sum_parts = cuda_function(__file__, "sum_parts", **DEFAULT)


def planned(x, weight, *, strides, padding, dilation, groups):
    """The plan of y, or None."""
    *taps, C, K = weight.shape
    if groups != 1 or not halo.serves(x.dtype, C, K, strides=strides):
        return None
    (y,) = conv2d.specs(x, weight, strides=strides, padding=padding, dilation=dilation, groups=1)
    return halo.halo_plan(y.shape[0], y.shape[1:3], taps, dilation, C, K)


def supports(x, weight, **window):
    """Float32, quads of channels and of filters, stride 1, cells that fit."""
    return planned(x, weight, **window) is not None


def pays(x, weight, **window):
    """Where `tensor` is expected to take longer."""
    (y,) = conv2d.specs(x, weight, **window)
    *taps, C, K = weight.shape
    return halo.pays(planned(x, weight, **window), prod(y.shape[:3]), taps, C, K)


def workspace(x, weight, **window):
    """The parts of y, if its channels are cut."""
    (y,) = conv2d.specs(x, weight, **window)
    return planned(x, weight, **window).product.workspace(prod(y.shape))


def planned_grad_input(dy, weight, *, size, strides, padding, dilation, groups):
    """The plan of dx, or None."""
    *taps, C, K = weight.shape
    if groups != 1 or not halo.serves(dy.dtype, K, C, strides=strides):
        return None
    return halo.halo_plan(dy.shape[0], size, taps, dilation, K, C)


def supports_grad_input(dy, weight, **window):
    """The same for dx."""
    return planned_grad_input(dy, weight, **window) is not None


def pays_grad_input(dy, weight, *, size, **window):
    """The same for dx."""
    *taps, C, K = weight.shape
    return halo.pays(planned_grad_input(dy, weight, size=size, **window), dy.shape[0] * prod(size), taps, K, C)


def workspace_grad_input(dy, weight, *, size, **window):
    """The parts of dx, if its filters are cut."""
    plan = planned_grad_input(dy, weight, size=size, **window).product
    return plan.workspace(dy.shape[0] * prod(size) * weight.shape[2])


def extents(x, weight, y, strides, padding, dilation):
    """The numbers that both kernels take, in their order."""
    R, S, _, _ = weight.shape
    return *x.shape, *y.shape[1:], R, S, *window_numbers(strides, padding, dilation)[2:]


@kernel(conv2d, "halo", "cuda", supports=supports, pays=pays, workspace=workspace, precisions=PRECISIONS)
def launch(y, x, weight, parts=None, *, strides, padding, dilation, groups):
    """y = patches of x · weight."""
    plan = planned(x, weight, strides=strides, padding=padding, dilation=dilation, groups=groups)
    variant = variant_of(plan.product)
    conv2d_halo.define(**variant)[plan.geometry()](
        y if parts is None else parts, x, weight, *extents(x, weight, y, strides, padding, dilation), *plan.numbers
    )
    join(sum_parts.define(**variant), plan.product, y, parts)


@kernel(
    conv2d_grad_input,
    "halo",
    "cuda",
    supports=supports_grad_input,
    pays=pays_grad_input,
    workspace=workspace_grad_input,
    precisions=PRECISIONS,
)
def launch_grad_input(dx, dy, weight, parts=None, *, size, strides, padding, dilation, groups):
    """dx = patches of dy · weight turned around."""
    plan = planned_grad_input(
        dy, weight, size=size, strides=strides, padding=padding, dilation=dilation, groups=groups
    )
    variant = variant_of(plan.product)
    conv2d_grad_input_halo.define(**variant)[plan.geometry()](
        dx if parts is None else parts, dy, weight, *extents(dx, weight, dy, strides, padding, dilation), *plan.numbers
    )
    join(sum_parts.define(**variant), plan.product, dx, parts)
