"""Kernels with one fault each: `check.disagreement` must say what is wrong and where, and nothing about the sound ones.

A sound kernel holds marks `/*name: sound => faulty*/`; planting the fault `name` takes what follows the arrow.
"""

# ruff: noqa: E501 - tables with a case in each line

import re

import needs
import numpy as np
import pytest

import gpucnn
from gpucnn.devices import emulator
from gpucnn.dispatch.case import Case, Draw, real
from gpucnn.dispatch.check import disagreement

pytestmark = [needs.emulator_here, pytest.mark.usefixtures("loading_on_the_emulator")]

PLAIN = {"transpose_a": False, "transpose_b": False}


class WithNan(Draw):
    """Values of which some are NaN."""

    def sample(self, rng, exact=False):
        x = super().sample(rng, exact)
        x.flat[::7] = np.nan
        return x


RAGGED = Case("ragged", (real(13, 37), real(37, 11)), PLAIN)
TILES = Case("tiles", (real(32, 32), real(32, 32)), PLAIN)
LONG = Case("long", (real(2, 300), real(300, 3)), PLAIN)
GRADIENT = Case(
    "same",
    (real(3, 5, 4, 2), real(3, 5, 4, 3)),
    {"kernel_size": (3, 3), "strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1},
)
POOL = Case("nan", (WithNan((2, 6, 6, 3)),), {"pool": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))})

LAUNCH_MATMUL = """
from gpucnn import kernel
from gpucnn.devices.launch import ceil_div
from gpucnn.devices.cuda import cuda_function
from gpucnn.ops.matmul import matmul

planted = cuda_function(__file__, "planted")


@kernel(matmul, "planted", "cuda", supports=lambda a, b, transpose_a, transpose_b: not (transpose_a or transpose_b))
def launch(y, a, b, *, transpose_a, transpose_b):
    (M, K), N = a.shape, b.shape[1]
    planted[(ceil_div(N, 16), ceil_div(M, 16)), (16, 16)](y, a, b, M, N, K)
"""

TILED = """
#define TILE 16
extern "C" __global__ void planted(float* y, float* a, const float* b, int M, int N, int K)
{
    __shared__ float a_tile[TILE][TILE], b_tile[TILE][TILE];
    int n = blockIdx.x * TILE + threadIdx.x, m = blockIdx.y * TILE + threadIdx.y;
    /*barrier in divergent code: => if (m >= M || n >= N) return; */
    float total = 0.f;
    for (int k0 = 0; k0 < /*wrong on odd sizes: K => K / TILE * TILE */; k0 += TILE) {
        int k = k0 + threadIdx.x, l = k0 + threadIdx.y;
        a_tile[threadIdx.y][threadIdx.x] = m < M && k < K ? a[m * K + k] : 0.f;
        /*read out of bounds: b_tile[threadIdx.y][threadIdx.x] = l < K && n < N ? b[l * N + n] : 0.f;
                            => b_tile[threadIdx.y][threadIdx.x] = n < N ? b[l * N + n] : 0.f; */
        /*uninitialised shared memory: => if (l >= K) b_tile[threadIdx.y ^ 1][threadIdx.x] = 0.f; */
        /*first barrier missing: __syncthreads(); => */
        for (int i = 0; i < TILE; ++i) total = fmaf(a_tile[threadIdx.y][i], b_tile[i][threadIdx.x], total);
        /*second barrier missing: __syncthreads(); => */
    }
    int i = /*integer overflow: m * N + n => (signed char)(m * N + n) */;
    if (/*output forgotten: m < M && n < N => m < M && n < N && n != N - 1 */) y[i] = total;
    /*write out of bounds: => if (m == M && n < N) y[m * N + n] = 0.f; */
    /*writes its input: => if (m == 0 && n == 0) a[M * K - 1] = 0.f; */
}
"""

UNINITIALISED = """
extern "C" __global__ void planted(float* y, float* a, const float* b, int M, int N, int K)
{
    __shared__ float row[1024];
    for (int m = blockIdx.x; m < M; m += gridDim.x) {
        int t = threadIdx.x + 16 * threadIdx.y;
        for (int k = t; k < K /*uninitialised shared memory: => - 1 */; k += 256) row[k] = a[m * K + k];
        __syncthreads();
        for (int n = t; n < N; n += 256) {
            float total = 0.f;
            for (int k = 0; k < K; ++k) total = fmaf(row[k], b[k * N + n], total);
            if (blockIdx.y == 0) y[m * N + n] = total;
        }
        __syncthreads();
    }
}
"""

