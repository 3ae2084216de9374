"""Inline PTX in the emulator, compiled by NVRTC: matrix instructions, asynchronous copies."""

# ruff: noqa: E501 - tables with a case in each line

import needs
import numpy as np
import pytest

from gpucnn.devices import emulator, storage
from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.emulator import LaunchError
from gpucnn.devices.nvrtc import compile_cuda
from gpucnn.errors import KernelError

pytestmark = [needs.emulator_here, pytest.mark.usefixtures("on_the_emulator")]

ORDERS = (0, 1, 7, 8)

MATRICES = r"""
extern "C" __global__ void product(float* d, const unsigned* a, const unsigned* b)
{
    int lane = threadIdx.x;
    float c[4] = {};
#if KIND == 0
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
#elif KIND == 1
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
#endif
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[lane * 4]), "r"(a[lane * 4 + 1]), "r"(a[lane * 4 + 2]), "r"(a[lane * 4 + 3]),
                   "r"(b[lane * 2]), "r"(b[lane * 2 + 1]));
    for (int i = 0; i < 4; ++i) d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = c[i];
}
extern "C" __global__ void fragments(unsigned* out, const unsigned* in, bool turned)
{
    __shared__ __align__(16) unsigned rows[32][4];
    for (int i = 0; i < 4; ++i) rows[threadIdx.x][i] = in[4 * threadIdx.x + i];
    __syncthreads();
    unsigned address = (unsigned)__cvta_generic_to_shared(rows[threadIdx.x]), r0, r1, r2, r3;
    if (turned)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r0), "=r"(r1), "=r"(r2), "=r"(r3) : "r"(address));
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r0), "=r"(r1), "=r"(r2), "=r"(r3) : "r"(address));
    unsigned* mine = out + 4 * threadIdx.x;
    mine[0] = r0, mine[1] = r1, mine[2] = r2, mine[3] = r3;
}
extern "C" __global__ void copied(float* y, const float* x, int bytes, int wait)
{
    __shared__ float4 line[64];
    unsigned to = (unsigned)__cvta_generic_to_shared(&line[threadIdx.x]);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(x + 4 * threadIdx.x), "r"(bytes));
    asm volatile("cp.async.commit_group;");
    if (wait == 1) asm volatile("cp.async.wait_group 1;");
    if (wait == 2) asm volatile("cp.async.wait_group 0;");
    if (wait == 3) asm volatile("cp.async.wait_all;");
    if (wait != 4) __syncthreads();
    reinterpret_cast<float4*>(y)[threadIdx.x] = line[63 - threadIdx.x];
}
extern "C" __global__ void quads(float* y, const float* x)
{
    float4 v = reinterpret_cast<const float4*>(x)[threadIdx.x];
    y[4 * threadIdx.x] = v.x + v.y + v.z + v.w;
    asm volatile("");
}
"""


@pytest.fixture(scope="module")
def matrices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("matrices")
    (folder / "matrices.cu").write_text(MATRICES)
    return lambda name, kind=0: cuda_function(folder / "matrices.cu", name, KIND=kind)


def fragments(a, b, per):
    """Registers of each lane for A (16, K) and B (K, 8), as the PTX manual draws them; `per`
    elements in a register."""
    lanes_a, lanes_b = [], []
    for lane in range(32):
        group, first = lane // 4, lane % 4 * per
        for r in range(4):
            k = first + r // 2 * 4 * per
            lanes_a.append(a[group + r % 2 * 8, k : k + per])
        for r in range(2):
            k = first + r * 4 * per
            lanes_b.append(b[k : k + per, group])
    return (np.ascontiguousarray(np.stack(x)).view(np.uint32).reshape(-1) for x in (lanes_a, lanes_b))


def to_bf16(x):
    return (x.view(np.uint32) >> 16).astype(np.uint16)


