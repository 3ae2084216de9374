"""How to launch the forward product of an implicit GEMM, pixels by filters, with or without an end
that finishes the sums."""

from __future__ import annotations

from math import prod

from gpucnn.ops.conv2d import conv2d

from . import convolution_products as products
from .gemm_launch import End, Plan, join, product_plan


def planned(weight, y, groups) -> Plan:
    """The plan: pixels by filters, over the taps of the group."""
    return product_plan(prod(y[:-1]), y[-1] // groups, prod(weight[:-1]), groups=groups)


def workspace(x, weight, *_, groups=1, **window):
    """The parts of y, if its sums are cut."""
    (y,) = conv2d.specs(x, weight, groups=groups, **window)
    return planned(weight.shape, y.shape, groups).workspace(prod(y.shape))


def forward(product, sum_parts, y, parts, x, weight, end: End | None = None, *, strides, padding, dilation, groups=1):
    """y = patches of x · weight, by kernels that finish the sums if there is an end."""
    plan = planned(weight.shape, y.shape, groups)
    shape = products.extents(x.shape, weight.shape[:-1], y.shape, strides, padding, dilation, groups)
    variant = plan.macros_with_more_registers() | products.padded(padding) | ({} if end is None else end.macros())
    result, ends = (y if parts is None else parts), (() if end is None else end.arguments(parts is None))
    product.define(**variant)[plan.grid(groups), plan.tile.THREADS](result, x, weight, *ends, *shape, plan.length)
    join(sum_parts.define(**variant), plan, y, parts, end)
