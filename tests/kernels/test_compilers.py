"""What the compilers report about every kernel: it compiles, spills nothing and computes nothing in
double precision, and each step of a ladder is better than the one before in the figure that it
claims."""

import os
import re
import time
from functools import cache

import needs
import pytest

from gpucnn import places
from gpucnn.devices import cards
from gpucnn.devices.cuda import cuda_function, entries
from gpucnn.devices.launchable import Geometry
from gpucnn.devices.nvrtc import compile_cuda
from gpucnn.dispatch import precision
from gpucnn.ops.conv2d import conv2d
from gpucnn.ops.matmul import matmul
from gpucnn.profiling import compilers, launches, prediction, static_analysis, trials
from gpucnn.runs import step

ALL = bool(os.environ.get("GPUCNN_TEST_ALL"))
ARCHITECTURES = compilers.ARCHITECTURES if ALL else ("sm_80", "sm_90")
KERNELS = [k for k in trials.every_kernel("", ("cuda", "numba")) if k.algorithm != "cublas"]
FILES = sorted({k.id for k in KERNELS})
SPILLS = {
    ("conv2d_grad_weight_direct", "sm_120"): 8,
    ("batchnorm_grad_join", "sm_120"): 16,
    ("conv2d_implicit_gemm", "sm_90"): 8,
}
"""By function and architecture, how many bytes may be stored and loaded for lack of registers: one
register and two of the number that their launch bounds leave, where other architectures need none.
conv2d_implicit_gemm has all 168 registers in use and spilled one on one machine, with none on others."""


def same_worker(ident):
    """Each worker would compile the file again."""
    return pytest.mark.xdist_group(ident)


pytestmark = needs.compilers_here
needs_disassembler = pytest.mark.skipif(compilers.disassembler() is None, reason="no nvdisasm here")


def compiled_for(ident, arch):
    """Whether a kernel of the file takes any case on this architecture."""
    kernels = [k for k in KERNELS if k.id == ident]
    return any(launches.serves(k, case, arch) for k in kernels for case in k.op.cases)


@cache
def variants(ident):
    """One launch of each compiled function of a kernel file, over all cases of its ops and in all of its
    precisions."""
    launch_of = {}
    served = [(k, c) for k in KERNELS if k.id == ident for c in k.op.cases if launches.serves(k, c)]
    for kernel, case in served:
        for exactness in kernel.precisions:
            with precision.scope(exactness):
                launched = launches.launches(kernel, case)
            for launch in launched:
                function = launch.function
                kind = getattr(function, "defines", None) or function.convert(launch.arguments)
                types = tuple((str(a.dtype), getattr(a, "ndim", 0)) for a in launch.arguments)
                key = (function.name, str(kind) if isinstance(kind, dict) else "", types)
                launch_of.setdefault(key, launch)
    return list(launch_of.values()) if ALL else apart(launch_of.values())


def apart(launched):
    """Of the launches, those that bring a tile or an activation that no earlier one has: each tile with every
    activation would take ptxas minutes."""
    chosen, seen = [], set()
    for launch in launched:
        defines = dict(getattr(launch.function, "defines", None) or {})
        activation = "activation", launch.function.name, defines.pop("FUNCTION", None)
        tile = "tile", launch.function.name, str(defines), str([str(a.dtype) for a in launch.arguments])
        if not {activation, tile} <= seen:
            chosen.append(launch)
        seen |= {activation, tile}
    return chosen


def double_precision(launch, arch):
    """The instructions with a double in the PTX of a launch's function."""
    text = compilers.ptx(launch, arch)
    return sorted(set(re.findall(r"^\s*(?:@!?%p\d+\s+)?([a-z][\w.]*\.f64[\w.]*)", text, re.MULTILINE)))


