"""Which arrays a kernel may meet: those of the device in use, contiguous, at addresses that its
widest loads need."""

import re

import numpy as np
import pytest
from needs import emulator_here, nvrtc_here

import gpucnn
from gpucnn.devices import choose, emulator, storage
from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.device import VECTOR
from gpucnn.errors import ArgumentError
from gpucnn.ops.bias import bias
from gpucnn.ops.matmul import matmul
from gpucnn.ops.update import sgd

ON = [pytest.param("cpu", id="cpu"), pytest.param("emulator", id="emulator", marks=emulator_here)]


def address(array):
    return (array.host if isinstance(array, emulator.EmulatedArray) else array).ctypes.data


def unaligned(values):
    """The values on the device in use, contiguous, one element behind a multiple of 16 bytes."""
    whole = storage.put(np.concatenate([np.zeros(1, values.dtype), values.ravel()]))
    array = whole[1:].reshape(values.shape)
    if choose.current().name == "cpu":  # NumPy is not asked for alignment there: kernels read single elements
        memory = np.zeros(values.nbytes + 1, np.uint8)
        array = memory[1:].view(values.dtype).reshape(values.shape)
        array[...] = values
    return array


@pytest.mark.parametrize("device", ON)
def test_operands_that_start_at_an_odd_address_are_copied(device, rng):
    a, b = (rng.integers(-2, 3, (64, 64)).astype(np.float32) for _ in range(2))
    with gpucnn.using(device=device), emulator.running(mode="check"):
        left, right = unaligned(a), unaligned(b)
        assert address(left) % VECTOR
        y = matmul(left, right, transpose_a=False, transpose_b=False)
        np.testing.assert_array_equal(storage.get(y), a @ b)
        np.testing.assert_array_equal(storage.get(left), a)


@pytest.mark.parametrize("device", ON)
def test_an_op_that_works_in_place_refuses_them(device):
    with gpucnn.using(device=device):
        values = unaligned(np.full(8, -1, np.float32))
        gradient, rate = storage.put(np.ones(8, np.float32)), storage.put(np.ones(1, np.float32))
        with pytest.raises(ArgumentError, match=r"sgd updates values in place: .*storage\.empty"):
            sgd(values, gradient, rate)
        assert (storage.get(values) == -1).all()


@pytest.mark.parametrize("device", ON)
def test_so_does_out(device):
    with gpucnn.using(device=device):
        x = storage.put(np.ones((4, 4), np.float32))
        with pytest.raises(ArgumentError, match=r"bias: out .*storage\.empty"):
            bias(x, x[0], out=unaligned(np.zeros((4, 4), np.float32)))


@emulator_here
def test_the_copy_remembers_what_was_never_written():
    with gpucnn.using("cuda", device="emulator"), emulator.running(mode="check"):
        whole = storage.empty((65,))
        with pytest.raises(emulator.LaunchError, match=r"reads x\[0, 0\], which is uninitialised"):
            bias(whole[1:].reshape(8, 8), storage.put(np.zeros(8, np.float32)))


# -- arrays of other devices -------------------------------------------------------------------------------------------


@emulator_here
def test_the_cpu_refuses_arrays_of_another_device():
    x = np.ones((2, 3), np.float32)
    with gpucnn.using(device="emulator"):
        foreign = storage.put(x[0])
    with pytest.raises(ArgumentError, match=r"bias: b is a EmulatedArray but the device in use is cpu: copy it there"):
        bias(x, foreign)


SOURCE = """
extern "C" __global__ void scale(float* y, const float* x, const float* table, int size)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) y[i] = table[0] * x[i];
}
"""
HOST_ARRAY = r"scale: table is an array of the host .*device in use is emulator.*gpucnn\.devices\.storage\.put"


def in_cuda(tmp_path):
    (tmp_path / "mine.cu").write_text(SOURCE)
    return cuda_function(tmp_path / "mine.cu", "scale")


def in_numba(tmp_path):
    from gpucnn.devices.numba_cuda import cuda, numba_function

    @numba_function
    def scale(y, x, table, size):
        i = cuda.grid(1)
        if i < size:
            y[i] = table[0] * x[i]

    return scale


@emulator_here
@pytest.mark.parametrize("function", [in_cuda, pytest.param(in_numba, marks=nvrtc_here)])
def test_a_launch_refuses_an_array_of_the_host(tmp_path, function):
    """On a GPU it would read whatever lies at that address of its own memory."""
    with gpucnn.using(device="emulator"):
        y, x = storage.empty((8,)), storage.put(np.ones(8, np.float32))
        scale = function(tmp_path)
        with pytest.raises(ArgumentError, match=HOST_ARRAY):
            scale[1, 32](y, x, np.ones(1, np.float32), 8)
        scale[1, 32](y, x, storage.put(np.full(1, 3, np.float32)), 8)
        np.testing.assert_array_equal(storage.get(y), np.full(8, 3))


@emulator_here
def test_a_kernel_that_is_given_an_array_of_the_host_is_wrong(tmp_path, monkeypatch):
    from gpucnn.dispatch import op
    from gpucnn.profiling import trials

    (tmp_path / "mine.cu").write_text(SOURCE)
    (tmp_path / "mine.py").write_text("""
import numpy as np
from gpucnn import cuda_function, kernel
from gpucnn.ops.rescaling import rescale

scale, TABLE = cuda_function(__file__, "scale"), np.ones(4, np.float32)


@kernel(rescale, "mine", "cuda")
def launch(y, x, **numbers):
    scale[-(-y.size // 256), 256](y, x, TABLE, y.size)
""")
    monkeypatch.setattr(op, "_kernels", {name: dict(kernels) for name, kernels in op._kernels.items()})
    (kernel,) = op.load(tmp_path / "mine.py")
    faults = [trial.fault() for trial in trials.trials([kernel], "emulator")]
    assert faults
    assert all(re.search(HOST_ARRAY, fault) for fault in faults)
