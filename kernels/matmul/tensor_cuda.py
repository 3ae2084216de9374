"""Matmul on tensor cores with the error of float32: three products in TF32 take the place of one.

After `warptiled`, where nearly every instruction is an FMA, only another unit can be faster. A
tensor core does 16 × 8 × 8 multiply-adds in one instruction, but on numbers of 11 significant bits.
Each float32 is therefore the sum of two such numbers, and a · b = big · big + big · small + small ·
big, with what is left out below the last bit. Tensor cores round sums toward zero; so they add up
only 16 terms at a time, and the sums over the whole of K are ordinary float32.
"""

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.dispatch.precision import PRECISIONS
from gpucnn.ops.matmul import matmul

from ..shared.gemm_launch import FLOAT32, Plan
from ..shared.tensor_launch import DEFAULT, has_tensor_cores, multiply, tensor_plan, worthwhile

matmul_tensor = cuda_function(__file__, "matmul_tensor", **DEFAULT, TRANSPOSE_A=0, TRANSPOSE_B=0)
sum_parts = cuda_function(__file__, "sum_parts", **DEFAULT, TRANSPOSE_A=0, TRANSPOSE_B=0)


def extents(a, b, *, transpose_a, transpose_b):
    """(M, N, K) of a call."""
    K, M = a.shape if transpose_a else a.shape[::-1]
    return M, b.shape[0 if transpose_b else 1], K


def supports(a, b, **_):
    """Float32, rows of quads, on a device with tensor cores."""
    return a.dtype == FLOAT32 and a.shape[1] % 4 == b.shape[1] % 4 == 0 and has_tensor_cores()


def pays(a, b, **transposes):
    """Large products."""
    return worthwhile(*extents(a, b, **transposes))


def planned(a, b, **transposes) -> Plan:
    """The tile and the parts for a call."""
    return tensor_plan(*extents(a, b, **transposes))


def workspace(a, b, **transposes):
    """The parts of y, if there are several."""
    M, N, _ = extents(a, b, **transposes)
    return planned(a, b, **transposes).workspace(M * N)


@kernel(matmul, "tensor", "cuda", supports=supports, pays=pays, workspace=workspace, precisions=PRECISIONS)
def launch(y, a, b, parts=None, *, transpose_a, transpose_b):
    """The product; where K is cut, into the parts, which are then added up."""
    M, N, K = extents(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    macros = {"TRANSPOSE_A": int(transpose_a), "TRANSPOSE_B": int(transpose_b)}
    multiply(matmul_tensor, sum_parts, tensor_plan(M, N, K), y, parts, a, b, M, N, K, **macros)
