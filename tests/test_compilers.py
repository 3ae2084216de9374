"""What the compilers make of every kernel: it compiles, spills nothing, computes nothing in double precision, and each
rung of a ladder is better than the one below in the figure that it claims."""

import os
from functools import cache

import pytest

from gpucnn import figures, recording, registry, resources, trials
from gpucnn.nvrtc import cuda_function

ALL = bool(os.environ.get("GPUCNN_TEST_ALL"))
ARCHITECTURES = resources.ARCHITECTURES if ALL else ("sm_80", "sm_90")
KERNELS = [k for k in trials.every_kernel("", ("cuda", "numba")) if k.algorithm != "cublas"]
FILES = sorted({k.id for k in KERNELS})
SPILLS = {}
"""By function and architecture, how many bytes may be spilled, and why."""


def same_worker(ident):
    """Files of one name are often one text (im2col_cuda.cu for one, two and three axes), to be compiled once."""
    return pytest.mark.xdist_group(ident.rpartition("/")[2])


pytestmark = pytest.mark.skipif(figures.unavailable() is not None, reason=str(figures.unavailable()))
needs_disassembler = pytest.mark.skipif(resources.disassembler() is None, reason="no nvdisasm here")


@cache
def variants(ident):
    """One launch of each compiled function of a kernel file, over all cases of its ops."""
    found = {}
    for kernel in KERNELS:
        if kernel.id == ident:
            for case in kernel.op.cases:
                if recording.serves(kernel, case):
                    for launch in recording.launches(kernel, case):
                        function = launch.function
                        kind = getattr(function, "defines", None) or function.convert(launch.arguments)
                        types = tuple((str(a.dtype), getattr(a, "ndim", 0)) for a in launch.arguments)
                        key = (function.name, str(kind) if isinstance(kind, dict) else "", types)
                        found.setdefault(key, launch)
    return list(found.values())


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("ident", [pytest.param(i, marks=same_worker(i)) for i in FILES])
def test_kernel_file_compiles_without_spills_and_double_precision(ident, arch):
    launches = variants(ident)
    assert launches
    for launch in launches:
        taken = resources.resources(launch, arch)
        name = launch.function.name
        assert 0 < taken.registers <= 255
        assert taken.spill_stores + taken.spill_loads <= SPILLS.get((name, arch), 0), f"{name} spills on {arch}"
        assert taken.registers * -(-launch.threads // 32) * 32 <= 65536, f"a block of {name} has too many registers"
        assert taken.shared_bytes <= 48 << 10
        assert resources.occupancy(launch, taken, arch) > 0, f"{name} cannot run on {arch}"
        assert not resources.double_precision(launch, arch), f"{name} computes in double precision"
        if ALL and resources.disassembler() is not None:
            assert not resources.instructions(launch, arch).fp64, f"{name} computes in double precision"


@pytest.mark.parametrize(("factor", "seen"), [("0.1", True), ("0.1f", False)])
def test_double_precision_is_seen(tmp_path, factor, seen):
    text = f'extern "C" __global__ void scaled(float* y) {{ y[threadIdx.x] *= {factor}; }}'
    (tmp_path / "scaled.cu").write_text(text)
    y = recording.Recorder().empty((32,))
    launch = recording.Launch(cuda_function(tmp_path / "scaled.cu", "scaled"), (1,), (32,), 0, (y,))
    found = resources.double_precision(launch, "sm_90")
    assert any(name.startswith("mul") for name in found) == seen
    if resources.disassembler() is not None:
        assert bool(resources.instructions(launch, "sm_90").fp64) == seen


def main_figures(ident, op, case_name, arch):
    (kernel,) = [k for k in KERNELS if k.id == ident and k.op.name == op]
    case = next(c for c in kernel.op.cases if c.name == case_name)
    return figures.main_of(figures.of_kernel(kernel, case, arch))


@needs_disassembler
@same_worker("matmul/warptiled_cuda")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_the_ladder_of_matmul_loads_less_with_each_rung(arch):
    case = "cifar_dense_1"
    naive, tiled, warptiled = (
        main_figures(f"matmul/{rung}_cuda", "matmul", case, arch) for rung in ("naive", "tiled", "warptiled")
    )
    assert naive.flops_per_global_byte < tiled.flops_per_global_byte < warptiled.flops_per_global_byte
    assert tiled.flops_per_shared_byte < warptiled.flops_per_shared_byte
    assert warptiled.ffma_share >= 0.70
    assert min(warptiled.wide_loads) > 0
    assert warptiled.blocks >= 64


@needs_disassembler
@same_worker("matmul/warptiled_cuda")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_the_main_loop_of_warptiled_is_multiply_adds_on_every_dense_layer_of_the_course(arch):
    (kernel,) = [k for k in KERNELS if k.id == "matmul/warptiled_cuda"]
    for case in kernel.op.cases:
        if case.bench:
            told = figures.main_of(figures.of_kernel(kernel, case, arch))
            assert told.ffma_share >= 0.70, case.name
            assert min(told.wide_loads) > 0


@needs_disassembler
@same_worker("conv2d/implicit_gemm_cuda")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_the_ladder_of_convolution_moves_fewer_bytes_with_each_rung(arch):
    direct, implicit = (
        main_figures(f"conv2d/{rung}_cuda", "conv2d", "mlearning_2", arch) for rung in ("direct", "implicit_gemm")
    )
    assert direct.flops_per_global_byte < implicit.flops_per_global_byte
    assert implicit.ffma_share >= 0.65
    assert implicit.ffma_share > direct.ffma_share
    (im2col,) = [k for k in KERNELS if k.id == "conv2d/im2col_cuda" and k.op.name == "conv2d"]
    case = next(c for c in im2col.op.cases if c.name == "mlearning_2")
    assert im2col.workspace(*case.specs, **case.params), "im2col writes its columns to memory; implicit GEMM does not"


@needs_disassembler
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_tiles_save_global_loads_in_numba_too(arch):
    naive, tiled = (
        main_figures(f"matmul/{rung}_numba", "matmul", "cifar_dense_1", arch) for rung in ("naive", "tiled")
    )
    assert naive.flops_per_global_byte < tiled.flops_per_global_byte


def test_figures_are_kept_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("GPUCNN_CACHE", str(tmp_path))
    kernel = registry.kernels(trials.every_kernel("matmul/naive_cuda")[0].op)["naive_cuda"]
    case = figures.hot_case(kernel)
    assert case.bench
    first = figures.of_kernel(kernel, case, "sm_90")
    monkeypatch.setattr(figures, "_measured", lambda *_: pytest.fail("compiled twice"))
    assert figures.of_kernel(kernel, case, "sm_90") == first
