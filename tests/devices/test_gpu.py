"""The GPU device on a GPU itself: kernels of both languages, captures, cuBLAS."""

import needs
import numpy as np
import pytest

from gpucnn.devices import choose, storage
from gpucnn.dispatch import choice
from gpucnn.ops.activation import activation_grad
from gpucnn.profiling import timing, trials


@pytest.mark.gpu
@needs.gpu_here
@pytest.mark.parametrize("language", ["cuda", "numba"])
def test_a_kernel_of_each_language_computes_is_timed_and_captured(language):
    kernel = next(k for k in trials.every_kernel(f"matmul/naive_{language}") if k.op.name == "matmul")
    assert not [t.fault() for t in trials.trials([kernel], "gpu:0") if t.fault()]
    with trials.running("gpu:0"):
        rng = np.random.default_rng(0)
        a, b = (rng.random((64, 64), np.float32) for _ in range(2))
        y, left, right = storage.empty((64, 64)), storage.put(a), storage.put(b)

        def run():
            kernel.launch(y, left, right, transpose_a=False, transpose_b=False)

        measured = timing.measure(run, timing.Effort(5, 0.01, 1e9, 2.0))
        assert 1e-7 < measured.hot.median < 1e-3
        assert 1e-7 < measured.cold.median < 1e-3
        y[...] = 0
        choose.current().synchronize()
        clock = timing.clock_of_device()
        clock.hot(clock.prepare(run, 3))
        np.testing.assert_allclose(storage.get(y), a @ b, rtol=1e-4)


@pytest.mark.gpu
@needs.gpu_here
@pytest.mark.parametrize(("backend", "slope"), [("cuda", 0.0), ("numba", 1.0)])
def test_numbers_below_the_normal_ones_are_zero_in_cuda_cpp_alone(backend, slope):
    """CuPy compiles with -ftz=true; numba-cuda and NumPy do not."""
    x, dy = (np.full(8, value, np.float32) for value in (1e-40, 1.0))
    relu = {"function": "relu", "alpha": 0.0}
    with choice.using(backend, device="gpu"):
        assert storage.get(activation_grad(storage.put(dy), storage.put(x), **relu)).tolist() == [slope] * 8
    assert activation_grad.reference(dy, x, **relu).tolist() == [1.0] * 8


@pytest.mark.gpu
@needs.gpu_here
def test_a_capture_that_breaks_names_its_reason_and_the_gpu_goes_on():
    with trials.running("gpu:0"):
        x = storage.put(np.ones(4, np.float32))
        with pytest.raises(Exception, match="cudaErrorStreamCaptureUnsupported"):
            choose.current().record(choose.current().synchronize)
        assert storage.get(x).tolist() == [1.0] * 4


@pytest.mark.gpu
@needs.gpu_here
def test_cublas_computes_and_can_be_captured():
    with trials.running("gpu:0"):
        rng = np.random.default_rng(0)
        a, b = rng.random((3, 4), np.float32), rng.random((5, 4), np.float32)
        y, left, right = storage.zeros((3, 5)), storage.put(a), storage.put(b)
        (product,) = trials.every_kernel("matmul/cublas_cuda")

        def run():
            product.launch(y, left, right, transpose_a=False, transpose_b=True)

        clock = timing.clock_of_device()
        clock.warm_up(run)
        y[...] = 0
        choose.current().synchronize()
        clock.hot(clock.prepare(run, 2))
        np.testing.assert_allclose(storage.get(y), a @ b.T, rtol=1e-5)
