"""One fault in the headers of the kernels on tensor cores: the check must find it, and say where if the
emulator watches memory."""

# ruff: noqa: E501 - tables with a case in each line

import re

import needs
import numpy as np
import pytest

import gpucnn
from gpucnn import places
from gpucnn.devices import emulator, storage
from gpucnn.dispatch import choice, precision
from gpucnn.dispatch.check import disagreement
from gpucnn.ops.matmul import matmul

pytestmark = [needs.emulator_here, needs.nvrtc_here, pytest.mark.usefixtures("loading_on_the_emulator")]

LAUNCH = """
from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.kernels.shared.tensor_launch import DEFAULT, TILES, multiply, plan_of
from gpucnn.ops.matmul import matmul

planted = cuda_function(__file__, "matmul_tensor", **DEFAULT)


@kernel(matmul, "planted", "cuda", precisions=("PRECISION",))
def launch(y, a, b, *, transpose_a, transpose_b):
    (M, K), N = a.shape, b.shape[1]
    plan = plan_of(TILES["float32"][0], M, N, K, groups=1, repeats=1, rate=1.0)._replace(parts=1, length=-(-K // 16) * 16)
    multiply(planted, planted, plan, y, None, a, b, M, N, K, TRANSPOSE_A=0, TRANSPOSE_B=0)
"""

FILLING = r"reads __shared__ [ab]_slabs, .*which a cp\.async is still filling"
RACE = r"data race on __shared__ [ab]_slabs|reads __shared__ [ab]_slabs, .*uninitialised: nobody has written it"
WRONG = "values are wrong"
WAIT = 'asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");'
COMMIT = 'asm volatile("cp.async.commit_group;");'

FAULTS = [
    # (header, what it has, what it gets, precision, mode, what the report must say)
    ("tensor.cuh", WAIT, "", "tf32", "check", FILLING),
    ("tensor.cuh", WAIT, "", "tf32", "fast", "is nan"),
    ("tensor.cuh", "(STAGES - 2)", "(STAGES - 1)", "bfloat16", "check", FILLING),
    ("tensor.cuh", "(STAGES - 2)", "(STAGES - 1)", "bfloat16", "fast", "is nan"),
    ("tensor.cuh", f"{COMMIT}\n    }}\n    int warp", "}\n    int warp", "float32", "check", FILLING),
    ("tensor.cuh", "__syncthreads();  // the current slab", "// the current slab", "tf32", "check", RACE),
    ("slabs.cuh", "(i % 2 ? odd : even)", "(i % 2 ? even : odd)", "tf32", "fast", WRONG),
    ("slabs.cuh", "slab + even + i * TILE + further", "slab + even + (3 - i) * TILE + further", "bfloat16", "fast", WRONG),
    ("factors.cuh", '"r"(a[i].first), "r"(a[i + 1].first)', '"r"(a[i + 1].first), "r"(a[i].first)', "bfloat16", "fast", WRONG),
    ("factors.cuh", "big[i] = half_up(k[i]);", "big[i] = __float_as_uint(k[i]);", "tf32", "fast", rf"real tf32 operands.*{WRONG}"),
    ("factors.cuh", "multiply_add<&Factors::big, &Factors::small>(a, b, at);", "", "float32", "fast", rf"real operands.*{WRONG}"),
]  # fmt: skip


def kernel_with(folder, kind, header=None, sound="", faulty=""):
    """The kernel, with a fault in one of its headers."""
    folder.mkdir()
    kernels = places.folder_of_kernels()
    (folder / "planted_cuda.py").write_text(LAUNCH.replace("PRECISION", kind))
    (folder / "planted_cuda.cu").write_text((kernels / "matmul" / "tensor_cuda.cu").read_text())
    for name in ("tensor.cuh", "slabs.cuh", "factors.cuh"):
        text = (kernels / "include" / name).read_text()
        if name == header:
            assert text.count(sound) == 1, "the fault is planted once"
            text = text.replace(sound, faulty)
        (folder / name).write_text(text)
    (kernel,) = gpucnn.load(folder / "planted_cuda.py")
    return kernel


matmul.kernels(("cuda",))  # imported before the fixture, which forgets what is imported later
CASE = next(case for case in matmul.cases if case.name == "quads_beyond_tiles")


@pytest.mark.parametrize("kind", precision.PRECISIONS)
def test_the_sound_kernel_is_right(tmp_path, kind):
    with emulator.running(mode="check"):
        assert disagreement(kernel_with(tmp_path / "sound", kind), CASE) is None


@pytest.mark.parametrize(("header", "sound", "faulty", "kind", "mode", "message"), FAULTS)
def test_a_fault_is_found(tmp_path, header, sound, faulty, kind, mode, message):
    with emulator.running(mode=mode):
        report = disagreement(kernel_with(tmp_path / "faulty", kind, header, sound, faulty), CASE)
    assert report is not None
    assert re.search(message, report, re.DOTALL), report


SWIZZLES = [("(row ^ (row / 8 % 2)) * TILE_K", "row * TILE_K"), ("k * TILE + shift(k) + row", "k * TILE + row")]


def excess(kernel):
    """How often more lanes of a warp meet in a bank of shared memory than must."""
    case = next(case for case in matmul.cases if case.name == "tiles")
    with emulator.running(mode="check", count=True) as running:
        assert disagreement(kernel, case) is None
    counts = [statistics for _, statistics in running.launches]
    return sum(c.shared_wavefronts for c in counts) / sum(c.ideal_shared_wavefronts for c in counts)


@pytest.mark.parametrize(("sound", "faulty"), SWIZZLES)
def test_a_wrong_swizzle_is_right_and_slow(tmp_path, sound, faulty):
    assert excess(kernel_with(tmp_path / "sound", "bfloat16")) == 1
    assert excess(kernel_with(tmp_path / "faulty", "bfloat16", "slabs.cuh", sound, faulty)) > 1.2


@pytest.mark.parametrize("kind", precision.PRECISIONS)
@pytest.mark.parametrize("bits", [0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000, 0x7F800001])
def test_no_nan_is_lost(tmp_path, kind, bits):
    """0x7fffffff is the NaN that a GPU computes; rounded as an integer it would become -0."""
    a, b = np.ones((8, 16), np.float32), np.ones((16, 8), np.float32)
    a.view(np.uint32)[3, 5] = bits
    with choice.computing(kind):
        y = matmul(storage.put(a), storage.put(b), transpose_a=False, transpose_b=False, algorithm="tensor").get()
    assert np.isnan(y[3]).all() and (np.delete(y, 3, axis=0) == 16).all()