VECTORISED = """
extern "C" __global__ void planted(float* y, float* a, const float* b, int M, int N, int K)
{
    int n = blockIdx.x * 16 + threadIdx.x, m = blockIdx.y * 16 + threadIdx.y;
    if (m >= M || n >= N) return;
    float total = 0.f;
    int k = 0;
    for (; /*misaligned float4: K % 4 == 0 && => */ k + 4 <= K; k += 4) {
        float4 left = *(const float4*)&a[m * K + k];
        total += left.x * b[k * N + n] + left.y * b[(k + 1) * N + n];
        total += left.z * b[(k + 2) * N + n] + left.w * b[(k + 3) * N + n];
    }
    for (; k < K; ++k) total += a[m * K + k] * b[k * N + n];
    y[m * N + n] = total;
}
"""

RACING_SUM = """
extern "C" __global__ void planted(float* y, float* a, const float* b, int M, int N, int K)
{
    int n = blockIdx.x * 16 + threadIdx.x, m = blockIdx.y * 16 + threadIdx.y;
    if (m >= M || n >= N) return;
    float total = 0.f;
    for (int k = 0; k < K; ++k) total = fmaf(a[m * K + k], b[k * N + n], total);
    /*sum without atomics: y[m * N + n] = total;
                         => y[0] = total; */
}
"""

COPIED = """
__device__ void copy_async(float* to, const float* from)
{
    unsigned address = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(address), "l"(from) : "memory");
}
extern "C" __global__ void planted(float* y, const float* a, const float* b, int M, int N, int K)
{
    __shared__ float row[2][16][16];
    int n = blockIdx.x * 16 + threadIdx.x, m = blockIdx.y * 16 + threadIdx.y;
    float total = 0.f;
    for (int stage = 0; stage < 2; ++stage) {
        int k = stage * 16 + threadIdx.x;
        if (m < M && k < K) copy_async(&row[stage][threadIdx.y][threadIdx.x], &a[m * K + k]);
        asm volatile("cp.async.commit_group;" ::: "memory");
    }
    for (int k0 = 0, stage = 0; k0 < K; k0 += 16, ++stage) {
        if (k0 + 16 < K) /*cp.async wait missing: asm volatile("cp.async.wait_group 1;" ::: "memory"); => ; */
        /*cp.async wait too weak: else asm volatile("cp.async.wait_group 0;" ::: "memory");
                                => else asm volatile("cp.async.wait_group 1;" ::: "memory"); */
        __syncthreads();
        if (m < M && n < N)
            for (int i = 0; i < 16 && k0 + i < K; ++i)
                total = fmaf(row[stage & 1][threadIdx.y][i], b[(k0 + i) * N + n], total);
        __syncthreads();
    }
    if (m < M && n < N) y[m * N + n] = total;
}
"""

SPLIT_LAUNCH = """
from gpucnn import kernel
from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.case import Spec
from gpucnn.ops.matmul import matmul

SPLITS = 3
partial_sums = cuda_function(__file__, "partial_sums", SPLITS=SPLITS)
add_up = cuda_function(__file__, "add_up", SPLITS=SPLITS)


def workspace(a, b, transpose_a, transpose_b):
    return Spec((SPLITS, a.shape[0], b.shape[1]), a.dtype)


@kernel(matmul, "planted", "cuda", workspace=workspace)
def launch(y, a, b, partials, *, transpose_a, transpose_b):
    (M, K), N = a.shape, b.shape[1]
    partial_sums[(M, SPLITS), 32](partials, a, b, M, N, K)
    add_up[M, 32](y, partials, M, N)
"""

SPLIT = """
extern "C" __global__ void partial_sums(float* partials, const float* a, const float* b, int M, int N, int K)
{
    int m = blockIdx.x, split = blockIdx.y, each = (K + SPLITS - 1) / SPLITS;
    /*partial never written: => if (split == SPLITS - 1) return; */
    for (int n = threadIdx.x; n < N; n += blockDim.x) {
        float total = 0.f;
        for (int k = split * each; k < min(K, (split + 1) * each); ++k) total = fmaf(a[m * K + k], b[k * N + n], total);
        partials[(split * M + m) * N + n] = total;
    }
}
extern "C" __global__ void add_up(float* y, const float* partials, int M, int N)
{
    for (int n = threadIdx.x; n < N; n += blockDim.x) {
        float total = 0.f;
        for (int split = 0; split < SPLITS /*split-K partial dropped: => - 1 */; ++split)
            total += partials[(split * M + blockIdx.x) * N + n];
        y[blockIdx.x * N + n] = total;
    }
}
"""

