"""Faults that users of CuPy and numba-cuda plant by accident are named; the same programs without the
fault run through."""

import re
import textwrap

import pytest

RACE = """
    import cupy
    kernel = cupy.RawKernel(r'''
    extern "C" __global__ void shifted(float* y, const float* x)
    {
        __shared__ float tile[64];
        int i = threadIdx.x;
        tile[i] = x[i];
        BARRIER
        y[i] = tile[i ? i - 1 : 0];
    }
    ''', "shifted")
    x = cupy.arange(64, dtype=cupy.float32)
    y = cupy.empty_like(x)
    kernel((1,), (64,), (y, x))
    print(float(y[63]))
"""
OUTSIDE = """
    import cupy
    kernel = cupy.RawKernel(r'''
    extern "C" __global__ void twice(float* y, const float* x, int n)
    {
        int i = blockIdx.x * blockDim.x + threadIdx.x;
        if (i LIMIT n) y[i] = 2 * x[i];
    }
    ''', "twice")
    x = cupy.ones(31, cupy.float32)
    y = cupy.empty_like(x)
    kernel((1,), (32,), (y, x, cupy.int32(31)))
    print(float(y[30]))
"""
UNWRITTEN = """
    import cupy
    x = cupy.FUNCTION(100, cupy.float32)
    print(float((x + 1)[0]))
"""
UNORDERED = """
    import cupy
    x = cupy.arange(1000, dtype=cupy.float32)
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        y = x * 2
        WAIT
    print(float(y.sum()))
"""
NUMBA = """
    import warnings
    warnings.simplefilter("ignore")
    import numpy as np
    from numba import cuda

    @cuda.jit
    def shift(y, x):
        i = cuda.grid(1)
        y[i] = x[i + OFFSET]

    x, y = cuda.to_device(np.arange(64, dtype=np.float32)), cuda.device_array(64, np.float32)
    shift[1, 64](y, x)
    print(float(y.copy_to_host()[63]))
"""
CUBLAS = """
    import cupy
    import numpy as np
    from cupy_backends.cuda.libs import cublas
    handle, one, zero = cupy.cuda.get_cublas_handle(), np.ones(1, np.float32), np.zeros(1, np.float32)
    a, b = cupy.ones((3, 4), cupy.float32), cupy.ones((4, 5), cupy.float32)
    y = cupy.empty((3, 5), cupy.float32)
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        cublas.setStream(handle, stream.ptr)
        cublas.sgemm(handle, 0, 0, 5, 3, 4, one.ctypes.data, b.data.ptr, 5, a.data.ptr, 4,
                     zero.ctypes.data, y.data.ptr, 5)
        WAIT
    print(y.sum())
"""
GRAPH = """
    import cupy
    x = cupy.arange(1000, dtype=cupy.float32)
    y, z, w = cupy.empty_like(x), cupy.empty_like(x), cupy.empty_like(x)
    double, plus, copy = (
        cupy.ElementwiseKernel("float32 a", "float32 b", f"b = {value}", name)
        for name, value in {"double_it": "2 * a", "plus_one": "a + 1", "copy_it": "a"}.items()
    )
    main, side = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))
    def run():
        early = main.record()
        copy(x, w)
        side.wait_event(FORK)
        with side:
            double(w, y)
        REUSE
        copy(x, z)
        JOIN
        plus(y, z)
        main.wait_event(side.record())
    cupy.cuda.Device().synchronize()
    with main:
        for kernel in (double, plus, copy):
            kernel(x, z)
        main.begin_capture()
        run()
        graph = main.end_capture()
        for _ in range(2):
            graph.launch(main)
    main.synchronize()
    print(float(z.sum()))
"""
SOUND = {"FORK": "main.record()", "REUSE": "pass", "JOIN": "main.wait_event(side.record())"}


def branches(fault):
    """The program without the line at one place."""
    text = GRAPH
    for place, line in SOUND.items():
        text = text if place == fault else text.replace(place, line)
    return text, fault


