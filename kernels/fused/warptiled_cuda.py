"""A dense layer by warp tiles with bias and ReLU at its end: the sums are finished in registers,
before they are written.

The product is that of `matmul/warptiled`. Apart, bias and ReLU are two more launches, which for the
small result of a dense layer cost more than the bytes they move. Where the sums are cut into parts,
the kernel that adds them up finishes them.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import dense_bias_relu

from ..shared.gemm_launch import LARGE, Plan, join, product_plan

dense_bias_relu_warptiled = cuda_function(__file__, "dense_bias_relu_warptiled", **LARGE._asdict())
sum_parts_bias_relu = cuda_function(__file__, "sum_parts_bias_relu", **LARGE._asdict())


def planned(x, weight) -> Plan:
    """The tile and the parts for a call."""
    (M, K), N = x.shape, weight.shape[1]
    return product_plan(M, N, K)


def workspace(x, weight, b):
    """The parts of y, if there are several."""
    return planned(x, weight).workspace(x.shape[0] * b.shape[0])


@kernel(dense_bias_relu, "warptiled", "cuda", workspace=workspace)
def launch(y, x, weight, b, parts=None):
    """y = max(x · weight + b, 0)."""
    (M, K), N, plan = x.shape, b.size, planned(x, weight)
    variant = plan.tile._asdict()
    result, end = (y, b) if parts is None else (parts, None)
    dense_bias_relu_warptiled.define(**variant)[plan.grid(), plan.tile.THREADS](
        result, x, weight, end, M, N, K, plan.length
    )
    join(sum_parts_bias_relu.define(**variant), plan, y, parts, b)
