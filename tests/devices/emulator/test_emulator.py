"""The emulator: CUDA C++ is right in every order of threads, and faults have a place."""

# ruff: noqa: E501 - tables with a case in each line

import time

import needs
import numpy as np
import pytest

from gpucnn.devices import choose, emulator, storage
from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.emulator import LaunchError
from gpucnn.errors import ArgumentError, KernelError

pytestmark = [needs.emulator_here, pytest.mark.usefixtures("on_the_emulator")]
ORDERS = (0, 1, 7, 8)
HEADER = """__device__ float beyond(const float* x, int n)
{
    return x[n];
}
"""
SOURCE = r"""
#include "beyond.cuh"
#define FULL 0xffffffffu
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)

extern "C" __global__ void sum(float* out, const float* x, int n)
{
    extern __shared__ float warps[];
    float v = 0.f;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) v += __ldg(x + i);
    for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(FULL, v, o);
    if ((threadIdx.x & 31) == 0) warps[threadIdx.x >> 5] = v;
    __syncthreads();
    if (threadIdx.x < 32) {
        v = threadIdx.x < (blockDim.x >> 5) ? warps[threadIdx.x] : 0.f;
        for (int o = 16; o; o >>= 1) v += __shfl_down_sync(FULL, v, o);
        if (threadIdx.x == 0) atomicAdd(out, v);
    }
}
template <int PAD> __device__ void turn(float* out, const float* x, int n, bool wait)
{
    __shared__ float tile[32][32 + PAD];
    int column = blockIdx.x * 32 + threadIdx.x, row = blockIdx.y * 32 + threadIdx.y;
    for (int j = 0; j < 32; j += 8) tile[threadIdx.y + j][threadIdx.x] = x[(row + j) * n + column];
    if (wait) __syncthreads();
    column = blockIdx.y * 32 + threadIdx.x, row = blockIdx.x * 32 + threadIdx.y;
    for (int j = 0; j < 32; j += 8) out[(row + j) * n + column] = tile[threadIdx.x][threadIdx.y + j];
}
extern "C" __global__ void transpose(float* out, const float* x, int n, bool wait) { turn<1>(out, x, n, wait); }
extern "C" __global__ void transpose_naive(float* out, const float* x, int n)
{
    __shared__ float tile[32][32];
    int column = blockIdx.x * 32 + threadIdx.x, row = blockIdx.y * 32 + threadIdx.y;
    for (int j = 0; j < 32; j += 8) tile[threadIdx.y + j][threadIdx.x] = x[(row + j) * n + column];
    __syncthreads();
    column = blockIdx.y * 32 + threadIdx.x, row = blockIdx.x * 32 + threadIdx.y;
    for (int j = 0; j < 32; j += 8) out[column * n + row + j] = tile[threadIdx.x][threadIdx.y + j];
}
extern "C" __global__ void doubled(float* out, const float* x, int shift)
{
    float4 v = *reinterpret_cast<const float4*>(x + shift + 4 * threadIdx.x);
    reinterpret_cast<float4*>(out)[threadIdx.x] = make_float4(2 * v.x, 2 * v.y, 2 * v.z, 2 * v.w);
}
extern "C" __global__ void words(unsigned* out, const int* x)
{
    int v = x[threadIdx.x];
    unsigned positive = __ballot_sync(FULL, v > 0), same = __match_any_sync(FULL, v & 3);
    int all = __reduce_add_sync(FULL, v), most = __reduce_max_sync(FULL, v);
    unsigned* mine = out + 8 * threadIdx.x;
    mine[0] = positive, mine[1] = same, mine[2] = all, mine[3] = most;
    mine[4] = __any_sync(FULL, v == 15) + 2 * __all_sync(FULL, v < 16);
    mine[5] = __umulhi(v, 0x80000000u) + __popc(v) + __clz(v) + __ffs(v);
    mine[6] = __brev(v), mine[7] = __byte_perm(v, 0x01020304, 0x4210);
}
extern "C" __global__ void numbers(float* out, const float* x)
{
    float v = x[threadIdx.x];
    float* mine = out + 12 * threadIdx.x;
    mine[0] = fminf(v, NAN), mine[1] = fmaxf(NAN, v), mine[2] = min(3, 4u), mine[3] = max(v, 1.f);
    mine[4] = rsqrtf(v), mine[5] = erff(v), mine[6] = log1pf(v), mine[7] = expm1f(v);
    mine[8] = __fadd_rn(__fmul_rn(v, v), -v * v), mine[9] = isnan(v) + 2 * isinf(INFINITY);
    mine[10] = __float2int_rn(v) + 0.5f * __float2int_rz(1e30f), mine[11] = v * 1e-38f * 1e-3f;
}
extern "C" __global__ void neighbours(float* y, const float* x, bool wait)
{
    __shared__ float line[32];
    line[threadIdx.x] = x[threadIdx.x];
    if (wait) __syncwarp();
    y[threadIdx.x] = line[31 - threadIdx.x];
}
extern "C" __global__ void write_after_read(float* y, bool wait)
{
    __shared__ float one;
    if (threadIdx.x == 0) one = 3.f;
    __syncthreads();
    float v = one;
    if (wait) __syncwarp();
    if (threadIdx.x == 0) one = 4.f;
    y[threadIdx.x] = v;
}
extern "C" __global__ void bytes(unsigned char* y)
{
    __shared__ unsigned char line[64];
    line[threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = line[63 - threadIdx.x];
}
extern "C" __global__ void shifted(float* x, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    float v = x[(i + 1) % n];
    __syncthreads();
    x[i] = v;
}
extern "C" __global__ void added(float* out, bool atomic)
{
    if (atomic) atomicAdd(out, 1.f);
    else *out += 1.f;
}
extern "C" __global__ void mixed(float* out)
{
    if (threadIdx.x == 40) *out = 1.f;
    else atomicAdd(out, 1.f);
}
extern "C" __global__ void partly(float* y)
{
    __shared__ float s[64];
    if (threadIdx.x < 63) s[threadIdx.x] = 1.f;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void two_barriers(float* y)
{
    if (threadIdx.x < 16) {
        y[threadIdx.x] = 2;
        __syncthreads();
    } else {
        __syncthreads();
    }
    y[threadIdx.x] = 1;
}
extern "C" __global__ void early(float* y)
{
    if (threadIdx.x >= 16) return;
    __syncthreads();
    y[threadIdx.x] = 1;
}
extern "C" __global__ void lanes(float* y, int how)
{
    float v = threadIdx.x;
    if (how == 0 && threadIdx.x < 8) v = __shfl_sync(0xf0u, v, 0);
    if (how == 1 && threadIdx.x < 8) v = __shfl_sync(FULL, v, 0);
    if (how == 1 && threadIdx.x >= 8) __syncthreads();
    if (how == 2) v = threadIdx.x < 16 ? __shfl_sync(0xffffu, v, 3) : __shfl_sync(0xffff0000u, v, 20);
    y[threadIdx.x] = v;
}
extern "C" __global__ void declared(float* y, int k)
{
    __shared__ float s[8][9];
    s[threadIdx.x][k] = 1.f;
    y[threadIdx.x] = s[threadIdx.x][k];
}
extern "C" __global__ void headed(float* y, const float* x, int n) { y[0] = beyond(x, n); }
extern "C" __global__ void far(float* y, int i) { y[(long long)i * 100000000] = 1.f; }
extern "C" __global__ void divided(int* y, int d) { y[0] = 7 / d; }
extern "C" __global__ void asserted(float* y, int n)
{
    assert(n > 3);
    y[0] = n;
}
extern "C" __global__ void filled(float* y, int n)
{
    if (threadIdx.x < n) y[threadIdx.x] = 1.f;
}
extern "C" __global__ void copied(float* y, const float* x) { y[threadIdx.x] = x[threadIdx.x]; }
extern "C" __global__ void large(float* y)
{
    __shared__ float s[13000];
    s[threadIdx.x] = 1.f;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x ^ 1];
}
"""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """A function that gives a kernel of SOURCE by its name."""
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "beyond.cuh").write_text(HEADER)
    (folder / "kernels.cu").write_text(SOURCE)
    return lambda name: cuda_function(folder / "kernels.cu", name)