GRADIENT_LAUNCH = """
from gpucnn import kernel
from gpucnn.devices.cuda import cuda_function
from gpucnn.ops.conv2d import conv2d_grad_weight

planted = cuda_function(__file__, "planted")


@kernel(conv2d_grad_weight, "planted", "cuda")
def launch(dweight, dy, x, *, kernel_size, strides, padding, dilation, groups):
    (N, P, Q, K), (_, H, W, C) = dy.shape, x.shape
    planted[dweight.size, 32](dweight, dy, x, N, H, W, C, K, P, Q, *kernel_size, padding[0][0], padding[1][0])
"""

GRADIENT_SOURCE = """
extern "C" __global__ void planted(float* dweight, const float* dy, const float* x, int N, int H, int W, int C, int K,
                                   int P, int Q, int R, int S, int top, int left)
{
    int i = blockIdx.x, k = i % K, c = i / K % C, s = i / K / C % S, r = i / K / C / S;
    if (threadIdx.x) return;
    float total = 0.f;
    for (int n = 0; n < N /*last image dropped: => - 1 */; ++n)
        for (int p = 0; p < P; ++p)
            for (int q = 0; q < Q; ++q) {
                int h = p + r - top, w = q + s - left;
                if (h < 0 || h >= H || w < 0 || w >= W) continue;
                /*edge pixel dropped: => if (n == 1 && p == P - 1 && q == Q - 1) continue; */
                total = fmaf(dy[((n * P + p) * Q + q) * K + k], x[((n * H + h) * W + w) * C + c], total);
            }
    dweight[i] = total;
}
"""

POOL_LAUNCH = """
from gpucnn import kernel
from gpucnn.devices.cuda import cuda_function
from gpucnn.ops.pool2d import maxpool2d

planted = cuda_function(__file__, "planted")


@kernel(maxpool2d, "planted", "cuda")
def launch(y, x, *, pool, strides, padding):
    (N, H, W, C), (_, P, Q, _) = x.shape, y.shape
    planted[N * P * Q, 32](y, x, H, W, C, P, Q)
"""

POOL_SOURCE = """
extern "C" __global__ void planted(float* y, const float* x, int H, int W, int C, int P, int Q)
{
    int q = blockIdx.x % Q, p = blockIdx.x / Q % P, n = blockIdx.x / Q / P, c = threadIdx.x;
    if (c >= C) return;
    float best = __int_as_float(0xff800000);
    for (int r = 0; r < 2; ++r)
        for (int s = 0; s < 2; ++s) {
            float value = x[((n * H + 2 * p + r) * W + 2 * q + s) * C + c];
            /*NaN dropped: best = value > best || isnan(value) ? value : best; => best = fmaxf(best, value); */
        }
    y[blockIdx.x * C + c] = best;
}
"""

NUMBA = """
import numba
from gpucnn import kernel
from gpucnn.devices.launch import ceil_div
from gpucnn.devices.numba_cuda import cuda, np, numba_function
from gpucnn.ops.matmul import matmul

TILE = 16


@numba_function
def planted(y, a, b, M, N, K):
    a_tile = cuda.shared.array((TILE, TILE), numba.float32)
    b_tile = cuda.shared.array((TILE, TILE), numba.float32)
    n, m = cuda.grid(2)
    column, row = cuda.threadIdx.x, cuda.threadIdx.y
    if False /*barrier in divergent code: => or m >= M or n >= N*/:
        return
    total = np.float32(0)
    for k0 in range(0, K, TILE):
        a_tile[row, column] = a[m, k0 + column] if m < M and k0 + column < K else np.float32(0)
        if n < N and k0 + row < K /*read out of bounds: => + 1*/:
            b_tile[row, column] = b[k0 + row, n]
        /*uninitialised shared memory: else:
            b_tile[row, column] = np.float32(0) => */
        /*first barrier missing: cuda.syncthreads() => */
        for i in range(TILE):
            total += a_tile[row, i] * b_tile[i, column]
        /*second barrier missing: cuda.syncthreads() => */
    if m < M and n < N /*write out of bounds: => or m == M and n < N*/:
        y[m, n] = total


@kernel(matmul, "planted", "numba")
def launch(y, a, b, *, transpose_a, transpose_b):
    (M, K), N = a.shape, b.shape[1]
    planted[(ceil_div(N, TILE), ceil_div(M, TILE)), (TILE, TILE)](y, a, b, M, N, K)
"""

