"""The hot kernels waste no memory traffic: coalescing and bank conflicts."""

import needs
import pytest

from gpucnn.profiling import traffic, trials

pytestmark = [needs.emulator_here, needs.compilers_here]

HOT = {
    "matmul/tiled_cuda": (1.0, 1.0),
    "matmul/warptiled_cuda": (1.0, 1.15),
    "matmul/tensor_cuda": (1.0, 1.0),
    "matmul/tiled_numba": (1.0, 1.1),
    "matmul/register_tiled_numba": (1.0, 1.0),
    "conv2d/implicit_gemm_numba": (1.0, 1.0),
    "conv2d/implicit_gemm_cuda": (1.0, 1.2),
    "conv2d/tensor_cuda": (1.02, 1.08),
    "fused/tensor_cuda": (1.0, 1.0),
    "conv2d/im2col_cuda": (1.0, 1.2),
    "conv2d/im2col_numba": (1.0, 1.1),
    "fused/implicit_gemm_cuda": (1.0, 1.2),
    "fused/warptiled_cuda": (1.0, 1.15),
    "bias_activation/rows_cuda": (1.0, 1.0),
    "pool2d/direct_cuda": (1.15, 1.0),
    "batchnorm/two_pass_cuda": (1.0, 2.0),
    "activation/elementwise_cuda": (1.0, 1.0),
    "loss/rows_cuda": (1.0, 1.0),
    "dropout/philox_cuda": (1.0, 1.0),
    "update/fused_cuda": (1.0, 1.0),
    "update/two_stage_cuda": (1.001, 1.0),
}
"""By kernel file, how many times the least number of sectors, and of passes through shared memory,
is allowed."""


def kernels(ident):
    return [k for k in trials.every_kernel(ident, ("cuda", "numba")) if k.id == ident]


@pytest.mark.parametrize("ident", [pytest.param(i, marks=pytest.mark.xdist_group(i)) for i in HOT])
def test_a_hot_kernel_wastes_no_traffic(ident):
    sectors, passes = HOT[ident]
    for kernel in kernels(ident):
        counts = traffic.of_kernel(kernel, traffic.small_case(kernel))
        assert counts.ideal_sectors > 0
        assert counts.excess <= sectors + 1e-9, kernel.op.name
        assert counts.conflicts <= passes + 1e-9, kernel.op.name


def test_each_rung_of_matmul_reads_less():
    sectors = []
    for rung in ("naive", "tiled", "warptiled"):
        (kernel,) = kernels(f"matmul/{rung}_cuda")
        case = next(c for c in kernel.op.cases if c.name == "tiles")
        sectors.append(traffic.of_kernel(kernel, case).sectors)
    assert sectors[0] > 10 * sectors[1] > 10 * sectors[2] * 1.2  # tiles of 32 × 64, as y has few


def test_the_counter_sees_columns_read_across():
    (kernel,) = kernels("matmul/naive_cuda")
    case = next(c for c in kernel.op.cases if c.name == "tiles_grad_input")
    assert traffic.of_kernel(kernel, case).excess > 4
