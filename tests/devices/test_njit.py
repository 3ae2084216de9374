"""Kernels for the CPU on disk: what Numba compiled is found again, heals, and spares others' files."""

import gc
import json
import os
import shutil

import numpy as np
import pytest
from needs import numba_here, posix_here
from numba import extending
from numba.core.codegen import JITCodeLibrary
from numba.core.errors import TypingError
from places import ROOT
from processes import program

from gpucnn.devices import njit

TRAIN = """
    import json, time

    import numpy as np

    from gpucnn import Input, Sequential, layers
    from gpucnn.devices import forks
    from gpucnn.devices.njit import _Cache

    forks.is_possible = lambda: False  # this process compiles all, and counts it
    compiled, load = [], _Cache.load_overload

    def loading(self, signature, target):
        code = load(self, signature, target)
        if code is None:
            compiled.append(self._name)
        return code

    _Cache.load_overload = loading
    model = Sequential([Input((6, 6, 1)), layers.BatchNormalization(), layers.Flatten(), layers.Dense(2)])
    model.compile("adam", "mse")
    model.fit(np.zeros((8, 6, 6, 1), np.float32), np.zeros((8, 2), np.float32), epochs=1, verbose=0)
    print(json.dumps(len(compiled)))
"""


def train(**environment):
    """(how many functions were compiled, standard error) of a process that trains."""
    done = program(TRAIN, **{"NUMBA_CACHE_DIR": None, **environment})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache after one training."""
    cache = tmp_path_factory.mktemp("filled")
    count, errors = train(GPUCNN_CACHE=str(cache))
    assert count > 3
    assert errors == ""
    return cache


@pytest.fixture
def cache(filled, tmp_path):
    return shutil.copytree(filled, tmp_path / "cache")


def entries(folder):
    return sorted(folder.rglob("*.nbc"))


def test_compiled_kernels_are_kept_in_the_cache_of_gpucnn_and_found_there(cache):
    assert entries(cache / "numba")
    assert train(GPUCNN_CACHE=str(cache)) == (0, "")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(path, 60),
        lambda path: os.truncate(path, 0),
        lambda path: path.write_bytes(b"".join(bytes([b ^ (i == 200)]) for i, b in enumerate(path.read_bytes()))),
    ],
    ids=["cut", "empty", "changed"],
)
def test_damaged_entries_are_compiled_again(cache, damage):
    for path in entries(cache):
        damage(path)
    count, errors = train(GPUCNN_CACHE=str(cache))
    assert count == len(entries(cache))
    assert errors == ""
    assert train(GPUCNN_CACHE=str(cache)) == (0, "")


def test_an_entry_that_cannot_be_understood_is_compiled_again(cache):
    """It is intact, and of another installation: its classes have gone."""
    import pickle

    from gpucnn import places

    for path in entries(cache):
        places.keep(path, pickle.dumps("of another time"))
    assert train(GPUCNN_CACHE=str(cache))[0] == len(entries(cache))


def test_two_processes_that_compile_at_once_leave_a_whole_cache(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(train, GPUCNN_CACHE=str(tmp_path)) for _ in range(2)]
    assert [result.result()[1] for result in results] == ["", ""]
    assert train(GPUCNN_CACHE=str(tmp_path)) == (0, "")


def test_without_a_folder_that_can_be_written_a_line_says_so_and_training_goes_on(tmp_path):
    nowhere = {"GPUCNN_CACHE": "/dev/null/below", "HOME": "/dev/null", "TMPDIR": str(tmp_path)}
    count, errors = train(**nowhere)
    assert errors.count("UserWarning") == 1
    assert f"compiled code is kept in {tmp_path}" in errors
    assert "set GPUCNN_CACHE to a folder that can be written" in errors
    assert train(**nowhere)[0] == 0 < count
    (folder,) = tmp_path.iterdir()
    folder.chmod(0o777)
    assert "compiled code is not kept from run to run" in train(**nowhere)[1]


def test_a_folder_of_numba_that_is_shared_keeps_the_files_of_others(tmp_path):
    others = tmp_path / "project_0123/module.function-1.py311.nbi"
    others.parent.mkdir()
    others.write_bytes(b"of another project, compiled long ago")
    os.utime(others, (0, 0))
    train(NUMBA_CACHE_DIR=str(tmp_path), GPUCNN_CACHE=str(tmp_path / "unused"))
    assert others.read_bytes() == b"of another project, compiled long ago"
    assert entries(tmp_path / "gpucnn")
    assert not (tmp_path / "unused").exists()


def test_code_of_shared_files_that_were_edited_is_compiled_again(cache, tmp_path):
    """Numba looks at the file of a kernel alone, and would run the old code of what is inlined into it."""
    for part in ("gpucnn", "kernels"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    copy = {"PYTHONPATH": str(tmp_path), "cwd": tmp_path, "GPUCNN_CACHE": str(cache)}
    count, _ = train(**copy)
    assert count
    assert train(**copy)[0] == 0
    with open(tmp_path / "kernels/shared/simd_njit.py", "a") as file:
        file.write("\n# edited\n")
    assert train(**copy)[0] == count


@pytest.mark.parametrize("how", ["variable", "program"])
def test_numpy_computes_where_numba_is_told_not_to_compile_and_a_line_says_so(how, tmp_path):
    """As for coverage and debugging. Kernels of vectors cannot run as plain Python."""
    switch = "import numba; numba.config.DISABLE_JIT = 1" if how == "program" else ""
    done = program(
        switch
        + """