MARK = re.compile(r"/\*([\w ,.-]+):(.*?)=>(.*?)\*/", re.DOTALL)

TILE = r"__shared__ \w_tile, 4-byte element \d+"
RACE = rf"data race on {TILE}: (reads|writes) what thread \(.*\) (read|wrote) at planted_\w+\.\w+:\d+, and no barrier"
UNWRITTEN = "which is uninitialised: nobody has written it"
FILLING = r"reads __shared__ row, 4-byte element \d+, which a cp\.async is still filling"

CUDA_FAULTS = [
    # (sources, fault, case, mode, what the report must say, and what the line that it names contains)
    ((LAUNCH_MATMUL, TILED), "read out of bounds", RAGGED, "check", r"reads 4 bytes outside of every array: element 4\d\d of b, which has 407 \(\d+ bytes behind the end, shape \(37, 11\)\)", "b[l * N + n]"),
    ((LAUNCH_MATMUL, TILED), "write out of bounds", RAGGED, "check", r"writes 4 bytes outside of every array: element 143 of y, which has 143 \(0 bytes behind the end, shape \(13, 11\)\)", "if (m == M"),
    ((LAUNCH_MATMUL, TILED), "write out of bounds", RAGGED, "fast", r"writes outside of output 0, 0 bytes behind its end", None),
    ((LAUNCH_MATMUL, TILED), "output forgotten", RAGGED, "fast", r"output 0\[0, 10\] is nan", None),
    ((LAUNCH_MATMUL, TILED), "first barrier missing", TILES, "check", rf"{RACE}|{TILE}, {UNWRITTEN}", "fmaf"),
    ((LAUNCH_MATMUL, TILED), "first barrier missing", TILES, "fast", r"output 0\[0, 0\] is nan", None),
    ((LAUNCH_MATMUL, TILED), "second barrier missing", TILES, "check", RACE, "_tile["),
    ((LAUNCH_MATMUL, TILED), "second barrier missing", TILES, "fast", r"output 0\[.*values are wrong", None),
    ((LAUNCH_MATMUL, TILED), "barrier in divergent code", RAGGED, "check", r"of 256 threads wait in __syncthreads, which thread .* has left out", "__syncthreads"),
    ((LAUNCH_MATMUL, TILED), "barrier in divergent code", RAGGED, "fast", r"of 256 threads wait in __syncthreads", "__syncthreads"),
    ((LAUNCH_MATMUL, TILED), "wrong on odd sizes", RAGGED, "fast", r"of 143 values are wrong", None),
    ((LAUNCH_MATMUL, TILED), "integer overflow", RAGGED, "check", r"writes 4 bytes outside of every array: element -\d+ of y, which has 143 \(\d+ bytes before the start", "y[i] = total"),
    ((LAUNCH_MATMUL, TILED), "writes its input", RAGGED, "fast", r"writes into its operand a", None),
    ((LAUNCH_MATMUL, UNINITIALISED), "uninitialised shared memory", LONG, "check", f"reads __shared__ row, 4-byte element 299, {UNWRITTEN}", "row[k], b["),
    ((LAUNCH_MATMUL, UNINITIALISED), "uninitialised shared memory", LONG, "fast", r"output 0\[0, 0\] is nan", None),
    ((LAUNCH_MATMUL, VECTORISED), "misaligned float4", RAGGED, "check", r"reads 16 bytes at once, misaligned: a\[\d+, \d+\] is not at a multiple of 16 bytes", "float4"),
    ((LAUNCH_MATMUL, RACING_SUM), "sum without atomics", RAGGED, "check", r"data race on y\[0, 0\]: writes what thread \(\d+, \d+, 0\) wrote at planted_cuda\.cu:\d+", "y[0] = total"),
    ((SPLIT_LAUNCH, SPLIT), "split-K partial dropped", LONG, "fast", r"integer-valued operands: output 0\[.*values are wrong", None),
    ((SPLIT_LAUNCH, SPLIT), "partial never written", LONG, "check", rf"add_up: .* reads partials\[2, 0, 0\], {UNWRITTEN}", "total += partials"),
    ((GRADIENT_LAUNCH, GRADIENT_SOURCE), "last image dropped", GRADIENT, "fast", r"integer-valued operands: output 0\[.*values are wrong", None),
    ((GRADIENT_LAUNCH, GRADIENT_SOURCE), "edge pixel dropped", GRADIENT, "fast", r"integer-valued operands: output 0\[.*values are wrong", None),
    ((POOL_LAUNCH, POOL_SOURCE), "NaN dropped", POOL, "fast", r"output 0\[0, 0, 0, 0\] is .*, expected nan", None),
    pytest.param((LAUNCH_MATMUL, COPIED), "cp.async wait missing", TILES, "check", FILLING, "fmaf", marks=needs.nvrtc_here),
    pytest.param((LAUNCH_MATMUL, COPIED), "cp.async wait missing", TILES, "fast", r"is nan", None, marks=needs.nvrtc_here),
    pytest.param((LAUNCH_MATMUL, COPIED), "cp.async wait too weak", TILES, "check", FILLING, "fmaf", marks=needs.nvrtc_here),
    pytest.param((LAUNCH_MATMUL, COPIED), "cp.async wait too weak", TILES, "fast", r"is nan", None, marks=needs.nvrtc_here),
]  # fmt: skip

