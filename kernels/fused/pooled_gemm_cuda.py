"""Implicit GEMM of a convolution whose results are pooled by 2 × 2, and its gradients: neither the
results before pooling nor their gradient is ever stored.

The products are those of `conv2d/implicit_gemm`; their windows are counted by fours, those of one
pooling window after another, and a thread that holds four results of a window in registers writes
their largest and the number of its cell. In the gradients the number picks the values of dy as they are
loaded. Apart, pooling and its gradient read and write the results before pooling six times.
"""

from __future__ import annotations

from math import gcd, prod

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import (
    conv2d_bias_activation_maxpool,
    conv2d_maxpool_grad_input,
    conv2d_maxpool_grad_weight,
)

from ..shared import convolution_products as products
from ..shared.gemm_launch import FLOAT32, LARGE, End, Plan, join, join_both, product_plan
from ..shared.pooled_launch import extents, fits_tensor_cores, windows

of_y, of_dx, of_dweight, sum_parts, sum_parts_of_both = (
    cuda_function(__file__, name, **LARGE._asdict(), **End(None, "relu", 0.0).macros())
    for name in (
        "conv2d_bias_activation_maxpool",
        "conv2d_maxpool_grad_input",
        "conv2d_maxpool_grad_weight",
        "sum_parts",
        "sum_parts_of_both",
    )
)


def planned(pooled, weight) -> Plan:
    """The plan of y, whose sums are not cut: they are compared in registers."""
    return product_plan(*products.forward(windows(pooled), weight, groups=1), most_parts=1)


def planned_grad_input(dy, weight, size, strides, dilation) -> Plan:
    """The plan of dx."""
    shape = products.grad_input(windows(dy), weight, size=size, strides=strides, dilation=dilation, groups=1)
    return product_plan(*shape, repeats=prod(products.remainders(size, strides)))


def planned_grad_weight(dy, x, kernel_size) -> Plan:
    """The plan of dweight."""
    return product_plan(*products.grad_weight(windows(dy), x, kernel_size=kernel_size, groups=1))


def supports(one, *_, **__):
    """Float32."""
    return one.dtype == FLOAT32


def pays(x, weight, b, *, function, alpha, **window):
    """Unless tensor cores compute the convolution faster."""
    return not fits_tensor_cores(x, weight, **window)


def pays_grad_input(dy, index, weight, *, size, **window):
    """The same: then dz is stored, and its products are those of `conv2d/tensor`."""
    return not fits_tensor_cores(dy.like(dy.shape[0], *size, weight.shape[2]), weight, **window)


def pays_grad_weight(dy, index, x, *, kernel_size, **window):
    """The same."""
    return not fits_tensor_cores(x, x.like(*kernel_size, x.shape[-1], dy.shape[-1]), **window)


def workspace_grad_input(dy, index, weight, *, size, strides, dilation, **_):
    """The parts of dx, if its sums are cut."""
    plan = planned_grad_input(dy.shape, weight.shape, size, strides, dilation)
    return plan.workspace(dy.shape[0] * prod(size) * weight.shape[2])


def workspace_grad_weight(dy, index, x, *, kernel_size, **_) -> tuple[Spec, ...]:
    """The parts of dweight and db, which nearly always are cut."""
    plan = planned_grad_weight(dy.shape, x.shape, kernel_size)
    return plan.workspace((prod(kernel_size) * x.shape[-1] + 1) * dy.shape[-1])


def executed_grad_input(dy, index, weight, *, size, strides, padding, dilation) -> tuple[float, float]:
    """FLOPs of dx, and of its longest block."""
    plan = planned_grad_input(dy.shape, weight.shape, size, strides, dilation)
    window = {"size": size, "strides": strides, "padding": padding, "dilation": dilation, "groups": 1}
    return products.executed_grad_input(plan, windows(dy.shape), weight.shape, **window)


@kernel(conv2d_bias_activation_maxpool, "pooled_gemm", "cuda", supports=supports, pays=pays)
def launch(y, index, x, weight, b, *, function, alpha, **window):
    """y, index = the largest of each window, finished, and its cell."""
    plan = planned(y.shape, weight.shape)
    end = End(b, function, alpha).macros()
    variant = plan.macros_with_more_registers() | products.padded(window["padding"]) | end
    of_y.define(**variant)[plan.grid(), plan.tile.THREADS](
        y, index, x, weight, b, alpha, *extents(x.shape, weight.shape[:2], y.shape, **window), plan.length
    )


@kernel(
    conv2d_maxpool_grad_input,
    "pooled_gemm",
    "cuda",
    supports=supports,
    pays=pays_grad_input,
    workspace=workspace_grad_input,
    executed=executed_grad_input,
)
def launch_grad_input(dx, dy, index, weight, parts=None, *, size, strides, padding, dilation):
    """dx = patches of dz · weight turned around, for each remainder of the cells by the strides."""
    plan = planned_grad_input(dy.shape, weight.shape, size, strides, dilation)
    shape = extents(dx.shape, weight.shape[:2], dy.shape, strides=strides, padding=padding, dilation=dilation)
    remainders = products.remainders(size, strides)
    divisors = map(gcd, strides, dilation)
    variant = plan.macros_with_most_registers()
    of_dx.define(**variant)[plan.grid(), plan.tile.THREADS](
        dx if parts is None else parts,
        dy,
        index,
        weight,
        *shape,
        *divisors,
        remainders[1],
        plan.tiles // prod(remainders),
    )
    join(sum_parts.define(**variant), plan, dx, parts)


@kernel(
    conv2d_maxpool_grad_weight,
    "pooled_gemm",
    "cuda",
    supports=supports,
    pays=pays_grad_weight,
    workspace=workspace_grad_weight,
)
def launch_grad_weight(dweight, db, dy, index, x, parts=None, *, kernel_size, **window):
    """dweight = transposed patches of x · dz, and db = the sums of its columns."""
    plan = planned_grad_weight(dy.shape, x.shape, kernel_size)
    variant, pitch = plan.macros_with_most_registers(), dweight.size + db.size
    variant |= products.padded(window["padding"])
    of_both = (dweight, db) if parts is None else (parts, parts.reshape(-1)[dweight.size :])
    of_dweight.define(**variant)[plan.grid(), plan.tile.THREADS](
        *of_both, dy, index, x, *extents(x.shape, kernel_size, dy.shape, **window), plan.length, pitch
    )
    if parts is not None:
        join_both(sum_parts_of_both.define(**variant), dweight, db, parts)