import numpy as np
from gpucnn import Input, Sequential, layers

model = Sequential([Input((6, 6, 1)), layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(2)])
model.compile("adam", "mse")
model.fit(np.zeros((8, 6, 6, 1), np.float32), np.zeros((8, 2), np.float32), epochs=1, verbose=0)
""",
        NUMBA_DISABLE_JIT="1" if how == "variable" else None,
        GPUCNN_CACHE=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("UserWarning") == 1
    assert "NUMBA_DISABLE_JIT is set, so NumPy computes instead of compiled kernels, many times slower" in done.stderr


def test_compiled_kernels_are_not_checked_where_numba_is_told_not_to_compile(tmp_path):
    done = program(
        "import sys; from gpucnn.cli import main; main(['check', 'bias_activation_grad', '--device', 'cpu'])",
        NUMBA_DISABLE_JIT="1",
        GPUCNN_CACHE=str(tmp_path),
    )
    assert "njit kernels are not checked: NUMBA_DISABLE_JIT is set" in done.stderr
    assert "Traceback" not in done.stderr


NUMBERS = """
    import os

    from numba.core.bytecode import FunctionIdentity

    from gpucnn.devices import njit

    print(next(FunctionIdentity._unique_ids), flush=True)
    if os.fork() == 0:
        print(next(FunctionIdentity._unique_ids), flush=True)
        os._exit(0)
    os.wait()
    print(next(FunctionIdentity._unique_ids))
"""


@posix_here
def test_functions_that_different_processes_compile_have_different_symbols():
    """With equal ones, average pooling became maximum pooling in a process that loaded both from the disk."""
    numbers = [int(number) for _ in range(2) for number in program(NUMBERS).stdout.split()]
    assert len(numbers) == 6
    distances = [
        abs(a - b)
        for i, a in enumerate(numbers)
        for b in numbers[:i]
        if (i, b) not in ((2, numbers[0]), (5, numbers[3]))
    ]
    assert min(distances) > 1_000_000


@numba_here
@pytest.mark.parametrize("how", [njit.inner, njit.njit(forceinline=True)])
def test_no_machine_code_is_made_of_what_only_other_kernels_call(how):
    """They hold it themselves."""

    @how
    def doubled(x):
        return x + x

    @njit.njit(nogil=True)
    def quadrupled(x):
        return doubled(doubled(x))

    assert quadrupled(3) == 12
    made = []
    for kernel in (doubled, quadrupled):
        (compiled,) = kernel.overloads.values()
        made.append(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name) != 0)
    assert made == [False, True]


@numba_here
def test_what_others_call_is_optimized_in_them_alone(monkeypatch):
    optimized, optimize = [], JITCodeLibrary._optimize_final_module

    def optimizing(library):
        optimized.append(library.name)
        optimize(library)

    monkeypatch.setattr(JITCodeLibrary, "_optimize_final_module", optimizing)

    @njit.inner
    def doubled(x):
        return x + x

    @njit.inner
    def quadrupled(x):
        return doubled(doubled(x))

    @njit.njit(nogil=True)
    def kernel(x):
        return quadrupled(x)

    assert kernel(3) == 12
    assert [name.rpartition(".")[2] for name in optimized] == ["kernel"]


@numba_here
@pytest.mark.parametrize("collecting", [True, False])
def test_garbage_is_looked_for_after_compiling_as_before(collecting):
    meanwhile = []

    @extending.intrinsic
    def noted(typing, x):
        meanwhile.append(gc.isenabled())
        return x(x), lambda context, builder, signature, args: args[0]

    @njit.njit(nogil=True)
    def kernel(x, y):
        return noted(x) + y

    was = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        assert kernel(1, 2) == 3
        assert gc.isenabled() == collecting
        with pytest.raises(TypingError):
            kernel(1, "2")
        assert gc.isenabled() == collecting
    finally:
        (gc.enable if was else gc.disable)()
    assert meanwhile
    assert not any(meanwhile)


def test_functions_of_others_may_have_closures_and_expressions_of_arrays():
    @njit.njit()
    def total(x):
        return np.array([2 * value for value in x]).sum() + (x + x * x).sum()

    assert total(np.arange(3.0)) == 14
