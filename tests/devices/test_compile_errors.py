"""What does not compile is named with the user's path and line, once, whichever compiler says it."""

import subprocess
import sys

import pytest
from needs import emulator_here, nvrtc_here
from places import ROOT
from stand_in_cupy import StandIn

import gpucnn
from gpucnn.devices import choose, emulator, storage
from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launchable import Geometry
from gpucnn.errors import CompileError, KernelError
from gpucnn.profiling import compilers
from gpucnn.profiling.launches import Launch

SOURCE = """#include "half.cuh"

extern "C" __global__ void wrong(float* y)
{
    y[0] = nothing;
    y[1] = nothing_either;
}
"""
FAULTY_HEADER = {
    "half.cuh": "__device__ float half()\n{\n    return nowhere;\n}\n",
    "wrong.cu": SOURCE.split("{")[0] + "{}",
}
FILES = {
    "wrong.cu:5": {"half.cuh": "", "wrong.cu": SOURCE},
    "half.cuh:3": FAULTY_HEADER,
}


@pytest.fixture(params=FILES)
def broken(request, tmp_path):
    """(function, path and line of its first fault)."""
    for name, text in FILES[request.param].items():
        (tmp_path / name).write_text(text)
    return cuda_function(tmp_path / "wrong.cu", "wrong"), f"{tmp_path}/{request.param}"


def in_the_emulator(function):
    with gpucnn.using(device="emulator"), emulator.running(mode="check"):
        function[1, 1](storage.empty((2,)))


def by_nvrtc(function):
    compilers.resources(Launch(function, Geometry((1,), (1,)), ()), "sm_90")


@pytest.mark.parametrize(
    "compile", [pytest.param(in_the_emulator, marks=emulator_here), pytest.param(by_nvrtc, marks=nvrtc_here)]
)
def test_the_message_is_one_line_with_path_and_line(broken, compile):
    function, place = broken
    with pytest.raises(CompileError) as caught:
        compile(function)
    message = str(caught.value)
    assert message.startswith(f"wrong cannot be compiled here: {place}: ")
    assert message.count(place.rpartition("/")[0]) == 1
    assert "\n" not in message
    if "wrong.cu" in place:
        assert "; line 6: " in message


def test_so_is_that_of_cupy(broken, monkeypatch):
    cupy = StandIn()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.delitem(sys.modules, "gpucnn.devices.gpu", raising=False)
    choose._gpu.cache_clear()
    function, place = broken
    file, _, line = place.rpartition("/")[2].partition(":")
    cupy.failing, cupy.log = "compile", f"{file}({line}): error: identifier is undefined\n\n1 error detected."
    with choose.using():
        choose.use("gpu")
        y = storage.empty((2,))
        with pytest.raises(CompileError) as caught:
            function[1, 1](y)
    choose._gpu.cache_clear()
    assert str(caught.value) == f"wrong cannot be compiled here: {place}: identifier is undefined"


def test_a_file_that_is_not_utf_8_says_so(tmp_path):
    (tmp_path / "wrong.cu").write_bytes(b"// caf\xe9\n")
    with pytest.raises(KernelError, match=r"wrong\.cu is not UTF-8 text, at byte 6: save it as UTF-8"):
        cuda_function(tmp_path / "wrong.cu", "wrong")


@nvrtc_here
def test_a_compilation_without_a_word_leaves_pythons_own_bytes_alone():
    """NVRTC ends an empty log by a zero byte; Python shares all bytes of length 1, and prints with them."""
    code = """if True:
        from gpucnn.devices.nvrtc import compile_cuda
        done = compile_cuda('extern "C" __global__ void nothing() {}', "nothing.cu", {}, arch="compute_80")
        print(repr(done.log), ".entry nothing" in done.ptx, ord(" ".encode()))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT)
    assert done.stdout.split() == [b"''", b"True", b"32"]
