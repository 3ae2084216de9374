"""How to launch the forward product of a convolution on tensor cores, with or without an end that
finishes the sums, and which convolutions have one."""

from __future__ import annotations

from math import prod

from gpucnn.ops.conv2d import conv2d

from . import convolution_products as products
from .gemm_launch import FLOAT32, End, Plan
from .tensor_launch import has_tensor_cores, multiply, tensor_plan, worthwhile

GROUPS = 65535
"""The extent of a grid along z."""

MOST_TAPS = (15, 16)
"""Which taps of a window lie in the image is a bit mask."""


def serves(dtype, taps, channels, filters, groups):
    """Whether a convolution of these extents, of a group, can be computed on tensor cores."""
    fits = all(t <= most for t, most in zip(taps, MOST_TAPS, strict=True)) and groups <= GROUPS
    return dtype == FLOAT32 and fits and channels % 4 == filters % 4 == 0 and has_tensor_cores()


def supports(x, weight, *_, groups=1, **window):
    """Float32, quads of channels and of filters, on a device with tensor cores."""
    *taps, channels, K = weight.shape
    return serves(x.dtype, taps, channels, K // groups, groups)


def pays(x, weight, *_, groups=1, **window):
    """Large products."""
    (y,) = conv2d.specs(x, weight, groups=groups, **window)
    return worthwhile(*products.forward(y.shape, weight.shape, groups=groups), groups=groups)


def planned(y, weight, groups) -> Plan:
    """The plan of y."""
    return tensor_plan(*products.forward(y, weight, groups=groups), groups=groups)


def workspace(x, weight, *_, groups=1, **window):
    """The parts of y, if its sums are cut."""
    (y,) = conv2d.specs(x, weight, groups=groups, **window)
    return planned(y.shape, weight.shape, groups).workspace(prod(y.shape))


def forward(product, sum_parts, y, parts, x, weight, end: End | None = None, *, strides, padding, dilation, groups=1):
    """y = patches of x · weight, by kernels that finish the sums if there is an end."""
    shape = products.extents(x.shape, weight.shape[:-1], y.shape, strides, padding, dilation, groups)
    plan = planned(y.shape, weight.shape, groups)
    multiply(product, sum_parts, plan, y, parts, x, weight, *shape, end=end, groups=groups)
