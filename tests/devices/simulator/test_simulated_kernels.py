"""numba kernels as Python in Numba's simulator, where a debugger can stop them.

One interpreter thread stands for each CUDA thread, so the cases are tiny; whether a kernel is right
is the business of tests/kernels/test_agreement.py. Kernels with warp operations cannot run here.
"""

import importlib

import numba
import numpy as np
import pytest

from gpucnn.devices import choose, storage
from gpucnn.devices.launchable import Geometry
from gpucnn.devices.numba_cuda import cuda, numba_function
from gpucnn.dispatch import choice
from gpucnn.dispatch.op import declared
from gpucnn.errors import KernelError

TRIALS = [
    ("matmul", "naive", "outer"),
    ("matmul", "tiled", "both_transposed"),
    ("conv2d", "direct", "one_pixel"),
    ("conv2d", "direct", "textbook"),
    ("conv2d_grad_input", "direct", "one_pixel"),
    ("conv2d_grad_input", "direct", "textbook"),
    ("conv2d_grad_weight", "direct", "one_pixel"),
    ("conv2d_grad_weight", "direct", "textbook"),
    ("conv3d", "direct", "one_cell"),
    ("maxpool2d", "direct", "one_pixel"),
]


@pytest.fixture(autouse=True)
def _simulator():
    with choice.using("numba", device="simulator"):
        yield


@pytest.mark.parametrize(("op", "algorithm", "case"), TRIALS, ids=["-".join(trial) for trial in TRIALS])
def test_kernel_agrees_with_reference(op, algorithm, case):
    for family in ("matmul", "conv2d", "conv3d", "pool2d"):
        importlib.import_module(f"gpucnn.ops.{family}")
    called = declared()[op]
    (chosen,) = [c for c in called.cases if c.name == case]
    rng = np.random.default_rng(0)
    operands = [draw.sample(rng, exact=True) for draw in chosen.operands]
    results = called(*map(storage.put, operands), algorithm=algorithm, **chosen.params)
    expected = called.reference(*operands, **chosen.params)
    for got, right in zip(_as_tuple(results), _as_tuple(expected), strict=True):
        np.testing.assert_array_equal(storage.get(got), right)


def _as_tuple(value):
    return value if isinstance(value, tuple) else (value,)


@numba_function
def reversed_in_shared_memory(y, x):
    values = cuda.shared.array(0, numba.float32)
    i = cuda.threadIdx.x
    values[i] = x[i]
    cuda.syncthreads()  # waits until all values are there
    y[i] = values[cuda.blockDim.x - 1 - i]


def test_shared_memory_may_be_dynamic():
    x = storage.put(np.arange(8, dtype=np.float32))
    y = storage.empty(x.shape)
    reversed_in_shared_memory[1, 8, x.nbytes](y, x)
    np.testing.assert_array_equal(storage.get(y), np.arange(8)[::-1])


def test_a_place_beyond_an_array_is_an_error():
    x = storage.empty((4,))
    with pytest.raises(IndexError, match="tid"):
        reversed_in_shared_memory[1, 8, 32](x, x)


def test_kernels_of_the_other_backend_are_refused():
    with pytest.raises(KernelError, match="runs numba"):
        choose.current().launch_cuda("matmul_naive", Geometry((1,), (1,)), [])
