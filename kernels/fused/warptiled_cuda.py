"""A dense layer by warp tiles with bias, activation and dropout at its end: the sums are finished in
registers, before they are written.

The product is that of `matmul/warptiled`. Apart, bias, activation and dropout are three more launches, which for the
small result of a dense layer cost more than the bytes they move. Where the sums are cut into parts,
the kernel that adds them up finishes them.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import matmul_bias_activation, matmul_bias_activation_dropout

from ..shared.gemm_launch import LARGE, Drop, End, Plan, join, product_plan

matmul_bias_activation_warptiled = cuda_function(__file__, "matmul_bias_activation_warptiled", **LARGE._asdict())
sum_parts_bias_activation = cuda_function(__file__, "sum_parts_bias_activation", **LARGE._asdict())


def planned(x, weight) -> Plan:
    """The tile and the parts for a call."""
    (M, K), N = x.shape, weight.shape[1]
    return product_plan(M, N, K)


def supports(x, *_, keep_input, **__):
    """One result."""
    return not keep_input


def supports_dropped(x, weight, *_, **__):
    """Quads of units."""
    return weight.shape[1] % 4 == 0


def workspace(x, weight, b, *_, **__):
    """The parts of y, if there are several."""
    return planned(x, weight).workspace(x.shape[0] * b.shape[0])


@kernel(matmul_bias_activation, "warptiled", "cuda", supports=supports, workspace=workspace)
def launch(y, x, weight, b, parts=None, *, function, alpha, keep_input=False, drop=None):
    """y = f(x · weight + b)."""
    (M, K), N, plan = x.shape, b.size, planned(x, weight)
    end = End(b, function, alpha, drop)
    variant, result = plan.tile._asdict() | end.macros(), y if parts is None else parts
    matmul_bias_activation_warptiled.define(**variant)[plan.grid(), plan.tile.THREADS](
        result, x, weight, *end.arguments(parts is None), M, N, K, plan.length
    )
    join(sum_parts_bias_activation.define(**variant), plan, y, parts, end)


@kernel(matmul_bias_activation_dropout, "warptiled", "cuda", supports=supports_dropped, workspace=workspace)
def launch_dropped(y, x, weight, b, step, parts=None, *, rate, seed, stream, counter=0, **params):
    """The same, dropped."""
    launch(y, x, weight, b, parts, drop=Drop(step, rate, seed, stream, counter), **params)
