"""The GPU device: how gpucnn calls CuPy, checked with a stand-in."""

import ctypes
import importlib
import re
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from stand_in_cupy import StandIn

from gpucnn.devices import choose, nvrtc, storage
from gpucnn.devices.cpu import CPU
from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.emulator import LaunchError
from gpucnn.devices.emulator.device import CC
from gpucnn.devices.scoped import Scoped
from gpucnn.errors import KernelError, MemoryNeedError
from gpucnn.profiling import benchmark, records, timing, trials


@pytest.fixture
def cupy(monkeypatch):
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "cupy", stand_in)
    for importer in ("gpucnn.devices.gpu", "gpucnn.profiling.gpu_clock"):
        monkeypatch.delitem(sys.modules, importer, raising=False)
    choose._gpu.cache_clear()
    with choose.using():
        yield stand_in
    choose._gpu.cache_clear()


@pytest.fixture
def gpu(cupy):
    device = choose.use("gpu")
    cupy.calls.clear()
    return device


def arrays_for(op, case):
    rng = np.random.default_rng(0)
    operands = [None if d is None else storage.put(d.sample(rng)) for d in case.operands]
    specs = [spec for spec in op.specs(*operands, **case.params) if spec is not None]
    return [*(storage.empty(*spec) for spec in specs), *operands]


def launched(cupy, kernel_id, op):
    kernel = next(k for k in trials.every_kernel(kernel_id) if k.op.name == op)
    case = kernel.op.cases[0]
    arguments = arrays_for(kernel.op, case)
    for _ in range(2):
        kernel.launch(*arguments, **case.params)
    return arguments


def test_a_kernel_in_cuda_is_compiled_once_and_given_arrays_and_scalars_of_its_own_types(cupy, gpu):
    y, a, b = launched(cupy, "matmul/naive_cuda", "matmul")
    (compiling, code, options), first, second = cupy.calls
    assert compiling == "compile"
    assert 'extern "C" __global__' in code
    assert '#include "' not in code
    assert options == ("-std=c++17", "-lineinfo")
    assert first == second
    *_, arguments, shared = first
    assert arguments[:3] == (y, a, b) or all(x is z for x, z in zip(arguments, (y, a, b), strict=False))
    function = next(f for f in trials.every_kernel("matmul/naive_cuda") if f.op.name == "matmul").launch.__globals__
    (cuda,) = [f for f in function.values() if type(f).__name__ == "CudaFunction"]
    expected = [dtype for _, dtype, pointer in cuda.parameters() if not pointer]
    assert [a.dtype for a in arguments if isinstance(a, np.generic)] == expected
    assert shared == 0