def floats(*values):
    return storage.put(np.array(values, np.float32))


def line_of(text):
    """The number of the line of SOURCE that holds the text."""
    return next(i for i, line in enumerate(SOURCE.splitlines(), 1) if text in line)


@pytest.mark.parametrize("mode", ["fast", "check"])
@pytest.mark.parametrize("seed", ORDERS)
def test_sound_kernels_are_right_in_every_order(kernels, rng, mode, seed):
    with emulator.running(mode=mode, seed=seed):
        x = rng.standard_normal(5000).astype(np.float32)
        total = storage.zeros((1,))
        kernels("sum")[4, 256, 32](total, storage.put(x), 5000)
        assert abs(total.get()[0] - x.sum()) < 1e-2

        square, turned = rng.standard_normal((64, 64)).astype(np.float32), storage.empty((64, 64))
        kernels("transpose")[(2, 2), (32, 8)](turned, storage.put(square), 64, True)
        assert (turned.get() == square.T).all()

        x, y = rng.standard_normal(32).astype(np.float32), storage.empty((32,))
        kernels("neighbours")[1, 32](y, storage.put(x), True)
        assert (y.get() == x[::-1]).all()

        y = storage.empty((32,))
        kernels("doubled")[1, 8](y, storage.put(x), 0)
        assert (y.get() == 2 * x).all()

        y = storage.empty((64,), np.uint8)
        kernels("bytes")[1, 64](y)
        assert (y.get() == np.arange(64)[::-1]).all()

        total = storage.zeros((1,))
        kernels("added")[3, 64](total, True)
        assert total.get()[0] == 192

        kernels("write_after_read")[1, 32](storage.empty((32,)), True)
        kernels("shifted")[1, 64](storage.zeros((64,)), 64)
        kernels("lanes")[1, 32](y := storage.empty((32,)), 2)
        assert (y.get() == np.repeat([3.0, 20.0], 16)).all()


