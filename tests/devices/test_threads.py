"""Threads: slices that depend on the batch alone, all work done exactly once, errors that reach the
caller, equal bits."""

import threading

import numpy as np
import pytest

from gpucnn.devices import threads
from gpucnn.errors import ArgumentError
from gpucnn.ops.batchnorm import batchnorm, batchnorm_grad
from gpucnn.ops.bias_activation import bias_activation_grad
from gpucnn.ops.conv2d import conv2d_grad_weight
from gpucnn.ops.fused import conv2d_maxpool_grad_input, conv2d_maxpool_grad_weight
from gpucnn.ops.matmul import matmul


@pytest.fixture(autouse=True)
def _default_threads():
    yield
    threads.use()


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 100, 1003])
@pytest.mark.parametrize("smallest", [1, 3, 64])
def test_slices_cover_a_batch_once_and_differ_by_one_at_most(n, smallest):
    slices = threads.slices(n, smallest)
    assert [i for s in slices for i in range(s.start, s.stop)] == list(range(n))
    lengths = [s.stop - s.start for s in slices]
    assert max(lengths) - min(lengths) <= 1
    assert len(slices) <= threads.SLICES
    assert len(slices) == 1 or min(lengths) >= smallest


def test_slices_do_not_depend_on_the_number_of_threads():
    results = []
    for number in (1, 2, 5):
        threads.use(number)
        results.append(threads.slices(100))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 20])
@pytest.mark.parametrize("parallel", [True, False])
def test_every_task_runs_exactly_once(number, count, parallel):
    threads.use(number)
    done = []
    threads.run(done.append, count, parallel=parallel)
    assert sorted(done) == list(range(count))


def test_two_threads_work_at_the_same_time():
    threads.use(2)
    together = threading.Barrier(2, timeout=200)
    threads.run(lambda i: together.wait(), 2)


def test_small_work_stays_in_the_calling_thread():
    threads.use(2)
    names = set()
    threads.run(lambda i: names.add(threading.current_thread()), 8, parallel=False)
    assert names == {threading.current_thread()}


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("failing", range(4))
def test_an_error_in_a_task_reaches_the_caller(number, failing):
    threads.use(number)

    def task(i):
        if i == failing:
            raise RuntimeError(f"task {i}")

    with pytest.raises(RuntimeError, match=f"task {failing}"):
        threads.run(task, 4)
    done = []
    threads.run(done.append, 4)
    assert sorted(done) == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [0, -1])
def test_fewer_than_one_thread_is_refused(count):
    with pytest.raises(ArgumentError, match=f"threads={count} is out of range"):
        threads.use(count)


def test_there_is_one_thread_for_each_available_core(monkeypatch):
    threads.use()
    assert threads.in_use() == threads.available() >= 1
    monkeypatch.setattr(threads, "_threads", 0)
    assert threads.in_use() == threads.available()


def test_without_an_affinity_call_the_cores_are_counted(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert threads.available() == 1


def test_blas_has_one_thread_inside_and_its_own_number_outside():
    from threadpoolctl import threadpool_info, threadpool_limits

    def blas():
        """Those of NumPy's BLAS; gpucnn leaves those of other libraries alone."""
        return [pool["num_threads"] for pool in threadpool_info() if "numpy" in pool["filepath"]]

    with threadpool_limits(2):
        before = blas()
        if not before:
            pytest.skip("NumPy's BLAS is not among the libraries that threadpoolctl lists")
        with threads.one_blas_thread():
            assert set(blas()) == {1}
        assert blas() == before


WINDOW = {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}


def _sums(rng):
    """The ops that add up over the batch, on operands that are large enough for several threads."""
    dy, x = rng.standard_normal((33, 12, 12, 20), np.float32), rng.standard_normal((33, 12, 12, 9), np.float32)
    pooled, index = rng.standard_normal((33, 6, 6, 20), np.float32), rng.integers(0, 5, (33, 6, 6, 20)).astype(np.uint8)
    weight = rng.standard_normal((3, 3, 9, 20), np.float32)
    a, b = rng.standard_normal((300, 200), np.float32), rng.standard_normal((200, 130), np.float32)
    tall = np.tile(dy, (3, 1, 1, 1))
    window = {"kernel_size": (3, 3), **WINDOW}
    return {
        "conv2d_grad_weight": lambda: conv2d_grad_weight(dy, x, groups=1, **window),
        "pooled weight": lambda: conv2d_maxpool_grad_weight(pooled, index, x, **window)[0],
        "pooled bias": lambda: conv2d_maxpool_grad_weight(pooled, index, x, **window)[1],
        "pooled input": lambda: conv2d_maxpool_grad_input(pooled, index, weight, size=(12, 12), **WINDOW),
        "bias_activation_grad": lambda: bias_activation_grad(tall, tall, function="tanh", alpha=0.0)[1],
        "batchnorm": lambda: batchnorm(tall, None, None, epsilon=1e-3)[1],
        "batchnorm_grad": lambda: batchnorm_grad(tall, -tall, None, tall[0, 0, 0], tall[0, 0, 1] ** 2, epsilon=1e-3)[1],
        "matmul": lambda: matmul(a, b, transpose_a=False, transpose_b=False),
    }


@pytest.mark.parametrize(
    "name",
    [
        "conv2d_grad_weight",
        "pooled weight",
        "pooled bias",
        "pooled input",
        "bias_activation_grad",
        "batchnorm",
        "batchnorm_grad",
    ],
)
def test_sums_over_the_batch_have_the_same_bits_on_any_number_of_threads(name, rng):
    compute = _sums(rng)[name]
    results = []
    for number in (1, 2, 3, 8):
        threads.use(number)
        results.append(compute().tobytes())
    assert len(set(results)) == 1


def test_a_product_has_the_same_bits_on_any_number_of_threads(rng):
    compute = _sums(rng)["matmul"]
    results = []
    with threads.one_blas_thread():
        for number in (1, 2, 3):
            threads.use(number)
            results.append(compute().tobytes())
    assert len(set(results)) == 1
