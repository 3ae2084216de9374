"""The mutator makes each kind of change; a broken kernel is caught, a correct one is not."""

from dataclasses import replace

import needs
import pytest

from mutation.judging import run
from mutation.mutants import mutants
from mutation.operators import KINDS
from mutation.sources import Sources
from mutation.uncaught import EQUIVALENT, SURVIVORS

CPP = """
// A comment: 1 + 1 < 2
#define SIZE 4 + 4
constexpr int TABLE[] = {1, 2};
__device__ inline float ramp(float a, int n) { return fmaf(a, a, 0.5f) + (float)max(n, 1); }
extern "C" __global__ void toy(float* y, const float* __restrict__ x, int n)
{
    __shared__ float tile[4];
    int i = threadIdx.x;
    if (i >= n && !(i == 0)) return;
    tile[i] = x[i];
    __syncthreads();  // all of it
    float total = i < n ? ramp(x[i], n) : 0.f, more;
    total += tile[3 - i];
    y[i] = total;
}
"""

PYTHON = '''
"""A docstring: 1 + 1."""

SIZE = 4 + 4


@numba_device
def ramp(a, n):
    """Letters of several bytes do not shift the places, 1 + 1."""
    δ = n + 1
    n = δ - 1
    return cuda.fma(a, a, np.float32(0.5)) + max(n, 1)


@numba_function
def toy(y, x, n):
    tile = cuda.shared.array(4, np.float32)
    i = cuda.threadIdx.x
    if i >= n and not i == 0:
        return
    tile[i] = x[i]  # 1 + 1
    cuda.syncthreads()
    total = ramp(x[i], n) if i < n else np.float32(0)
    total += tile[3 - i]
    y[i] = (total  # + 2
            + 1)


@kernel(op, "toy", "numba")
def launch(y, x):
    toy[1 + 1, 4](y, x, 1 < 2)
'''


@pytest.mark.parametrize(("file", "text"), [("toy/toy_cuda.cu", CPP), ("toy/toy_numba.py", PYTHON)])
def test_there_are_mutants_of_each_kind_in_functions_alone(file, text):
    found = mutants(file, text)
    assert {m.kind for m in found} == set(KINDS)
    assert {m.function for m in found} == {"ramp", "toy"}
    assert len({(m.begin, m.end, m.after) for m in found}) == len(found)
    for m in found:
        assert text[m.begin : m.end] == m.before != m.after
        assert m.code != m.changed
        lines = text.splitlines()[m.line - 1 : m.line + m.before.count("\n")]
        assert m.code == " ".join(" ".join(lines).split())


@pytest.mark.parametrize(
    ("file", "text", "changed"),
    [
        ("toy/toy_cuda.cu", CPP, "if (i >= n && !(i == 0)) ;"),
        ("toy/toy_cuda.cu", CPP, "if (!(i >= n && !(i == 0))) return;"),
        ("toy/toy_cuda.cu", CPP, "; // all of it"),
        ("toy/toy_cuda.cu", CPP, "total += tile[2 - i];"),
        ("toy/toy_cuda.cu", CPP, "y[i] += total;"),
        ("toy/toy_numba.py", PYTHON, "y[i] += (total # + 2"),
        ("toy/toy_numba.py", PYTHON, "if not (i >= n and not i == 0):"),
        ("toy/toy_numba.py", PYTHON, "tile[i] += x[i] # 1 + 1"),
        ("toy/toy_numba.py", PYTHON, "δ = n + 2"),
        ("toy/toy_numba.py", PYTHON, "return ((a) * (a)) + max(n, 1)"),
    ],
)
def test_a_change_is_made_in_its_place(file, text, changed):
    changes = [" ".join(m.changed.split()) for m in mutants(file, text)]
    assert changed in changes


def test_every_python_mutant_is_python():
    for m in mutants("toy/toy_numba.py", PYTHON):
        compile(PYTHON[: m.begin] + m.after + PYTHON[m.end :], m.file, "exec")