@pytest.mark.parametrize("mode", ["fast", "check"])
def test_intrinsics_compute_what_the_manual_says(kernels, mode):
    with emulator.running(mode=mode):
        v = np.arange(-16, 16, dtype=np.int32)
        out = storage.empty((32, 8), np.uint32)
        kernels("words")[1, 32](out, storage.put(v))
        got = out.get()
        assert (got[:, 0] == 0xFFFE0000).all()
        assert (got[:, 1] == [sum(1 << j for j in range(32) if v[j] & 3 == a & 3) for a in v]).all()
        assert (got[:, 2].view(np.int32) == v.sum()).all() and (got[:, 3] == 15).all() and (got[:, 4] == 3).all()
        u = [int(a) & 0xFFFFFFFF for a in v]
        first = [(a & -a).bit_length() for a in u]
        assert got[:, 5].tolist() == [(a >> 1) + a.bit_count() + 32 - a.bit_length() + f for a, f in zip(u, first)]
        assert got[:, 6].tolist() == [int(f"{a:032b}"[::-1], 2) for a in u]
        assert got[:, 7].tolist() == [(a & 0xFFFFFF) | 0x04000000 for a in u]

        x = np.array([0.5, 2.0, 0.125, 3.7], np.float32)
        out = storage.empty((4, 12))
        kernels("numbers")[1, 4](out, storage.put(x))
        got = out.get()
        assert (got[:, 0] == x).all() and (got[:, 1] == x).all() and (got[:, 2] == 3).all()
        assert (got[:, 3] == np.maximum(x, 1)).all()
        np.testing.assert_allclose(got[:, 4], 1 / np.sqrt(x), rtol=1e-6)
        np.testing.assert_allclose(got[:, 6:8], np.stack([np.log1p(x), np.expm1(x)], 1), rtol=1e-6)
        assert got[1, 8] == 0 and (got[:, 9] == 2).all()
        assert (got[:, 10] == np.float32(2**30) + np.rint(x)).all()
        assert (got[:, 11] == 0).all(), "denormals are flushed, as with -ftz=true"


RACES = [
    ("added", 2, 32, lambda: (storage.zeros((1,)), False), r"data race on out\[0\]: .* wrote at kernels\.cu:\d+, and no barrier lies between"),
    ("mixed", 1, 64, lambda: (storage.zeros((1,)),), r"data race on out\[0\]"),
    ("transpose", (1, 1), (32, 8), lambda: (storage.empty((32, 32)), storage.zeros((32, 32)), 32, False), r"__shared__ tile, 4-byte element \d+"),
    ("neighbours", 1, 32, lambda: (storage.empty((32,)), storage.zeros((32,)), False), r"__shared__ line"),
    ("write_after_read", 1, 32, lambda: (storage.empty((32,)), False), r"data race on __shared__ one.*(writes what .* read|reads what .* wrote)"),
    ("write_after_read", 1, 64, lambda: (storage.empty((64,)), True), r"data race on __shared__ one"),
    ("shifted", 2, 32, lambda: (storage.zeros((64,)), 64), r"data race on x\[\d+\]: .* of block \(\d, 0, 0\) (read|wrote) at kernels\.cu:\d+, and blocks of one launch are not ordered"),
]  # fmt: skip