NUMBA_FAULTS = [
    ("read out of bounds", r"reads 4 bytes outside of every array: element 4\d\d of b, which has 407 \(\d+ bytes behind", "b[k0 + row, n]"),
    ("write out of bounds", r"writes 4 bytes outside of every array: element 143 of y, which has 143 \(0 bytes behind", "y[m, n]"),
    ("first barrier missing", rf"{RACE}|{TILE}, {UNWRITTEN}", "a_tile[row, i] * b_tile"),
    ("second barrier missing", RACE, "_tile["),
    ("barrier in divergent code", r"of 256 threads wait in __syncthreads, which thread .* has left out", "syncthreads"),
    ("uninitialised shared memory", f"reads __shared__ b_tile, 4-byte element .*, {UNWRITTEN}", "a_tile[row, i] * b_tile"),
]  # fmt: skip


def planted(text, fault):
    """The text with one fault in it; with None it is sound."""
    assert fault is None or fault in {m[1] for m in MARK.finditer(text)}
    return MARK.sub(lambda m: (m[3] if m[1] == fault else m[2]).strip(), text).lstrip("\n")


def report_on(folder, files, case, mode):
    """The report of `disagreement` on the kernel of these files (name → text)."""
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    (kernel,) = gpucnn.load(folder / next(iter(files)))
    with emulator.running(mode=mode):
        return disagreement(kernel, case)


def assert_reports(report, message, line, text):
    """The report contains the message, and the line of the text that it names contains `line`."""
    assert report is not None
    assert re.search(message, report), report
    if line:
        number = int(re.findall(r"\(planted_\w+\.\w+:(\d+)\)$", report)[0])
        assert line in text.splitlines()[number - 1], report


@pytest.mark.parametrize(("sources", "fault", "case", "mode", "message", "line"), CUDA_FAULTS)
def test_a_fault_of_a_cuda_kernel_is_found(tmp_path, sources, fault, case, mode, message, line):
    launcher, text = sources
    sound, faulty = ({"planted_cuda.py": launcher, "planted_cuda.cu": planted(text, f)} for f in (None, fault))
    assert report_on(tmp_path / "sound", sound, case, mode) is None
    assert_reports(report_on(tmp_path / "faulty", faulty, case, mode), message, line, faulty["planted_cuda.cu"])


@needs.numba_cuda_here
@pytest.mark.parametrize(("fault", "message", "line"), NUMBA_FAULTS)
def test_a_fault_of_a_numba_kernel_is_found(tmp_path, fault, message, line):
    sound, faulty = ({"planted_numba.py": planted(NUMBA, f)} for f in (None, fault))
    assert report_on(tmp_path / "sound", sound, RAGGED, "check") is None
    assert_reports(report_on(tmp_path / "faulty", faulty, RAGGED, "check"), message, line, faulty["planted_numba.py"])