@needs.nvrtc_here
@pytest.mark.parametrize("mode", ["fast", "check"])
@pytest.mark.parametrize("kind", [0, 1, 2])
def test_matrix_instructions_against_numpy(matrices, rng, mode, kind):
    K = 8 if kind == 0 else 16
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((16, K), (K, 8)))
    mask = np.uint32(0xFFFFE000 if kind == 0 else 0xFFFF0000)
    if kind == 1:
        left, right = a.astype(np.float16), b.astype(np.float16)
        exact = left.astype(np.float64) @ right.astype(np.float64)
    else:
        cut = [(x.view(np.uint32) & mask).view(np.float32).astype(np.float64) for x in (a, b)]
        exact = cut[0] @ cut[1]
        left, right = (a, b) if kind == 0 else (to_bf16(a), to_bf16(b))
    d = storage.empty((16, 8))
    operands = (storage.put(x) for x in fragments(left, right, 1 if kind == 0 else 2))
    with emulator.running(mode=mode):
        matrices("product", kind)[1, 32](d, *operands)
    np.testing.assert_allclose(d.get(), exact, rtol=1e-6, atol=1e-6)


@needs.nvrtc_here
@pytest.mark.parametrize("mode", ["fast", "check"])
def test_ldmatrix_hands_out_rows(matrices, mode):
    stored = np.arange(256, dtype=np.uint16).reshape(4, 8, 8)
    for turned in (False, True):
        out = storage.empty((32, 4), np.uint32)
        with emulator.running(mode=mode):
            matrices("fragments")[1, 32](out, storage.put(stored.view(np.uint32).reshape(-1)), turned)
        expected = (stored.transpose(0, 2, 1) if turned else stored).copy().view(np.uint32).reshape(4, 32).T
        assert (out.get() == expected).all()


@needs.nvrtc_here
@pytest.mark.parametrize("seed", ORDERS)
def test_asynchronous_copies_arrive_when_they_are_waited_for(matrices, rng, seed):
    x = rng.standard_normal((64, 4)).astype(np.float32)
    for mode in ("fast", "check"):
        with emulator.running(mode=mode, seed=seed):
            for wait in (2, 3):
                y = storage.empty((64, 4))
                matrices("copied")[1, 64](y, storage.put(x), 16, wait)
                assert (y.get() == x[::-1]).all()
            matrices("copied")[1, 64](y, storage.put(x), 8, 3)
            assert (y.get() == np.where([1, 1, 0, 0], x[::-1], 0)).all(), "what is not copied is zero"
    for wait in (0, 1):
        y = storage.empty((64, 4))
        with emulator.running(seed=seed):
            matrices("copied")[1, 64](y, storage.put(x), 16, wait)
        assert np.isnan(y.get()).all()
        with (
            emulator.running(mode="check", seed=seed),
            pytest.raises(
                LaunchError, match=r"reads __shared__ line, .*a cp\.async is still filling.*\(matrices\.cu:\d+\)"
            ),
        ):
            matrices("copied")[1, 64](storage.empty((64, 4)), storage.put(x), 16, wait)


@needs.nvrtc_here
def test_vector_loads_are_one_request(matrices):
    with emulator.running(mode="check", count=True) as running:
        matrices("quads")[1, 32](storage.empty((128,)), storage.zeros((32, 4)))
    statistics = running.launches[0][1]
    assert (statistics.loads, statistics.stores) == (32, 32)
    assert statistics.sectors == 16 + 16 and statistics.ideal_sectors == 16 + 4


@needs.nvrtc_here
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_120"])
def test_nvrtc_compiles_for_every_architecture(arch):
    output = compile_cuda(MATRICES, "matrices.cu", {"KIND": 0}, arch=arch)
    assert output.cubin.startswith(b"\x7fELF")
    assert "registers" in output.log
    with pytest.raises(KernelError, match=r"matrices\.cu\(1\): error: identifier"):
        compile_cuda("int f() { return x; }", "matrices.cu", {}, arch=arch)
