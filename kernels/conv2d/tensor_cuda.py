"""Implicit GEMM on tensor cores with the error of float32: the tiles of `implicit_gemm`, multiplied
as in `matmul/tensor`.

`implicit_gemm` is bound by FMAs. Tensor cores do several times as many multiplications, of which
three take the place of one in float32. The values travel from the images to shared memory by
asynchronous copies of four channels, which take no registers and which the L1 cache serves: each
pixel is copied R · S times.

A filter has at most 15 × 16 taps: which of them lie in the image is a bit mask for each window.
"""

from __future__ import annotations

from math import gcd, prod

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.dispatch.precision import PRECISIONS
from gpucnn.ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight

from ..shared import convolution_products as products
from ..shared.tensor_convolution_launch import forward, pays, serves, supports, workspace
from ..shared.tensor_launch import DEFAULT, multiply, tensor_plan, worthwhile

conv2d_tensor = cuda_function(__file__, "conv2d_tensor", **DEFAULT)
conv2d_grad_input_tensor = cuda_function(__file__, "conv2d_grad_input_tensor", **DEFAULT)
conv2d_grad_weight_tensor = cuda_function(__file__, "conv2d_grad_weight_tensor", **DEFAULT)
sum_parts = cuda_function(__file__, "sum_parts", **DEFAULT)


def supports_grad_weight(dy, x, *, kernel_size, groups, **_):
    """Float32, quads of channels and of filters, on a device with tensor cores."""
    return serves(dy.dtype, kernel_size, x.shape[-1] // groups, dy.shape[-1] // groups, groups)


def extents_grad_input(dy, weight, *, size, strides, dilation, groups, **_):
    """(M, N, K) of dx, for one remainder, and how many there are."""
    product = products.grad_input(dy, weight, size=size, strides=strides, dilation=dilation, groups=groups)
    return product, prod(products.remainders(size, strides))


def pays_grad_input(dy, weight, *, groups, **window):
    """Large products."""
    (M, N, K), repeats = extents_grad_input(dy.shape, weight.shape, groups=groups, **window)
    return worthwhile(M * repeats, N, K, groups=groups)


def pays_grad_weight(dy, x, *, kernel_size, groups, **_):
    """The same."""
    return worthwhile(*products.grad_weight(dy.shape, x.shape, kernel_size=kernel_size, groups=groups), groups=groups)


def planned_grad_input(dy, weight, groups, **window):
    """The plan of dx."""
    product, repeats = extents_grad_input(dy, weight, groups=groups, **window)
    return tensor_plan(*product, groups=groups, repeats=repeats)


def planned_grad_weight(dy, x, kernel_size, groups):
    """The plan of dweight."""
    return tensor_plan(*products.grad_weight(dy, x, kernel_size=kernel_size, groups=groups), groups=groups)


def workspace_grad_input(dy, weight, *, size, groups, **window):
    """The parts of dx, if its sums are cut."""
    plan = planned_grad_input(dy.shape, weight.shape, groups, size=size, **window)
    return plan.workspace(dy.shape[0] * prod(size) * weight.shape[-2] * groups)


def workspace_grad_weight(dy, x, *, kernel_size, groups, **_):
    """The parts of dweight, which is nearly always cut."""
    plan = planned_grad_weight(dy.shape, x.shape, kernel_size, groups)
    return plan.workspace(prod(kernel_size) * x.shape[-1] // groups * dy.shape[-1])


@kernel(conv2d, "tensor", "cuda", supports=supports, pays=pays, workspace=workspace, precisions=PRECISIONS)
def launch(y, x, weight, parts=None, **window):
    """y = patches of x · weight."""
    forward(conv2d_tensor, sum_parts, y, parts, x, weight, **window)


@kernel(
    conv2d_grad_input,
    "tensor",
    "cuda",
    supports=supports,
    pays=pays_grad_input,
    workspace=workspace_grad_input,
    precisions=PRECISIONS,
)
def launch_grad_input(dx, dy, weight, parts=None, *, size, strides, padding, dilation, groups):
    """dx = patches of dy · weight turned around, for each remainder of the cells by the strides."""
    plan = planned_grad_input(dy.shape, weight.shape, groups, size=size, strides=strides, dilation=dilation)
    shape = products.extents(dx.shape, weight.shape[:-1], dy.shape, strides, padding, dilation, groups)
    remainders = products.remainders(size, strides)
    divisors = map(gcd, strides, dilation)
    tiles = plan.tiles // prod(remainders)
    extents = *shape, *divisors, remainders[1], tiles
    multiply(conv2d_grad_input_tensor, sum_parts, plan, dx, parts, dy, weight, *extents, groups=groups)


@kernel(
    conv2d_grad_weight,
    "tensor",
    "cuda",
    supports=supports_grad_weight,
    pays=pays_grad_weight,
    workspace=workspace_grad_weight,
    precisions=PRECISIONS,
)
def launch_grad_weight(dweight, dy, x, parts=None, *, kernel_size, strides, padding, dilation, groups):
    """dweight = transposed patches of x · dy."""
    plan = planned_grad_weight(dy.shape, x.shape, kernel_size, groups)
    shape = products.extents(x.shape, dweight.shape[:-1], dy.shape, strides, padding, dilation, groups)
    multiply(conv2d_grad_weight_tensor, sum_parts, plan, dweight, parts, dy, x, *shape, groups=groups)