def test_a_header_is_tried_with_the_kernels_that_include_it():
    sources = Sources.read()
    assert {"matmul/warptiled_cuda.py", "conv2d/im2col_cuda.py"} <= set(sources.users("include/gemm.cuh"))
    assert "matmul/tiled_numba.py" in sources.users("shared/tiles_numba.py")
    assert sources.users("bias/rows_cuda.cu") == ["bias/rows_cuda.py"]
    assert {"multiply_slab", "multiply", "matmul_warptiled"} <= sources.entries(
        "matmul/warptiled_cuda.py", "multiply_slab"
    )
    assert "maxpool2d_direct" not in sources.entries("pool2d/direct_numba.py", "avgpool2d_direct")


def test_the_tables_name_mutants_that_exist():
    texts = Sources.read().texts
    for file in {file for file, _, _ in EQUIVALENT | SURVIVORS}:
        changes = {(m.file, m.function, m.changed) for m in mutants(file, texts[file])}
        assert changes >= {key for key in EQUIVALENT | SURVIVORS if key[0] == file}


CPP_LOOP = """
extern "C" __global__ void toy(float* y, const float* x, int size, float scale, float offset)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    float value = x[i];
    for (int k = 0; k < 1; ++k) value = fmaf(value, scale, offset);
    y[i] = value;
}
"""

CPP_LAUNCHER = """
from gpucnn import kernel
from gpucnn.devices.cuda import cuda_function
from gpucnn.ops.rescaling import rescale

toy = cuda_function(__file__, "toy")

@kernel(rescale, "toy", "cuda")
def launch(y, x, *, scale, offset):
    toy[x.size // 64 + 1, 64](y, x, x.size, scale, offset)
"""

PYTHON_WHOLE = """
from gpucnn import kernel
from gpucnn.devices.numba_cuda import cuda, numba_function
from gpucnn.ops.rescaling import rescale

@numba_function
def toy(y, x, scale, offset):
    i = cuda.grid(1)
    if i >= x.size:
        return
    y[i] = cuda.fma(x[i], scale, offset)

@kernel(rescale, "toy", "numba")
def launch(y, x, *, scale, offset):
    toy[x.size // 64 + 1, 64](y.reshape(-1), x.reshape(-1), scale, offset)
"""

TOYS = Sources({"toy/toy_cuda.cu": CPP_LOOP, "toy/toy_cuda.py": CPP_LAUNCHER, "toy/toy_numba.py": PYTHON_WHOLE})


def judged(file, before, after, **settings):
    text = TOYS.texts[file]
    begin = text.index(before)
    mutant = replace(mutants(file, text)[0], begin=begin, end=begin + len(before), before=before, after=after)
    return run([mutant], TOYS, **settings)[0]


@needs.emulator_here
@needs.takes_long
@pytest.mark.parametrize(
    ("file", "before", "after", "state"),
    [
        ("toy/toy_cuda.cu", "i >= size", "i > size", "caught"),
        ("toy/toy_cuda.cu", "i >= size", "(i >= size)", "survived or equivalent"),
        ("toy/toy_cuda.cu", "i >= size", "i >= nothing", "invalid"),
        ("toy/toy_numba.py", "i >= x.size", "i > x.size", "caught"),
        ("toy/toy_numba.py", "i >= x.size", "(i >= x.size)", "equivalent"),
        ("toy/toy_numba.py", "i >= x.size", "i >= x.size.nothing", "invalid"),
    ],
)
def test_a_mutant_is_judged(file, before, after, state):
    mutant = judged(file, before, after)
    assert mutant.state in state, mutant


@needs.emulator_here
@needs.takes_long
def test_a_mutant_that_never_ends_is_caught():
    mutant = judged("toy/toy_cuda.cu", "++k", "k += 0", limit=8.0)
    assert (mutant.state, mutant.how) == ("caught", "timeout"), mutant