@pytest.mark.parametrize(
    ("ident", "arch"),
    [pytest.param(i, a, marks=same_worker(i)) for i in FILES for a in ARCHITECTURES if compiled_for(i, a)],
)
def test_kernel_file_compiles_without_spills_and_double_precision(ident, arch):
    launches = variants(ident)
    assert launches
    for launch in launches:
        used = compilers.resources(launch, arch)
        name = launch.function.name
        assert 0 < used.registers <= 255
        assert used.spill_stores + used.spill_loads <= SPILLS.get((name, arch), 0), f"{name} spills on {arch}"
        assert used.registers * -(-launch.threads // 32) * 32 <= 65536, f"a block of {name} has too many registers"
        assert used.shared_bytes <= 48 << 10
        assert compilers.occupancy(launch, used, arch) > 0, f"{name} cannot run on {arch}"
        assert not double_precision(launch, arch), f"{name} computes in double precision"
        if ALL and compilers.disassembler() is not None:
            assert not compilers.instructions(launch, arch).fp64, f"{name} computes in double precision"


def test_every_cuda_kernel_is_launched_by_some_case():
    """A kernel is compiled alone, as on a GPU: one that no case launches would never be."""
    files = list(places.folder_of_kernels().rglob("*.cu"))
    assert len(files) >= 50
    launched = {launch.function.name for i in FILES for launch in variants(i)}
    assert {name for file in files for name in entries(file)} <= launched


@pytest.mark.parametrize(("factor", "seen"), [("0.1", True), ("0.1f", False)])
def test_double_precision_is_seen(tmp_path, factor, seen):
    text = f'extern "C" __global__ void scaled(float* y) {{ y[threadIdx.x] *= {factor}; }}'
    (tmp_path / "scaled.cu").write_text(text)
    y = launches.LaunchRecorder().empty((32,))
    launch = launches.Launch(cuda_function(tmp_path / "scaled.cu", "scaled"), Geometry((1,), (32,)), (y,))
    doubles = double_precision(launch, "sm_90")
    assert any(name.startswith("mul") for name in doubles) == seen
    if compilers.disassembler() is not None:
        assert bool(compilers.instructions(launch, "sm_90").fp64) == seen


LARGE = 50e6
"""Floating-point operations from which on a kernel must have work for most of the 132 multiprocessors:
all, where sums are long enough to be cut for less than they cost to add up."""


def main_function(figures):
    """The function in which a kernel spends its arithmetic."""
    return max(figures, key=lambda f: f.ffma_share or 0.0)


def hot_shapes(op, *idents):
    """Each shape of the course models that all of these kernels take: its name, how many blocks the
    last of them must have at least for each multiprocessor, and their figures."""
    rungs = [next(k for k in KERNELS if k.id == ident and k.op.name == op) for ident in idents]
    cases = [c for c in rungs[0].op.cases if c.bench and all(launches.serves(k, c) for k in rungs)]
    assert len(cases) >= 12
    for arch in ("sm_80", "sm_90"):
        for case in cases:
            least = 0.7 if trials.work(rungs[0].op, case) >= LARGE else 0.0
            figures = [main_function(static_analysis.of_kernel(k, case, arch)) for k in rungs]
            assert not any(f.fp64 for f in figures), case.name
            yield f"{case.name} on {arch}", least, *figures


@needs_disassembler
@same_worker("matmul/warptiled_cuda")
def test_each_rung_of_matmul_loads_less_and_the_last_is_multiply_adds():
    ladder = "matmul/naive_cuda", "matmul/tiled_cuda", "matmul/warptiled_cuda"
    for shape, waves, naive, tiled, warptiled in hot_shapes("matmul", *ladder):
        assert naive.flops_per_global_byte < tiled.flops_per_global_byte < warptiled.flops_per_global_byte, shape
        assert naive.flops_per_shared_byte is None, shape
        assert tiled.flops_per_shared_byte < warptiled.flops_per_shared_byte, shape
        assert warptiled.ffma_share >= 0.70, shape
        assert min(warptiled.wide_loads) > 0, shape
        assert warptiled.waves > waves, shape


@needs_disassembler
def test_tiles_save_global_loads_in_numba_too():
    for shape, _, naive, tiled in hot_shapes("matmul", "matmul/naive_numba", "matmul/tiled_numba"):
        assert naive.flops_per_global_byte < tiled.flops_per_global_byte, shape


@needs_disassembler
@pytest.mark.parametrize(
    ("op", "algorithm", "before", "twin", "shapes"),
    [
        (matmul, "register_tiled", "tiled", "warptiled", ("cifar_dense_1", "mlearning_dense_1")),
        (conv2d, "implicit_gemm", "im2col", "implicit_gemm", ("cifar_2", "mlearning_2", "mlearning_4", "slides_2")),
    ],
    ids=("matmul", "conv2d"),
)
def test_registers_bring_numba_to_half_the_speed_of_its_twin(op, algorithm, before, twin, shapes):
    card, kernels = cards.find("h100"), op.kernels()
    for case in (case for case in op.cases if case.name in shapes):
        mine, previous, theirs = (
            prediction.total(prediction.of_step(launches.launches(kernels[name], case), card), card)
            for name in (f"{algorithm}_numba", f"{before}_numba", f"{twin}_cuda")
        )
        assert mine <= 2 * theirs and mine < previous / 3, case.name
        figures = main_function(static_analysis.of_kernel(kernels[f"{algorithm}_numba"], case, "sm_90"))
        assert figures.ffma_share > 0.4 and not figures.spill_bytes and not figures.fp64, case.name


@needs_disassembler
@same_worker("conv2d/implicit_gemm_cuda")
@pytest.mark.parametrize(
    ("op", "multiply_adds"), [("conv2d", 0.60), ("conv2d_grad_input", 0.58), ("conv2d_grad_weight", 0.53)]
)
def test_each_rung_of_convolution_moves_fewer_bytes(op, multiply_adds):
    ladder = "conv2d/direct_cuda", "conv2d/im2col_cuda", "conv2d/implicit_gemm_cuda"
    for shape, waves, direct, im2col, implicit in hot_shapes(op, *ladder):
        assert direct.flops_per_global_byte < min(im2col.flops_per_global_byte, implicit.flops_per_global_byte), shape
        assert direct.ffma_share < multiply_adds <= implicit.ffma_share, shape
        if op == "conv2d" and implicit.case == "mlearning_2":
            assert implicit.ffma_share >= 0.65
        assert min(implicit.wide_loads) > 0, shape
        assert implicit.waves > waves, shape
    kernels = {k.id: k for k in KERNELS if k.op.name == op}
    case = next(c for c in kernels[ladder[0]].op.cases if c.name == "mlearning_2")
    columns = kernels["conv2d/im2col_cuda"].workspace(*case.specs, **case.params)
    assert columns, "im2col writes its columns to memory; implicit GEMM does not"


OTHERS = {
    "matmul": 4.0,
    "matmul_bias_activation": 4.0,
    "conv2d": 4.5,
    "conv2d_bias_activation": 4.6,
    "conv2d_grad_input": 4.5,
    "conv2d_grad_weight": 4.5,
}


@needs_disassembler
@same_worker("conv2d/tensor_cuda")
@pytest.mark.parametrize(("op", "others"), OTHERS.items())
def test_tensor_cores_are_fed_by_few_other_instructions(op, others):
    """A tensor core is busy for 4 to 8 cycles with each HMMA, in which a scheduler issues as many
    instructions."""
    (kernel,) = [k for k in KERNELS if k.op.name == op and k.algorithm == "tensor"]
    cases = [c for c in kernel.op.cases if c.bench and kernel.is_worthwhile(c.specs, c.params)]
    assert len(cases) >= (2 if op == "matmul_bias_activation" else 4)
    for case in cases:
        figures = main_function(static_analysis.of_kernel(kernel, case, "sm_90"))
        assert 1 / figures.ffma_share - 1 <= others, case.name
        assert min(figures.wide_loads) > 0, case.name
        assert figures.waves > 0.35, case.name


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k.algorithm == "tensor"], ids=lambda k: k.op.name)
def test_tensor_cores_of_turing_do_not_multiply_tf32(kernel):
    assert static_analysis.largest_case(kernel, "sm_75") is None
    assert static_analysis.largest_case(kernel, "sm_80").bench


def test_figures_are_kept_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("GPUCNN_CACHE", str(tmp_path))
    kernel = trials.every_kernel("matmul/naive_cuda")[0].op.kernels()["naive_cuda"]
    case = static_analysis.largest_case(kernel)
    assert case.bench
    first = static_analysis.of_kernel(kernel, case, "sm_90")
    monkeypatch.setattr(static_analysis, "_measured", lambda *_: pytest.fail("compiled twice"))
    assert static_analysis.of_kernel(kernel, case, "sm_90") == first


@needs.takes_long
def test_a_first_step_of_slides_is_compiled_within_its_budget():
    """20 seconds, on one core: NVRTC compiles one module at a time in a process."""
    nodes = [node for node in step.nodes("slides", "sm_90") if isinstance(node, launches.Launch)]
    modules = {(node.function.source(), str(node.function.defines)): node.function for node in nodes}
    assert len(modules) <= 16
    begin = time.process_time()
    for function in modules.values():
        compile_cuda(function.source(), function.path.name, dict(function.defines), arch="sm_90")
    assert time.process_time() - begin <= 20
