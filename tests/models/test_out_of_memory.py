"""Out of memory: a typed error with sizes and the batch that fits, after which a smaller batch passes."""

import sys

import numpy as np
import pytest
from processes import program

import gpucnn
from gpucnn import Input, Sequential, initializers, layers
from gpucnn.devices import choose, cpu, free_memory, storage
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.errors import MemoryNeedError, ShapeError
from gpucnn.ops.bias import bias

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="limits the address space of a process")

START = """
    import re, resource, sys

    import numpy as np

    import gpucnn
    from gpucnn import Input, Sequential, layers
    from gpucnn.errors import MemoryNeedError

    gpucnn.utils.set_random_seed(0)
    convolutions = [layers.Conv2D(32, 3), layers.Conv2D(32, 3)]
    model = Sequential([Input((64, 64, 3)), *convolutions, layers.Flatten(), layers.Dense(2)])
    model.compile("adam", "mse")
    x, y = np.zeros((4096, 64, 64, 3), np.uint8), np.zeros((4096, 2), np.float32)
    model.fit(x[:16], y[:16], verbose=0)
    model.predict(x[:16], verbose=0)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (700 << 20), -1))

    def refused(call):
        try:
            call()
        except MemoryNeedError as error:
            message = str(error)
        print(message)
        assert "a batch of 4096 images does not fit into the memory of cpu" in message
        assert re.search(r"an array of \\(.*\\) float32, [\\d.]+ [MG]B, and [\\d.]+ [kMG]B is free", message)
        return int(re.search(r"the largest batch size that fits is about (\\d+)", message)[1])
"""


@on_linux
@pytest.mark.parametrize(
    "call",
    [
        "model.fit(x, y, batch_size=size, epochs=1, verbose=0)",
        "model.evaluate(x[:2 * size], y[:2 * size], batch_size=size, verbose=0)",
        "model.predict(x[:2 * size], batch_size=size, verbose=0)",
        "model.train_on_batch(x[:size], y[:size])",
        "model.fit(((x[:size], y[:size]) for _ in range(2)), steps_per_epoch=2, epochs=1, verbose=0)",
    ],
    ids=["fit", "evaluate", "predict", "train_on_batch", "generator"],
)
def test_a_batch_that_does_not_fit_is_refused_with_one_that_does(call):
    done = program(
        START
        + f"""
    size = 4096
    before = [w.tobytes() for w in model.get_weights()]
    size = refused(lambda: {call})
    assert 1 <= size < 2048, size
    assert [w.tobytes() for w in model.get_weights()] == before, "nothing was trained"
    {call}
    """
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "", "nothing is printed, by __del__ least of all"


def failing(times):
    """np.empty that fails for large arrays this often."""
    real, left = np.empty, [times]

    def empty(shape, *rest, **more):
        if np.prod(shape) > 100_000 and left[0]:
            left[0] -= 1
            raise MemoryError("Unable to allocate")
        return real(shape, *rest, **more)

    return empty


@pytest.fixture
def pool(monkeypatch):
    """A pool of the CPU's with nothing but free memory."""
    monkeypatch.setattr(cpu, "_memory", cpu._Memory())
    storage.empty((54_321,))
    assert cpu.CPU.idle_bytes
    return cpu.CPU


def test_the_pool_is_freed_before_one_retry(monkeypatch, pool):
    monkeypatch.setattr(cpu.np, "empty", failing(2))
    array = storage.empty((80_000_000,))
    assert array.shape == (80_000_000,)
    assert not pool.idle_bytes


def test_memory_is_taken_in_smaller_pieces_where_large_ones_fail(monkeypatch, pool):
    pool.release()
    monkeypatch.setattr(cpu.np, "empty", failing(1))
    array = storage.empty((64_000,))
    assert array.shape == (64_000,)
    assert not pool.idle_bytes


def test_a_second_failure_is_an_error_with_sizes(monkeypatch, pool):
    monkeypatch.setattr(cpu.np, "empty", failing(4))
    with pytest.raises(
        MemoryNeedError, match=r"an array of \(1230, 456000\) float64, 4.5 GB, and [\d.]+ .B is free"
    ) as caught:
        storage.empty((1230, 456000), np.float64)
    assert caught.value.__suppress_context__
    assert storage.empty((1230, 456000), np.float64).size, "the next one may fit"


@pytest.fixture
def large_workspace(monkeypatch):
    """Kernels of bias of which one wants a workspace of 2**31 elements."""
    from gpucnn.dispatch import op as op_module

    monkeypatch.setattr(op_module, "_kernels", {name: dict(found) for name, found in op_module._kernels.items()})
    monkeypatch.setattr(bias, "prefer", ("large", "small"))

    @kernel(bias, "large", "numpy", workspace=lambda x, b: Spec((1 << 16, 1 << 15), np.dtype("uint8")))
    def large(y, x, b, scratch):
        y[...] = 7

    return lambda: kernel(bias, "small", "numpy")(lambda y, x, b: np.copyto(y, 5))


def test_a_workspace_counts_among_the_arrays_that_kernels_can_index(large_workspace):
    x = np.zeros((2, 3), np.float32)
    with gpucnn.using("numpy"):
        with pytest.raises(ShapeError, match=r"bias: the workspace of bias/\w+ would have 2,147,483,648 elements"):
            bias(x, x[0])
        large_workspace()
        assert (bias(x, x[0]) == 5).all(), "a kernel that needs none serves"


def test_a_model_that_does_not_fit_at_all_is_told_so(monkeypatch, pool):
    model = Sequential([Input((8, 8, 1)), layers.Flatten(), layers.Dense(200)])
    pool.release()
    monkeypatch.setattr(type(choose.current()), "free_bytes", lambda self: 1000)
    monkeypatch.setattr(cpu.np, "empty", failing(10**9))
    with pytest.raises(MemoryNeedError, match="no batch fits: use a smaller model or smaller images"):
        model.predict(np.zeros((5000, 8, 8, 1), np.float32), batch_size=5000, verbose=0)


@pytest.mark.parametrize("free", [10**9, None], ids=["known", "unknown"])
def test_weights_that_do_not_fit_are_refused_with_their_sizes_before_any_is_drawn(monkeypatch, free):
    monkeypatch.setattr(free_memory, "available", lambda: free)
    drawn = []

    class Drawn(initializers.Initializer):
        def __call__(self, shape, dtype=None):
            drawn.append(shape)
            raise MemoryError("Unable to allocate")

    model = [Input((4,)), layers.Dense(2**31 - 1, kernel_initializer=Drawn())]
    with pytest.raises(MemoryNeedError) as caught:
        Sequential(model)
    assert str(caught.value) == (
        "kernel of shape (4, 2147483647) needs 68.7 GB for values and gradient, and "
        f"{'1.0 GB' if free else 'unknown'} is free: use a smaller layer"
    )
    assert bool(drawn) == (free is None)


def test_weights_that_fit_are_created_as_before(monkeypatch):
    monkeypatch.setattr(free_memory, "available", lambda: 2 * 4 * 5000**2)
    assert Sequential([Input((5000,)), layers.Dense(5000, use_bias=False, kernel_initializer="zeros")]).built
    monkeypatch.setattr(free_memory, "available", lambda: 2 * 4 * 5000**2 - 1)
    with pytest.raises(MemoryNeedError, match=r"kernel of shape \(5000, 5000\) needs 200 MB for values and gradient"):
        Sequential([Input((5000,)), layers.Dense(5000, use_bias=False)])
