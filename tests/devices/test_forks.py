"""A forked child: it has none of its parent's threads, and none of their locks may stay locked."""

import os

import pytest
from needs import emulator_here
from processes import program

from gpucnn.devices import forks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

START = """
    import os, signal, sys, threading, traceback, warnings

    import numpy as np

    import gpucnn
    from gpucnn import Input, Sequential, layers
    from gpucnn.devices import threads

    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of every fork beside threads
    threads.use(2)
    model = Sequential([Input((32, 32, 3)), layers.Conv2D(16, 3), layers.Flatten(), layers.Dense(5)])
    x = np.random.default_rng(0).normal(size=(64, 32, 32, 3)).astype(np.float32)

    def in_child(task, seconds=60):
        '''The exit status of a child that runs the task; a child that hangs is killed.'''
        child = os.fork()
        if not child:
            signal.alarm(seconds)
            status = 1
            try:
                task()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def run(text):
    done = program(START + text)
    assert done.returncode == 0, done.stderr


def test_a_child_of_a_process_that_has_predicted_predicts_the_same_bits():
    run("""
    expected = model.predict(x, verbose=0).tobytes()

    def predict():
        assert model.predict(x, verbose=0).tobytes() == expected
        assert threads.in_use() == 2

    assert in_child(predict) == 0
    assert model.predict(x, verbose=0).tobytes() == expected, "the parent goes on"
    """)


def test_a_child_trains_where_the_parent_has_trained():
    run("""
    model.compile("sgd", "mse")
    y = np.zeros((64, 5), np.float32)
    model.fit(x, y, epochs=1, verbose=0)
    assert in_child(lambda: model.fit(x, y, epochs=1, verbose=0)) == 0
    """)


def test_a_child_that_is_forked_while_another_thread_predicts_has_its_own_pool_and_blas():
    run("""
    from threadpoolctl import threadpool_info

    def blas():
        return [pool["num_threads"] for pool in threadpool_info() if "numpy" in pool["filepath"]]

    before = blas()
    expected, stop = model.predict(x, verbose=0).tobytes(), threading.Event()

    def keep_predicting():
        while not stop.is_set():
            model.predict(x, verbose=0)

    def predict():
        assert blas() == before, blas()
        assert model.predict(x, verbose=0).tobytes() == expected

    thread = threading.Thread(target=keep_predicting)
    thread.start()
    try:
        assert {in_child(predict) for _ in range(20)} == {0}
    finally:
        stop.set()
        thread.join()
    """)


def test_a_fork_waits_for_a_thread_that_changes_plans():
    run("""
    import time

    from gpucnn.models import plans

    model.predict(x, verbose=0)
    held = threading.Event()

    def change():
        with plans.changing:
            held.set()
            time.sleep(0.2)

    thread = threading.Thread(target=change)
    thread.start()
    held.wait()
    assert in_child(lambda: model.predict(x, verbose=0), seconds=10) == 0
    thread.join()
    """)


def test_a_fork_waits_for_what_another_thread_holds():
    """The lock of the emulator, that of kernel files and Numba's: a child would wait for them in vain."""
    run("""
    import importlib

    from numba.core.compiler_lock import global_compiler_lock
    from gpucnn.devices.emulator import launching
    from gpucnn.dispatch import op

    model.predict(x, verbose=0)
    for lock in (launching._one_at_a_time, op._loading, global_compiler_lock):
        held, free = threading.Event(), threading.Event()

        def hold():
            with lock:
                held.set()
                free.wait(1)

        def take():
            with lock:
                pass

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        assert in_child(take, 20) == 0, lock
        free.set()
        thread.join()
        with lock:
            pass
    """)


@emulator_here
def test_a_child_that_is_forked_while_another_thread_launches_in_the_emulator_launches_too():
    run("""
    from gpucnn.devices import storage
    from gpucnn.ops.bias import bias

    stop = threading.Event()

    def add():
        with gpucnn.using(device="emulator"):
            y = bias(storage.put(np.ones((64, 64), np.float32)), storage.put(np.ones(64, np.float32)))
            assert (storage.get(y) == 2).all()

    def keep_adding():
        while not stop.is_set():
            add()

    add()
    thread = threading.Thread(target=keep_adding)
    thread.start()
    try:
        assert {in_child(add) for _ in range(10)} == {0}
    finally:
        stop.set()
        thread.join()
    """)


GPU = """
    from types import SimpleNamespace

    sys.path.insert(0, "tests/devices")
    from stand_in_cupy import StandIn

    from gpucnn.devices import choose, storage
    from gpucnn.errors import KernelError

    cupy = sys.modules["cupy"] = StandIn()

    def refused(call):
        try:
            call()
        except KernelError as error:
            assert "CUDA was in use before this process was forked" in str(error), error
            assert "multiprocessing.get_context('spawn')" in str(error), error
            return
        raise AssertionError(f"{call} is not refused")
"""


def test_a_child_says_that_the_gpu_of_its_parent_cannot_be_forked_and_uses_the_cpu():
    run(
        GPU
        + """
    class Array:
        '''One that NumPy does not take for its own, as those of CuPy.'''

        data = SimpleNamespace(device_id=0)

        def get(self):
            return np.zeros(3, np.float32)

    cupy.ndarray = Array
    choose.use("gpu")
    array = Array()

    def child():
        refused(lambda: storage.zeros((3,)))
        refused(lambda: storage.get(array))
        refused(lambda: storage.write(array, np.zeros(3, np.float32)))
        refused(lambda: gpucnn.use(device="gpu"))
        refused(lambda: model.predict(x, verbose=0))
        gpucnn.use("auto")
        assert choose.current().name == "cpu"
        assert np.isfinite(model.predict(x, verbose=0)).all()

    assert in_child(child) == 0
    assert storage.get(array).shape == (3,), "the parent goes on"
    """
    )


def test_a_child_may_open_a_gpu_that_its_parent_has_not_opened():
    run(
        GPU
        + """
    def child():
        choose.use("gpu")
        assert storage.zeros((3,)).shape == (3,)

    assert in_child(child) == 0

    def initialized_before_the_fork():
        raise RuntimeError("cudaErrorInitializationError: initialization error")

    cupy.cuda.runtime.getDeviceCount = initialized_before_the_fork
    assert in_child(lambda: refused(lambda: choose.use("gpu"))) == 0
    """
    )


@pytest.mark.skipif(not forks.is_possible(), reason="copies of the process compute on Linux alone")
def test_a_function_aside_runs_in_a_silent_process_whose_failure_does_not_matter():
    done = program(
        """
        import os
        from gpucnn.devices import forks

        read, write = os.pipe()

        def function():
            print("noise")
            os.write(write, str(os.getpid()).encode())
            raise SystemExit(3)

        forks.aside(function)
        os.close(write)
        print(int(os.read(read, 100)) != os.getpid())
        """
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["True"], "")
