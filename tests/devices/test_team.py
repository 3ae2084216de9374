"""Tasks of compiled kernels: each done exactly once, on several threads at a time, from any thread, after
forks and changes of the number of threads."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from needs import numba_here
from processes import program

from gpucnn.devices import team, threads
from gpucnn.devices.atomics import CLOCK, add, pause, read

pytestmark = numba_here


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
    add(arrived, 0, 1)
    rounds = 0
    while read(arrived, 0) < most and rounds < _ROUNDS:
        pause()
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


@team.tasks
def take_the_other(i, control):
    """Task 0 takes task 1 for a helper, which then has no processor to do it."""
    add(control, team._WORD, 1)


@pytest.fixture
def control(monkeypatch):
    """The control array of a team whose helpers do nothing by themselves."""
    lonely = team._Team(0)
    monkeypatch.setattr(team, "_team", lonely)
    return lonely.control


def be_late(control, shared_since):
    """A kernel of which a helper ends its task some ms too late, shared since a time ago (ns)."""
    ended, control[team._WORD] = np.int64(2 << 32 | 2), 0

    def help_out():
        while control[team._WORD] != ended:
            time.sleep(0.001)
        time.sleep(0.02)
        control[team._DONE] += 1

    helper = threading.Thread(target=help_out)
    helper.start()
    control[team._UNTIL] = time.clock_gettime_ns(CLOCK) - shared_since
    take_the_other(2, control)
    helper.join()


needs_clock = pytest.mark.skipif(CLOCK is None, reason="kernels are always shared here")


@needs_clock
def test_kernels_are_not_shared_for_ever_longer_with_helpers_that_are_late_again_and_again(control):
    lengths = []
    while len(lengths) < 3:  # a time that is too long was this thread's own
        be_late(control, shared_since=0)
        if control[team._FOR] in (0, *lengths):
            control[team._FOR], lengths = 0, []
        else:
            lengths.append(int(control[team._FOR]))
    assert lengths == [team._SHORTEST, 2 * team._SHORTEST, 4 * team._SHORTEST]


@needs_clock
def test_kernels_are_shared_again_at_once_with_helpers_that_are_seldom_late(control):
    control[team._FOR] = team._LONGEST
    be_late(control, shared_since=10**12)
    assert control[team._FOR] == 0
    assert control[team._UNTIL] <= time.clock_gettime_ns(CLOCK)


@needs_clock
def test_helpers_that_take_no_tasks_in_most_of_the_time_are_left_alone(control):
    shared, missed = team._SHARED, team._MISSED
    control[shared], control[missed] = team._WINDOW, team._WINDOW // 3
    count_up(2, np.zeros(2, np.int64), 1)
    assert control[team._FOR] == control[shared] == control[missed] == 0
    control[shared] = control[missed] = team._WINDOW
    before = time.clock_gettime_ns(CLOCK)
    count_up(2, np.zeros(2, np.int64), 1)
    assert control[team._FOR] == team._SHORTEST
    assert before < control[team._UNTIL] - team._SHORTEST < time.clock_gettime_ns(CLOCK)


@needs_clock
def test_helpers_that_sleep_are_not_missed(control):
    control[team._RESTING] = 1
    count_up(2, np.zeros(2, np.int64), 1)
    assert control[team._SHARED] == control[team._MISSED] == 0


@needs_clock
def test_kernels_that_are_not_shared_leave_no_task_to_helpers(control):
    control[team._UNTIL] = 1 << 62
    done = np.zeros(5, np.int64)
    count_up(5, done, 1)
    assert done.tolist() == [1] * 5
    assert control[team._WORD] == 0


@needs_clock
def test_nobody_is_woken_for_kernels_that_are_not_shared():
    threads.use(2)
    count_up(2, np.zeros(2, np.int64), 1)
    control = team._team.control
    deadline = time.monotonic() + 60
    while not team._team._asleep and time.monotonic() < deadline:
        time.sleep(0.001)
    control[team._UNTIL] = 1 << 62
    count_up(2, np.zeros(2, np.int64), 1)
    assert len(team._team._asleep) == 1
    control[team._UNTIL] = 0
    assert all_at_once(2)


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
