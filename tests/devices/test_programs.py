"""The text that a compiler for GPUs gets for one kernel: without the other kernels of its file."""

import re

import pytest
from places import ROOT

from gpucnn.devices import cuda
from gpucnn.devices.cuda import cuda_function

TEXT = """// extern "C" __global__ void never(float* y) { }
__device__ float half(float x) { return x / 2; }

extern "C" __global__ void one(float* y)
{
    /* } */ y[0] = half('}');  // }
    if (y[0] > 1.f) { printf("%f }}\\n", y[0]); }
}

extern "C" __global__ void __launch_bounds__(THREADS, (2)) two(float* y) { y[0] = 2; }
extern "C" __global__ void three(float* y);

#ifdef FOUR
extern "C" __global__ void four(float* y)
{
#if FOUR > 4
    for (int i = 0; i < FOUR; ++i) {
#else
    {
#endif
        y[0] = 4;
    }
}
#endif
"""


@pytest.fixture
def program(tmp_path):
    (tmp_path / "several.cu").write_text(TEXT)
    return lambda name: cuda_function(tmp_path / "several.cu", name).program()


def test_the_other_kernels_are_left_out_and_all_lines_keep_their_numbers(program):
    first, second = program("one").splitlines(), program("two").splitlines()
    lines = ['#line 1 "several.cu"', *TEXT.splitlines()]
    assert [number for number, line in enumerate(lines) if line != first[number]] == [10]
    assert first[10] == ""
    assert [number for number, line in enumerate(lines) if line != second[number]] == [4, 5, 6, 7, 8]
    assert not any(second[4:9])


@pytest.mark.parametrize("name", ["three", "four"])
def test_declarations_and_what_the_preprocessor_chooses_stay(program, name):
    assert "void three(float* y);" in program(name)
    assert program(name).endswith(TEXT[TEXT.index("#ifdef") :])


FILES = sorted((ROOT / "kernels").rglob("*.cu"))


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}/{path.stem}" for path in FILES])
def test_the_program_of_each_kernel_has_no_other(path):
    for name in cuda.entries(path):
        text = cuda_function(path, name).program()
        assert text.count("__global__") == 1 and re.search(rf"\b{name}\(", text[text.index("__global__") :])
        assert text.count("\n") == cuda.expanded(path).count("\n")