@pytest.mark.parametrize(("kernel_id", "op"), [("matmul/naive_numba", "matmul"), ("pool2d/direct_numba", "maxpool2d")])
def test_the_arguments_of_a_numba_kernel_are_as_its_ptx_declares_them(cupy, gpu, monkeypatch, tmp_path, kernel_id, op):
    seen = []

    class Program:
        def __init__(self, code, code_type, options):
            assert isinstance(code, str)
            assert (code_type, options) == ("ptx", "sm_90")
            seen.append(code)

        def compile(self, target):
            assert target == "cubin"
            return SimpleNamespace(code=b"\x7fELF")

    core = SimpleNamespace(Program=Program, ProgramOptions=lambda arch: arch)
    monkeypatch.setitem(sys.modules, "cuda.core", core)
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    choose._gpu.cache_clear()
    choose.use("cpu")
    choose.use("gpu")
    cupy.calls.clear()
    launched(cupy, kernel_id, op)
    load, first, second = cupy.calls
    assert load == ("load", b"\x7fELF")
    name, arguments = first[1], first[4]
    assert len(seen) == 1
    assert name == second[1]
    declared = seen[0].partition(f".entry {name}(")[2].partition(")")[0]
    sizes = [int(bits) // 8 for bits in re.findall(r"\.param\s+\.[a-z](\d+)", declared)]
    assert [8 if isinstance(a, np.ndarray) else a.itemsize for a in arguments] == sizes
    choose._gpu.cache_clear()
    choose.use("cpu")
    choose.use("gpu")
    cupy.calls.clear()
    launched(cupy, kernel_id, op)
    assert cupy.calls[0] == load, "another process loads what the first has kept"
    assert len(seen) == 1


@pytest.mark.parametrize("kernel_id", ["matmul/naive_cuda", "matmul/naive_numba"])
def test_a_gpu_that_the_compilers_do_not_know_gets_ptx(cupy, monkeypatch, kernel_id):
    monkeypatch.setattr(nvrtc, "newest_architecture", lambda: 80)
    choose.use("gpu")
    cupy.calls.clear()
    launched(cupy, kernel_id, "matmul")
    (loading, image), first, second = cupy.calls
    assert loading == "load"
    assert b".target sm_80" in image and f".entry {first[1]}(".encode() in image
    assert first == second


@pytest.mark.parametrize("newest", [90, 121, None])
def test_a_gpu_that_the_compilers_know_gets_machine_code(cupy, monkeypatch, newest):
    monkeypatch.setattr(nvrtc, "newest_architecture", lambda: newest)
    choose.use("gpu")
    cupy.calls.clear()
    launched(cupy, "matmul/naive_cuda", "matmul")
    assert cupy.calls[0][0] == "compile"


@pytest.mark.parametrize(("platform", "name"), [("win32", "cublas64_12.dll"), ("linux", "libcublas.so.12")])
def test_cublas_is_loaded_by_the_name_that_the_system_gives_it(cupy, gpu, monkeypatch, platform, name):
    module, libs = importlib.import_module("gpucnn.devices.gpu"), "cupy_backends.cuda.libs"
    library = SimpleNamespace(getVersion=lambda handle: 120901)
    for package in ("cupy_backends", "cupy_backends.cuda"):
        monkeypatch.setitem(sys.modules, package, SimpleNamespace(__path__=[]))
    monkeypatch.setitem(sys.modules, libs, SimpleNamespace(cublas=library, __path__=[]))
    monkeypatch.setattr(module, "sys", SimpleNamespace(platform=platform))
    monkeypatch.setattr(module.ctypes, "CDLL", lambda name: name)
    assert module._cublas.__wrapped__(5) == name


def test_the_limit_of_shared_memory_is_raised_once(cupy, gpu):
    function = cuda_function(
        next(iter(trials.every_kernel("matmul/naive_cuda"))).launch.__code__.co_filename, "matmul_naive"
    )
    y = storage.empty((1,))
    numbers = [y if pointer else dtype.type(1) for _, dtype, pointer in function.parameters()]
    for shared in (1024, 60_000, 60_000, 50_000, 70_000):
        function[1, 32, shared](*numbers)
    raised = [call for call in cupy.calls if call[0] == "attribute"]
    assert raised == [("attribute", 77, 8, 60_000), ("attribute", 77, 8, 70_000)]


def test_static_shared_memory_counts_towards_the_limit(cupy, gpu):
    cupy.static_bytes = 20 << 10
    naive = next(iter(trials.every_kernel("matmul/naive_cuda"))).launch.__code__.co_filename
    function = cuda_function(naive, "matmul_naive")
    y = storage.empty((1,))
    numbers = [y if pointer else dtype.type(1) for _, dtype, pointer in function.parameters()]
    for shared in (28 << 10, 40 << 10):
        function[1, 32, shared](*numbers)
    assert [call for call in cupy.calls if call[0] == "attribute"] == [("attribute", 77, 8, 40 << 10)]


def test_booleans_are_numbers_for_the_preprocessor_and_the_text_is_called_by_its_file(cupy, gpu):
    naive = next(iter(trials.every_kernel("matmul/naive_cuda"))).launch.__code__.co_filename
    function = cuda_function(naive, "matmul_naive", WIDE=True, DEEP=False, COUNT=3)
    y = storage.empty((1,))
    function[1, 32](*[y if pointer else dtype.type(1) for _, dtype, pointer in function.parameters()])
    _, code, _ = cupy.calls[0]
    defines, line, _ = code.partition('#line 1 "naive_cuda.cu"\n')
    assert sorted(defines.splitlines()) == ["#define COUNT 3", "#define DEEP 0", "#define WIDE 1"] and line


def test_a_gpu_that_an_earlier_kernel_has_broken_is_not_the_fault_of_this_one(cupy, gpu):
    cupy.failing = "lost"
    with pytest.raises(KernelError, match=r"gpu:0 is lost.*ILLEGAL_ADDRESS.*GPUCNN_SYNC=1") as error:
        launched(cupy, "matmul/naive_cuda", "matmul")
    assert not isinstance(error.value, LaunchError)


def test_each_kernel_is_waited_for_where_the_environment_says_so(cupy, gpu, monkeypatch):
    launched(cupy, "matmul/naive_cuda", "matmul")
    assert "synchronize" not in cupy.calls
    monkeypatch.setenv("GPUCNN_SYNC", "1")
    launched(cupy, "matmul/naive_cuda", "matmul")
    assert cupy.calls.count("synchronize") == 2


@pytest.mark.parametrize(("failing", "words"), [("compile", "identifier is undefined"), ("launch", "INVALID_VALUE")])
def test_a_refused_kernel_is_a_fault_of_that_kernel(cupy, gpu, failing, words):
    cupy.failing = failing
    with pytest.raises(KernelError, match=words):
        launched(cupy, "matmul/naive_cuda", "matmul")


def test_the_peak_is_that_of_the_clocks_and_unknown_without_them(cupy, gpu):
    peak = gpu.peak()
    assert peak.flops == pytest.approx(66.9e12, rel=1e-3)
    assert peak.bytes_per_second == pytest.approx(3.352e12, rel=1e-3)
    assert peak.cache_bytes == 50 << 20
    del cupy.attributes["ClockRate"]
    assert gpu.peak() is None


def test_a_gpu_is_described_with_the_name_of_its_card(cupy):
    for name, text in (("gpu:1", "gpu:1 (A Test GPU)"), ("cpu", "cpu")):
        choose.use(name)
        assert choose.with_card() == text


def test_what_a_kernel_breaks_shows_when_it_is_waited_for(cupy, gpu, monkeypatch):
    def synchronize():
        raise cupy.cuda.runtime.CUDARuntimeError(700, "cudaErrorIllegalAddress: an illegal memory access")

    monkeypatch.setattr(cupy.cuda, "get_current_stream", lambda: SimpleNamespace(synchronize=synchronize))
    with pytest.raises(KernelError, match=r"gpu:0 is lost to this process .*IllegalAddress"):
        gpu.synchronize()


def test_each_gpu_is_one_object_and_the_one_in_use_is_cupys(cupy, monkeypatch):
    first = choose.use("gpu:0")
    second = choose.use("gpu:1")
    assert choose.use("gpu") is first
    cupy.calls.clear()
    with choose.using(second):
        assert choose.current() is second
        assert cupy.calls == [("use", 1)]
    assert choose.current() is first
    assert cupy.calls == [("use", 1), ("use", 0)]


def test_each_thread_makes_the_gpu_in_use_cupys(cupy, monkeypatch):
    """CuPy keeps the current GPU of each thread: without a call, a thread would allocate on the first one."""
    monkeypatch.setattr(choose, "_device", Scoped("device", choose.use("gpu:1")))
    cupy.calls.clear()
    thread = threading.Thread(target=lambda: [storage.zeros((3,)), storage.zeros((3,))])
    thread.start()
    thread.join()
    assert cupy.calls == [("use", 1)]


def test_the_pool_is_left_out_where_the_environment_says_so(cupy, monkeypatch):
    choose.use("gpu")
    assert ("allocator", None) not in cupy.calls
    choose._gpu.cache_clear()
    choose.use("cpu")
    monkeypatch.setenv("GPUCNN_NO_POOL", "1")
    choose.use("gpu")
    assert ("allocator", None) in cupy.calls


def test_out_of_memory_the_pool_is_released_before_one_retry(cupy, gpu):
    cupy.out_of_memory = 1
    assert gpu.empty((10,), np.float32).shape == (10,)
    assert cupy.calls == ["release"]
    cupy.out_of_memory = 2
    message = r"out of memory on gpu:0: an array of \(1000, 1024\) float32, 4.1 MB, and 4.3 GB is free"
    with pytest.raises(MemoryNeedError, match=message):
        gpu.put(np.zeros((1000, 1024), np.float32))
    assert gpu.put(np.ones(3, np.float32)).tolist() == [1, 1, 1], "the next one may fit"


def test_what_a_run_needs_is_compared_with_the_memory_of_the_gpu(cupy, gpu, monkeypatch):
    from gpucnn.models import memory
    from gpucnn.runs import zoo

    with choose.using(CPU):
        model = zoo.find("slides").build()
        model.compile("adam", "sparse_categorical_crossentropy")
        memory.need(model)
    monkeypatch.setattr(memory, "need", lambda model, dataset: memory.Need(0, 0, 0, 1 << 20, dataset))
    assert memory.check(model, 4000, dataset=1 << 40).dataset == 0, "the data set stays on the host"
    with pytest.raises(MemoryNeedError, match=r"4\.3 GB is free: the largest batch size that fits is 4032"):
        memory.check(model, 4100)


def test_a_gpu_owns_its_own_arrays_alone(cupy):
    first, second = choose.use("gpu:0"), choose.use("gpu:1")
    array = second.empty((3,), np.float32)
    assert second.owns(array)
    assert not first.owns(array)


def test_arrays_are_cupys(cupy, gpu):
    array = gpu.put(np.ones((2, 3), np.float32))
    assert gpu.owns(array)
    assert not gpu.owns(np.ones(3))
    assert type(storage.get(array)) is np.ndarray
    assert gpu.takes(array)
    assert not gpu.takes(array[:, 1:])
    assert gpu.takes(gpu.copied(array[:, 1:]))
    assert gpu.owns(gpu.copied(array[:, 1:]))
    gpu.synchronize()
    assert cupy.calls == ["synchronize"]
    assert gpu.stream() == 9


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_cublas_computes_the_product_by_columns(gpu, monkeypatch, rng, transpose_a, transpose_b):
    def at(pointer, rows, columns):
        """A matrix as cuBLAS reads it: by columns."""
        data = (ctypes.c_float * (rows * columns)).from_address(pointer.value)
        return np.frombuffer(data, np.float32).reshape(columns, rows).T

    def sgemm(handle, first, second, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
        assert handle.value == 5
        left = at(a, *((lda.value, m.value) if first.value else (lda.value, k.value)))
        right = at(b, *((ldb.value, k.value) if second.value else (ldb.value, n.value)))
        at(c, ldc.value, n.value)[...] = (left.T if first.value else left) @ (right.T if second.value else right)
        return 0

    library = SimpleNamespace(cublasSetStream_v2=lambda handle, stream: 0, cublasSgemm_v2=sgemm)
    monkeypatch.setattr(importlib.import_module("gpucnn.devices.gpu"), "_cublas", lambda handle: library)
    a, b = rng.random((3, 4), np.float32), rng.random((4, 5), np.float32)
    y = gpu.empty((3, 5))
    stored_a, stored_b = (gpu.put(m.T if turned else m) for m, turned in ((a, transpose_a), (b, transpose_b)))
    (product,) = trials.every_kernel("matmul/cublas_cuda")
    product.launch(y, stored_a, stored_b, transpose_a=transpose_a, transpose_b=transpose_b)
    np.testing.assert_allclose(y, a @ b, rtol=1e-5)
    library.cublasSetStream_v2 = lambda handle, stream: 13
    with pytest.raises(LaunchError, match="status 13"):
        product.launch(y, stored_a, stored_b, transpose_a=transpose_a, transpose_b=transpose_b)


def test_events_enclose_a_call_that_is_queued_behind_another(cupy, gpu):
    clock = timing.clock_of_device()
    cupy.calls.clear()
    assert clock.hot(lambda: cupy.calls.append("run")) == pytest.approx(2.5e-3)
    assert cupy.calls == ["run", "event", "run", "event", "wait"]
    cupy.calls.clear()
    clock.cold(lambda: cupy.calls.append("run"))
    assert cupy.calls == ["event", "run", "event", "wait"]
    cupy.calls.clear()
    assert clock.host(lambda: cupy.calls.append("run")) < 0.1
    assert cupy.calls == ["run", "synchronize"]


def test_short_calls_are_timed_in_graphs_and_a_failed_capture_is_ended(cupy, gpu):
    clock = timing.clock_of_device()
    cupy.calls.clear()
    clock.prepare(lambda: cupy.calls.append("run"), 2)()
    assert cupy.calls == ["begin capture", "run", "run", "end capture", "graph"]
    cupy.calls.clear()
    with pytest.raises(ZeroDivisionError):
        clock.prepare(lambda: 1 / 0, 2)
    assert cupy.calls == ["begin capture", "end capture"]


def test_a_call_that_cannot_be_measured_is_a_note_in_its_row():
    op, case, (kernel, *_) = benchmark.Plan(trials.every_kernel("softmax", ("numba",))).tasks()[0]
    row = benchmark._bare(op, case, kernel.id, kernel.backend, "float32", "cpu")

    def broken():
        raise RuntimeError("cudaErrorNoKernelImage: no image\nmore")

    assert (
        benchmark._timed(row, broken, timing.Effort()).note == "failed: RuntimeError: cudaErrorNoKernelImage: no image"
    )


def test_the_drivers_version_is_read_from_where_it_writes_it(monkeypatch, tmp_path):
    line = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (root@host)  Mon\n"
    file = tmp_path / "version"
    file.write_text(line)
    monkeypatch.setattr(records, "Path", lambda path: file)
    assert records.driver() == "580.159.04"
    file.unlink()
    assert records.driver() is None


def test_ptx_of_numba_becomes_a_cubin_without_a_gpu():
    core = pytest.importorskip("cuda.core")
    from gpucnn.devices.numba_cuda import NumbaFunction

    kernel = next(k for k in trials.every_kernel("matmul/naive_numba") if k.op.name == "matmul")
    (function,) = [f for f in kernel.launch.__globals__.values() if isinstance(f, NumbaFunction)]
    a = np.zeros((2, 2), np.float32)
    signature = function.signature(function.convert((a, a, a, True, False)))
    ptx, entry = function.ptx(signature, (9, 0))
    assert ptx == function.ptx(signature, CC)[0], "a GPU gets what the emulator runs"
    code = core.Program(ptx, "ptx", core.ProgramOptions(arch="sm_90")).compile("cubin").code
    assert code[:4] == b"\x7fELF"
    assert entry.encode() in code


def test_cold_times_are_without_the_start_of_the_graph(cupy, gpu, monkeypatch):
    """A graph takes 4 µs to start, a call in it 10 µs, and 5 µs more after the cache was overwritten."""
    captured, launched, seen = [], [], [0]

    def end_capture(stream):
        copies = len(captured)
        captured.clear()
        return SimpleNamespace(launch=lambda stream: launched.append(copies))

    def elapsed(start, stop):
        since, seen[0] = len(launched) - seen[0], len(launched)
        return 1e-3 * (4 + 10 * launched[-1] + 5 * (since == 1)) if since else 1e-2

    monkeypatch.setattr(cupy.cuda.Stream, "begin_capture", lambda stream: captured.clear())
    monkeypatch.setattr(cupy.cuda.Stream, "end_capture", end_capture)
    cupy.cuda.get_elapsed_time = elapsed
    measured = timing.measure(lambda: captured.append(1), timing.Effort(2, 0.0, 1e9, 1.0))
    assert measured.hot.median == pytest.approx(10e-6, rel=0.05)
    assert measured.cold.median == pytest.approx(15e-6, rel=0.05)
