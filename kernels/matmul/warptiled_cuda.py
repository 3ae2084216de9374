"""Warp-tiled matmul: each thread keeps 8 × 8 sums in registers, so that the main loop is FMAs and
little else.

After `tiled` the bottleneck is shared memory: two loads for each FMA. Here a thread loads 8 values
of a and 8 of b and makes 64 FMAs of them: 2 FLOPs for each byte of shared memory instead of 1/4,
and 32 for each byte of global memory with tiles of 128 × 128. Loads are 128 bits wide wherever rows
are aligned, and the next slab travels while this one is used. A narrow result gets narrow tiles. A
small result with long sums (the weight gradient of a dense layer) would leave most of the GPU idle:
its sums are cut into parts, which a second kernel adds up in order.
"""

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.matmul import matmul

from ..shared.gemm_launch import LARGE, Plan, join, product_plan

matmul_warptiled = cuda_function(__file__, "matmul_warptiled", **LARGE._asdict(), A_TRANSPOSED=0, B_TRANSPOSED=0)
sum_parts = cuda_function(__file__, "sum_parts", **LARGE._asdict(), A_TRANSPOSED=0, B_TRANSPOSED=0)


def planned(a, b, *, transpose_a, transpose_b) -> Plan:
    """The tile and the parts for a call."""
    K, M = a.shape if transpose_a else a.shape[::-1]
    return product_plan(M, b.shape[0 if transpose_b else 1], K)


def workspace(a, b, **transposes):
    """The parts of y, if there are several."""
    M, N = a.shape[1 if transposes["transpose_a"] else 0], b.shape[0 if transposes["transpose_b"] else 1]
    return planned(a, b, **transposes).workspace(M * N)


@kernel(matmul, "warptiled", "cuda", workspace=workspace)
def launch(y, a, b, parts=None, *, transpose_a, transpose_b):
    """The product; where K is cut, into the parts, which are then added up."""
    M, N = y.shape
    K = a.shape[0 if transpose_a else 1]
    plan = planned(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    variant = plan.tile._asdict()
    result = y if parts is None else parts
    macros = variant | {"A_TRANSPOSED": int(transpose_a), "B_TRANSPOSED": int(transpose_b)}
    matmul_warptiled.define(**macros)[plan.grid(), plan.tile.THREADS](result, a, b, M, N, K, plan.length)
    join(sum_parts.define(**variant), plan, y, parts)
