"""Libraries of the emulator on disk: built once, and built again or kept in memory where the cache is no good."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from needs import emulator_here
from processes import program

pytestmark = emulator_here

SOURCE = """
extern "C" __global__ void twice(float* y, const float* x, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n) y[i] = 2 * x[i];
}
"""
LAUNCH = """
    import subprocess

    import numpy as np

    import gpucnn
    from gpucnn.devices import emulator, storage
    from gpucnn.devices.cuda import cuda_function

    compiled = []
    run = subprocess.run
    subprocess.run = lambda command, **options: compiled.append("-shared" in command) or run(command, **options)
    with gpucnn.using(device="emulator"), emulator.running(mode="check"):
        x = storage.put(np.ones(31, np.float32))
        try:
            cuda_function("twice.cu", "twice")[1, 32](storage.empty((31,)), x, 31)
        except emulator.LaunchError as error:
            assert "element 31 of x, which has 31" in str(error) and "(twice.cu:5)" in str(error), error
        else:
            raise AssertionError("the fault is not seen")
    print(sum(compiled))
"""


def launch(folder, **environment):
    """(how many libraries were linked, standard error) of a process that launches a kernel with a fault."""
    done = program(LAUNCH, cwd=folder, **environment)
    assert done.returncode == 0, done.stderr
    return int(done.stdout), done.stderr


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("libraries")
    (folder / "twice.cu").write_text(SOURCE)
    assert launch(folder, GPUCNN_CACHE=str(folder / "cache")) == (2, "")
    return folder


@pytest.fixture
def folder(filled, tmp_path):
    return shutil.copytree(filled, tmp_path, dirs_exist_ok=True)


def test_libraries_are_built_once(folder):
    assert launch(folder, GPUCNN_CACHE=str(folder / "cache")) == (0, "")


@pytest.mark.parametrize(("pattern", "kept", "built"), [("*", -100, 2), ("*.so", 100, 2), ("*.symbols", 0, 0)])
def test_what_was_cut_is_made_again(folder, pattern, kept, built):
    for path in (folder / "cache/emulator").glob(pattern):
        os.truncate(path, kept if kept >= 0 else path.stat().st_size + kept)
    assert launch(folder, GPUCNN_CACHE=str(folder / "cache")) == (built, "")
    assert launch(folder, GPUCNN_CACHE=str(folder / "cache")) == (0, "")


def test_a_library_that_cannot_be_loaded_is_built_again(folder):
    """It is intact, and of a machine with another C library or processor."""
    from gpucnn import places

    for path in (folder / "cache/emulator").glob("*.so"):
        places.keep(path, b"\x7fELF of another machine")
    assert launch(folder, GPUCNN_CACHE=str(folder / "cache")) == (2, "")


def test_two_processes_that_build_at_once_leave_whole_libraries(folder):
    cache = str(folder / "new")
    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(launch, folder, GPUCNN_CACHE=cache) for _ in range(2)]
    assert [result.result()[1] for result in results] == ["", ""]
    assert launch(folder, GPUCNN_CACHE=cache) == (0, "")


def test_without_any_folder_libraries_live_in_memory_and_faults_still_have_lines(folder):
    """A temporary folder of others is not trusted with what is executed; sources may lie there."""
    temporary = folder / "tmp"
    (temporary / f"gpucnn-{os.getuid()}").mkdir(parents=True)
    (temporary / f"gpucnn-{os.getuid()}").chmod(0o777)
    built, errors = launch(folder, GPUCNN_CACHE="/dev/null/below", TMPDIR=str(temporary))
    assert built == 2
    assert errors.count("UserWarning") == 1
    assert "compiled code is not kept from run to run: set GPUCNN_CACHE" in errors