@pytest.mark.parametrize("seed", ORDERS)
@pytest.mark.parametrize(("name", "grid", "block", "arguments", "message"), RACES)
def test_races_are_seen_whatever_the_order(kernels, seed, name, grid, block, arguments, message):
    with (
        emulator.running(mode="check", seed=seed),
        pytest.raises(LaunchError, match=rf"^{name}: block .*, thread .*{message}"),
    ):
        kernels(name)[grid, block](*arguments())


def test_a_missing_barrier_shows_in_fast_mode(kernels, rng):
    x = storage.put(rng.standard_normal((32, 32)).astype(np.float32))
    for seed in ORDERS:
        y = storage.empty((32, 32))
        with emulator.running(seed=seed):
            kernels("transpose")[(1, 1), (32, 8)](y, x, 32, False)
        assert not (y.get() == x.get().T).all()


@pytest.mark.parametrize("mode", ["fast", "check"])
@pytest.mark.parametrize(
    ("name", "arguments", "message", "line"),
    [
        ("two_barriers", (), "the barriers diverge; every thread must reach the same one", None),
        ("early", (), r"15 more of 32 threads wait in __syncthreads, which thread \(16, 0, 0\) has left out: it has returned", "if (threadIdx.x >= 16) return;"),
        ("lanes", (0,), "mask 0x000000f0 does not name the calling lane", "how == 0"),
        ("lanes", (1,), r"waits in a barrier while thread \(0, 0, 0\) waits in a warp operation at kernels.cu:\d+, for lanes that never come: a deadlock", "how == 1 && threadIdx.x >= 8"),
        ("asserted", (2,), "fails the assertion n > 3", "assert(n"),
    ],
)  # fmt: skip
def test_deadlocks_and_assertions_are_reported_in_both_modes(kernels, mode, name, arguments, message, line):
    with emulator.running(mode=mode), pytest.raises(LaunchError, match=message) as caught:
        kernels(name)[1, 32](storage.zeros((32,)), *arguments)
    if line:
        number = line_of(line) + (name == "early")
        assert str(caught.value).endswith(f"(kernels.cu:{number})")


def test_places_in_headers_and_declared_bounds(kernels):
    with emulator.running(mode="check"):
        with pytest.raises(LaunchError) as caught:
            kernels("headed")[1, 1](storage.empty((1,)), floats(1, 2, 3), 5)
        assert str(caught.value) == (
            "headed: block (0, 0, 0), thread (0, 0, 0) reads 4 bytes outside of every array: element 5 of x, which has 3 "
            "(8 bytes behind the end, shape (3,)) (beyond.cuh:3)"
        )
        with pytest.raises(LaunchError, match="uses index 9, which is out of bounds of the array's declaration"):
            kernels("declared")[1, 8](storage.empty((8,)), 9)
        with pytest.raises(LaunchError, match=r"reads 16 bytes at once, misaligned: x\[1\] is not at a multiple of 16"):
            kernels("doubled")[1, 1](storage.empty((4,)), storage.zeros((8,)), 1)
        with pytest.raises(LaunchError, match=r"writes .* at address 0x0: was None passed for an array"):
            kernels("filled")[1, 1](None, 1)
        with pytest.raises(LaunchError, match="near none: did an index overflow"):
            kernels("far")[1, 1](storage.empty((1,)), 20)


def test_what_the_processor_refuses_ends_the_launch_and_not_python(kernels):
    with pytest.raises(LaunchError, match=r"accesses address 0x0, where there is no memory.*\(kernels\.cu:\d+\)"):
        kernels("filled")[1, 1](None, 1)
    with pytest.raises(LaunchError, match=r"divides an integer by zero \(kernels\.cu:\d+\)"):
        kernels("divided")[1, 1](storage.empty((1,), np.int32), 0)
    kernels("filled")[1, 4](y := storage.empty((4,)), 4)
    assert (y.get() == 1).all()


