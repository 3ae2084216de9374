"""What is in use belongs to a thread or an asyncio task, not to the process."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from needs import emulator_here

import gpucnn
from gpucnn import Input, Sequential, layers
from gpucnn.devices import choose, emulator, storage, threads
from gpucnn.dispatch import choice
from gpucnn.errors import ArgumentError
from gpucnn.models import fusion
from gpucnn.ops.bias import bias


def in_use():
    return choose.current().name, choice.backends(), choice.algorithms(), emulator.settings().mode


@pytest.fixture
def elsewhere():
    """Runs a function in another thread, and waits for its result."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result(60)


@emulator_here
def test_using_in_one_thread_is_not_seen_by_another(elsewhere):
    before = in_use()
    with gpucnn.using("cuda", device="emulator", conv2d="direct"), emulator.running(mode="check"), fusion.off():
        assert in_use() == ("emulator", ("cuda",), {"conv2d": "direct"}, "check")
        assert elsewhere(in_use) == before
        assert elsewhere(fusion._enabled.get)
        x = np.ones((2, 3), np.float32)
        np.testing.assert_array_equal(elsewhere(bias, x, x[0]), 2 * x)
        assert isinstance(bias(storage.put(x), storage.put(x[0])), emulator.EmulatedArray)
    assert in_use() == before


def test_use_holds_in_all_threads_and_inside_using_until_its_end_in_one(elsewhere):
    gpucnn.use("numpy")
    assert elsewhere(choice.backends) == ("numpy",)
    with gpucnn.using("njit"):
        gpucnn.use("numpy", conv2d="reference")
        assert choice.algorithms() == {"conv2d": "reference"}
        assert elsewhere(in_use) == ("cpu", ("numpy",), {}, "fast")
    assert in_use() == ("cpu", ("numpy",), {}, "fast")


@emulator_here
def test_two_tasks_of_asyncio_have_their_own_devices():
    async def names(device, together):
        with gpucnn.using(device=device):
            first = choose.current().name
            await together.wait()
            second = choose.current().name
            await together.wait()
            return first, second

    async def both():
        together = asyncio.Barrier(2)
        return await asyncio.gather(names("emulator", together), names("cpu", together))

    assert asyncio.run(both()) == [("emulator", "emulator"), ("cpu", "cpu")]


@emulator_here
def test_the_threads_of_a_kernel_have_the_device_of_their_caller():
    together = threading.Barrier(2, timeout=60)
    names = []

    def task(i):
        together.wait()
        names.append(choose.current().name)

    threads.use(2)
    try:
        with gpucnn.using(device="emulator"):
            threads.run(task, 2)
    finally:
        threads.use()
    assert names == ["emulator", "emulator"]


def test_a_choice_decides_for_its_own_thread_alone(elsewhere, monkeypatch):
    """Decisions are cached by op: one that was made under another choice must not be met."""
    x = np.ones((2, 3), np.float32)
    served = []
    for kernel in bias.kernels(("njit", "numpy")).values():
        monkeypatch.setattr(type(kernel), "serves", lambda self, *a: served.append(self.id) or False)
    with gpucnn.using("numpy"):
        bias(x, x[0])
        elsewhere(bias, x, x[0])
        before = len(served)
        bias(x, x[0])
        elsewhere(bias, x, x[0])
    assert len(served) == before, "both are cached"


# -- models ------------------------------------------------------------------------------------------------------------


def model_and_input(built=True):
    first = [Input((16, 16, 3))] if built else []
    model = Sequential([*first, layers.Conv2D(8, 3, activation="relu"), layers.Flatten(), layers.Dense(5)])
    return model, np.random.default_rng(0).normal(size=(32, 16, 16, 3)).astype(np.float32)


@pytest.mark.parametrize("built", [True, False])
def test_models_predict_the_same_from_many_threads_from_the_first_call_on(built):
    for _ in range(20):
        gpucnn.utils.set_random_seed(0)
        model, x = model_and_input(built)
        start = threading.Barrier(4, timeout=60)

        def predict(model=model, x=x, start=start):
            start.wait()
            return [model.predict(x, verbose=0).tobytes() for _ in range(3)]

        with ThreadPoolExecutor(4) as pool:
            results = {bits for future in [pool.submit(predict) for _ in range(4)] for bits in future.result(60)}
        assert results == {model.predict(x, verbose=0).tobytes()}


@emulator_here
def test_a_model_that_computes_in_one_thread_cannot_be_moved_by_another(elsewhere):
    model, x = model_and_input()
    expected = model.predict(x, verbose=0)

    class Meanwhile(gpucnn.callbacks.Callback):
        def on_predict_batch_begin(self, batch, logs=None):
            def move():
                with gpucnn.using(device="emulator"):
                    model.predict(x[:1], verbose=0)

            with pytest.raises(ArgumentError, match=r"in use on cpu by another thread.*clone_model"):
                elsewhere(move)

    np.testing.assert_array_equal(model.predict(x, verbose=0, callbacks=[Meanwhile()]), expected)
    with gpucnn.using(device="emulator"):
        np.testing.assert_allclose(model.predict(x[:1], verbose=0), expected[:1], atol=1e-5)


def test_blas_has_its_threads_back_after_predictions_that_overlapped():
    from threadpoolctl import threadpool_info

    def blas():
        return [pool["num_threads"] for pool in threadpool_info() if "numpy" in pool["filepath"]]

    before, inside, leave = blas(), threading.Event(), threading.Event()

    def other():
        with threads.one_blas_thread():
            inside.set()
            leave.wait(60)

    with ThreadPoolExecutor(1) as pool:
        with threads.one_blas_thread():
            waiting = pool.submit(other)
            inside.wait(60)
        assert set(blas()) == {1}, "the other thread computes"
        leave.set()
        waiting.result(60)
    assert blas() == before


def test_a_thread_does_not_wait_for_the_work_of_another():
    """The pool has one thread, which the first caller keeps busy: the second does its work alone."""
    threads.use(2)
    entered, free = threading.Semaphore(0), threading.Event()

    def hold(i):
        entered.release()
        free.wait(60)

    try:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(threads.run, hold, 2)
            for _ in range(2):
                entered.acquire(timeout=60)
            done = []
            threads.run(done.append, 5)
            assert sorted(done) == list(range(5))
            assert not first.done()
            free.set()
            first.result(60)
    finally:
        free.set()
        threads.use()


def test_work_inside_of_work_does_not_wait_for_itself():
    threads.use(2)
    try:
        done = []
        threads.run(lambda i: threads.run(lambda j: done.append((i, j)), 3), 3)
        assert sorted(done) == [(i, j) for i in range(3) for j in range(3)]
    finally:
        threads.use()