PROGRAMS = {
    "a race": (RACE, "BARRIER", "", "__syncthreads();", "62.0",
        r"shifted: .* has a data race on __shared__ tile.* wrote at line 6 .* no barrier lies between \(line 8 "),
    "an access outside": (OUTSIDE, "LIMIT", "<=", "<", "2.0",
        r"twice: block \(0, 0, 0\), thread \(31, 0, 0\) reads .*: element 31 of argument 2, which has 31 .*\(line 5 "),
    "an uninitialised read": (UNWRITTEN, "FUNCTION", "empty", "zeros", "1.0", r"cupy_add.* is uninitialised"),
    "a missing synchronize": (UNORDERED, "WAIT", "pass", "stream.synchronize()", "999000.0",
        r"cupy_sum on the default stream reads .* cupy_multiply.* on stream \d+ uses, and nothing orders the two"),
    "a missing event": (UNORDERED, "WAIT", "event = cupy.cuda.Event(); event.record()",
        "event = cupy.cuda.Event(); event.record(); cupy.cuda.Stream.null.wait_event(event)", "999000.0",
        r"nothing orders the two: an event or a synchronize is missing"),
    "a product of cuBLAS that is not waited for": (
        CUBLAS, "WAIT", "pass", "stream.synchronize()", "60.0",
        r"cupy_sum on the default stream reads .* cublasSgemm on stream \d+ uses, and nothing orders the two"),
    "a missing join of branches of a graph": (
        *branches("JOIN"), "pass", SOUND["JOIN"], "1000000.0",
        r"plus_one on .*stream \d+ reads .* that double_it on .*stream \d+ uses, and nothing orders the two"),
    "a branch of a graph that begins too early": (
        *branches("FORK"), "early", SOUND["FORK"], "1000000.0",
        r"double_it on .*stream \d+ reads .* that copy_it on .*stream \d+ uses, and nothing orders the two"),
    "memory of a branch of a graph that is used again too early": (
        *branches("REUSE"), "copy(x, w)", SOUND["REUSE"], "1000000.0",
        r"copy_it on .*stream \d+ writes .* that double_it on .*stream \d+ uses, and nothing orders the two"),
    "an access outside by numba-cuda": (NUMBA, "OFFSET", "1", "0", "63.0",
        r"shift: .*thread \(63, 0, 0\) reads .*: element 64 of an array of 256 bytes, which has 64"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "place", "fault", "sound", "result", "sentence"), PROGRAMS.values(), ids=PROGRAMS)
def test_check_names_the_fault(emulated, text, place, fault, sound, result, sentence):
    done = emulated(text.replace(place, fault), check=True)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("gpucnn: emulated GPU: ")]
    assert re.search(sentence, line), line


def test_check_passes_the_sound_programs(emulated):
    programs = [textwrap.dedent(text.replace(place, sound)) for text, place, _, sound, *_ in PROGRAMS.values()]
    done = emulated(f"for program in {programs!r}: exec(program, {{}})", check=True)
    assert (done.returncode, "emulated GPU" in done.stderr) == (0, False), done.stderr
    assert done.stdout.split() == [result for *_, result, _ in PROGRAMS.values()]


def test_lazy_streams_show_a_missing_synchronize_in_the_result(output):
    assert output(UNORDERED.replace("WAIT", "pass"), lazy=0) == ["nan"]
    for seed in (0, 2):
        assert output(UNORDERED.replace("WAIT", "stream.synchronize()"), lazy=seed) == ["999000.0"]


def test_atomic_updates_by_two_streams_need_no_order(output):
    text = """
        import cupy
        kernel = cupy.RawKernel('extern "C" __global__ void count(int* n) { atomicAdd(n, 1); }', "count")
        n = cupy.zeros(1, cupy.int32)
        cupy.cuda.Device().synchronize()
        for _ in range(2):
            with cupy.cuda.Stream(non_blocking=True):
                kernel((1,), (32,), (n,))
        cupy.cuda.Device().synchronize()
        print(int(n[0]))
    """
    assert output(text, check=True) == ["64"]


def test_a_fault_stays_until_the_process_ends(output):
    text = """
        import cupy
        kernel = cupy.RawKernel('extern "C" __global__ void far(float* y) { ((float*)64)[0] = y[0]; }', "far")
        y = cupy.zeros(4, cupy.float32)
        kernel((1,), (1,), (y,))
        for call in (lambda: cupy.cuda.Device().synchronize(), lambda: y.get(), lambda: cupy.zeros(100_000)):
            try:
                call()
            except cupy.cuda.runtime.CUDARuntimeError as error:
                print(str(error).split(":")[0])
    """
    assert output(text) == ["cudaErrorIllegalAddress"] * 3


def test_gpucnn_blames_the_kernel_that_broke_the_gpu(emulated, tmp_path):
    (tmp_path / "far.cu").write_text('extern "C" __global__ void far(float* y)\n{\n    ((float*)64)[0] = y[0];\n}\n')
    text = f"""
        import numpy as np, gpucnn
        from gpucnn.devices import storage
        from gpucnn.devices.cuda import cuda_function
        from gpucnn.errors import KernelError
        with gpucnn.using(device="gpu"):
            y = storage.put(np.zeros(4, np.float32))
            try:
                cuda_function("{tmp_path}/far.cu", "far")[1, 1](y)
            except KernelError as error:
                print(error)
    """
    done = emulated(text, {"GPUCNN_SYNC": "1"})
    assert "gpu:0 is lost to this process" in done.stdout, done.stderr
    assert re.search(r"emulated GPU: far: .* accesses address 0x40, where there is no memory", done.stderr), done.stderr