def test_what_was_written_is_remembered_from_launch_to_launch(kernels):
    with emulator.running(mode="check"):
        x, y = storage.empty((8,)), storage.empty((8,))
        kernels("filled")[1, 8](x, 5)
        with pytest.raises(LaunchError, match=r"reads x\[5\], which is uninitialised: nobody has written it"):
            kernels("copied")[1, 8](y, x)
        kernels("filled")[1, 8](x, 8)
        kernels("copied")[1, 8](y, x)
        assert (y.get() == 1).all()
        kernels("copied")[1, 3](storage.empty((3,)), y[2:5])
        choose.current().mark_uninitialised(x)
        with pytest.raises(LaunchError, match="uninitialised"):
            kernels("copied")[1, 8](y, x)
        with pytest.raises(LaunchError, match=r"reads __shared__ s, 4-byte element 63, which is uninitialised"):
            kernels("partly")[1, 64](storage.empty((64,)))


@pytest.mark.parametrize(
    ("grid", "block", "shared", "message"),
    [
        (2**31, 32, 0, "a grid of"),
        ((1, 65536), 32, 0, "y and z 1 … 65535"),
        (0, 32, 0, "impossible"),
        (1, 1025, 0, "at most 1024 threads"),
        (1, (1, 1, 65), 0, "64 along z"),
        (1, 32, 240_000, "240000 bytes of shared memory are too many: at most 232448"),
    ],
)
def test_the_limits_of_a_gpu_are_enforced(kernels, grid, block, shared, message):
    with pytest.raises(LaunchError, match=message):
        kernels("filled")[grid, block, shared](storage.empty((1,)), 1)


def test_static_shared_memory_has_its_own_limit(kernels):
    with pytest.raises(LaunchError, match="52000 bytes of static shared memory are too many: at most 49152"):
        kernels("large")[1, 32](storage.empty((32,)))


@needs.nvrtc_here
def test_traffic_of_padded_and_naive_transposes(kernels):
    x = storage.zeros((64, 64))
    with emulator.running(mode="check", count=True) as running:
        kernels("transpose")[(2, 2), (32, 8)](storage.empty((64, 64)), x, 64, True)
        kernels("transpose_naive")[(2, 2), (32, 8)](storage.empty((64, 64)), x, 64)
    (_, padded), (_, naive) = running.launches
    assert (padded.sectors, padded.ideal_sectors, padded.shared_wavefronts) == (1024, 1024, 256)
    assert (naive.sectors, naive.ideal_sectors, naive.shared_wavefronts) == (4608, 1024, 4224)
    assert (padded.loads, padded.stores, padded.barriers) == (8192, 8192, 4)
    reads = naive.lines[f"kernels.cu:{line_of('out[column * n + row + j]')}"]
    assert (reads.requests, reads.sectors, reads.shared_wavefronts) == (256, 4096, 4096)


def test_settings_are_checked_and_restored():
    before = emulator.settings()
    with pytest.raises(ArgumentError, match="mode='slow' is unknown: use fast or check"), emulator.running(mode="slow"):
        pass
    with pytest.raises(ArgumentError, match="no setting order"), emulator.running(order=1):
        pass
    with pytest.raises(ArgumentError, match="count=True needs mode='check'"), emulator.running(count=True):
        pass
    with emulator.running(mode="check"), emulator.running(seed=3) as inner:
        assert (inner.mode, inner.seed) == ("check", 3)
    assert emulator.settings() == before


def test_the_host_cannot_touch_arrays_by_accident():
    x = floats(1, 2)
    for access in (np.asarray, float, bool, list, lambda a: a[0], lambda a: np.add(a, a)):
        with pytest.raises((ArgumentError, TypeError)):
            access(x)


def test_a_launch_costs_little(kernels):
    filled, y = kernels("filled"), storage.empty((1,))
    filled[1, 1](y, 1)
    best = min(_seconds(lambda: filled[1, 1](y, 1)) for _ in range(200))
    assert best < 500e-6


def _seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def test_a_text_that_does_not_compile_is_reported(tmp_path):
    (tmp_path / "wrong.cu").write_text('extern "C" __global__ void wrong(float* y)\n{\n    y[0] = nothing;\n}\n')
    with pytest.raises(KernelError, match=r"wrong cannot be compiled here: .*wrong\.cu:3: .*nothing"):
        cuda_function(tmp_path / "wrong.cu", "wrong")[1, 1](storage.empty((1,)))
