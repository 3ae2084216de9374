"""Tasks of compiled kernels: each done exactly once, on several threads at a time, from any thread, after
forks and changes of the number of threads."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from processes import program

from gpucnn.devices import team, threads
from gpucnn.devices.njit import unavailable

pytestmark = pytest.mark.skipif(unavailable() is not None, reason="Numba does not compile")


@pytest.fixture(autouse=True)
def _default_threads():
    yield
    threads.use()


@team.tasks
def count_up(i, done, amount):
    done[i] += amount


_ROUNDS = 1 << 18


@team.tasks
def wait_for_all(i, arrived, most):
    """Each task waits until all have begun, which a thread alone never sees."""
    team._add(arrived, 0, 1)
    rounds = 0
    while team._read(arrived, 0) < most and rounds < _ROUNDS:
        team._pause()
        rounds += 1
    arrived[1 + i] = rounds < _ROUNDS


def all_at_once(number):
    """Whether so many threads are soon seen at work at a time: this machine may be busy otherwise."""
    for _ in range(500):
        arrived = np.zeros(1 + number, np.int64)
        wait_for_all(number, arrived, number)
        if arrived.tolist() == [number] + [1] * number:
            return True
    return False


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 20, 1000])
@pytest.mark.parametrize("parallel", [True, False])
def test_every_task_runs_exactly_once(number, count, parallel):
    threads.use(number)
    done = np.zeros(count + 1, np.int64)
    for _ in range(3):
        count_up(count, done, 2, parallel=parallel)
    assert done.tolist() == [6] * count + [0]


@pytest.mark.parametrize("number", [2, 3])
def test_so_many_threads_work_at_the_same_time(number):
    threads.use(number)
    assert all_at_once(number)


def test_threads_that_have_gone_to_sleep_wake_up():
    threads.use(2)
    for _ in range(3):
        assert all_at_once(2)
        deadline = time.monotonic() + 60
        while not team._team._asleep and time.monotonic() < deadline:
            time.sleep(0.001)
        assert team._team._asleep


def test_several_python_threads_may_call_at_once():
    threads.use(2)

    def many(_):
        done = np.zeros(50, np.int64)
        for _ in range(200):
            count_up(50, done, 1)
        return done.tolist()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(many, range(8))) == [[200] * 50] * 8


def test_another_number_of_threads_ends_those_there_were():
    threads.use(3)
    count_up(4, np.zeros(4, np.int64), 1)
    assert sum(thread.name.startswith("gpucnn-") for thread in threading.enumerate()) == 2
    threads.use(1)
    assert not any(thread.name.startswith("gpucnn-") for thread in threading.enumerate())
    count_up(4, np.zeros(4, np.int64), 1)
    assert not any(thread.name.startswith("gpucnn-") for thread in threading.enumerate())


def test_a_forked_child_has_threads_of_its_own_and_the_process_ends_with_threads_at_work(tmp_path):
    (tmp_path / "counting.py").write_text(
        "from gpucnn.devices import team\n\n@team.tasks\ndef count_up(i, done):\n    done[i] += 1\n"
    )
    done = program(
        """
        import os, warnings
        import numpy as np
        from counting import count_up
        from gpucnn.devices import team, threads

        warnings.simplefilter("ignore", DeprecationWarning)  # of forks next to threads
        threads.use(2)
        done = np.zeros(9, np.int64)
        count_up(9, done)
        child = os.fork()
        count_up(9, done)
        assert done.tolist() == [2] * 9 and team._team is not None
        if child:
            assert os.waitpid(child, 0)[1] == 0
            print("whole")
        """,
        PYTHONPATH=str(tmp_path),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "whole\n", "")
