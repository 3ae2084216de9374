"""Convolution at stride 1 on tensor cores, with each cell of the images in shared memory once.

`tensor` copies a cell to shared memory for each tap that meets it, R · S times, and every warp rounds what it reads.
With few filters the copies bind it: on an H100 tensor cores are busy for a quarter of the time. Here a block takes
whole rows of windows. The cells that they meet are brought to shared memory once for all taps, already rounded, and a
tap is an offset.

A block's rows of cells, of 16 channels, must fit into 48 KB: images up to some 128 cells wide.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.dispatch.precision import PRECISIONS
from gpucnn.ops.conv2d import conv2d, conv2d_grad_input

from ..shared import halo_launch as halo
from ..shared.tensor_launch import DEFAULT

conv2d_halo = cuda_function(__file__, "conv2d_halo", **DEFAULT)
conv2d_grad_input_halo = cuda_function(__file__, "conv2d_grad_input_halo", **DEFAULT)


def supports(x, weight, **window):
    """Float32, quads of channels and of filters, stride 1, cells that fit."""
    return halo.of_y(x, weight, **window) is not None


def pays(x, weight, **window):
    """Where `tensor` is expected to take longer."""
    return halo.pays(halo.of_y(x, weight, **window), *weight.shape[2:])


def planned_grad_input(dy, weight, *, size, strides, padding, dilation, groups):
    """The plan of dx, or None."""
    *taps, C, K = weight.shape
    if groups != 1 or not halo.serves(dy.dtype, K, C, strides=strides):
        return None
    return halo.halo_plan(dy.shape[0], size, taps, dilation, C)


def supports_grad_input(dy, weight, **window):
    """The same for dx."""
    return planned_grad_input(dy, weight, **window) is not None


def pays_grad_input(dy, weight, **window):
    """The same for dx."""
    *_, C, K = weight.shape
    return halo.pays(planned_grad_input(dy, weight, **window), K, C)


@kernel(conv2d, "halo", "cuda", supports=supports, pays=pays, precisions=PRECISIONS)
def launch(y, x, weight, *, padding, dilation, **window):
    """y = patches of x · weight."""
    plan = halo.of_y(x, weight, padding=padding, dilation=dilation, **window)
    extents = halo.numbers(plan, x, weight, y, padding, dilation)
    conv2d_halo.define(**plan.variant())[plan.geometry](y, x, weight, *extents)


@kernel(
    conv2d_grad_input,
    "halo",
    "cuda",
    supports=supports_grad_input,
    pays=pays_grad_input,
    precisions=PRECISIONS,
)
def launch_grad_input(dx, dy, weight, *, padding, dilation, **window):
    """dx = patches of dy · weight turned around."""
    plan = planned_grad_input(dy, weight, padding=padding, dilation=dilation, **window)
    extents = halo.numbers(plan, dx, weight, dy, padding, dilation)
    conv2d_grad_input_halo.define(**plan.variant())[plan.geometry](dx, dy, weight, *extents)
