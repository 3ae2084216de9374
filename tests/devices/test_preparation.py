"""What a recording computes from weights alone is computed again when, and only when, one has changed."""

import numpy as np
import pytest

from gpucnn.devices import recorders, threads
from gpucnn.devices.recorders import prepared
from gpucnn.devices.recording import Recording
from gpucnn.devices.team import tasks

pytestmark = pytest.mark.jit


@tasks
def double(i, y, x, launches):
    launches[0] += 1
    for k in range(x.shape[0]):
        y[k] = 2 * x[k]


@tasks
def add(i, z, y, x):
    for k in range(x.shape[0]):
        z[k] = y[k] + x[k]


class Doubled:
    """z = 2 · weight + x, recorded, where y = 2 · weight is prepared; `computed` arrays are the recording's."""

    def __init__(self, weight, x, most_bytes=1 << 20, computed=()):
        self.launches, self.z = np.zeros(1, np.int64), np.zeros_like(x)
        y = np.zeros_like(x)
        owned = [y, self.z, *computed]
        self.recording = Recording(lambda array: any(array is one for one in owned), most_bytes)
        with recorders.noted_by(self.recording):
            with prepared(y, weight, None) as self.y:
                double(1, self.y, weight, self.launches)
            add(1, self.z, self.y, x)
        self.recording.end()
        y[:] = np.nan  # as by a later result in the same memory
        self.launches[:] = 0

    def replay(self):
        """How often y has been computed."""
        self.launches[:] = 0
        self.z[:] = np.nan
        self.recording.replay()
        return int(self.launches[0])


@pytest.fixture(params=[3, 40_000], ids=["few numbers", "numbers for two threads"])
def weight(request):
    return np.linspace(1, 2, request.param, dtype=np.float32)


def test_it_is_computed_again_only_after_any_number_has_changed(weight):
    x = np.ones_like(weight)
    doubled = Doubled(weight, x)
    for place in (None, 0, len(weight) // 2, -1, None):
        if place is not None:
            weight[place] += 1
        x += 1
        assert doubled.replay() == (place is not None)
        np.testing.assert_array_equal(doubled.z, 2 * weight + x)


def test_bits_are_compared_not_values():
    weight = np.array([0.0, np.nan], np.float32)
    doubled = Doubled(weight, np.zeros_like(weight))
    assert doubled.replay() == 0
    weight[0] = -0.0
    assert doubled.replay() == 1
    assert np.signbit(doubled.z[0] + np.float32(-0.0)) == np.signbit(np.float32(0) + np.float32(-0.0))
    assert np.signbit(doubled.y[0])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_threads_finds_a_change(count):
    weight = np.zeros(100_001, np.float32)
    try:
        threads.use(count)
        doubled = Doubled(weight, np.zeros_like(weight))
        for place in range(0, len(weight), 8191):
            weight[place] = place + 1
            assert (doubled.replay(), doubled.z[place]) == (1, 2 * place + 2)
    finally:
        threads.use(None)


@pytest.mark.parametrize("case", ["no memory", "one byte too little", "a source in the recording's memory", "a gap"])
def test_what_cannot_be_prepared_is_computed_each_time(case):
    weight, x = np.ones(8, np.float32), np.ones(8, np.float32)
    needed = weight.nbytes + x.nbytes  # the copy of the weight, and y
    if case == "a gap":
        weight = np.ones(16, np.float32)[::2]
    computed = [weight] if case.startswith("a source") else []
    doubled = Doubled(weight, x, {"no memory": 0, "one byte too little": needed}.get(case, needed + 1), computed)
    for _ in range(2):
        weight += 1
        assert doubled.replay() == 1
        np.testing.assert_array_equal(doubled.z, 2 * weight + x)
    assert doubled.replay() == 1


@pytest.mark.parametrize("by", ["a launch", "a call"])
def test_what_follows_from_an_array_that_each_repetition_computes_is_computed_each_time(by):
    weight, launches = np.ones(4, np.float32), np.zeros((2, 1), np.int64)
    between, y = np.zeros((2, 4), np.float32)
    recording = Recording(lambda array: array is y, 1 << 20)
    with recorders.noted_by(recording):
        if by == "a launch":
            double(1, between, weight, launches[0])
        else:
            recorders.again(between.__setitem__, ..., 2 * weight)
        with prepared(y, between) as prepared_y:
            double(1, prepared_y, between, launches[1])
    recording.end()
    launches[:] = 0
    if by == "a launch":
        weight += 1
    recording.replay()
    assert launches[1] == 1
    np.testing.assert_array_equal(prepared_y, 8 if by == "a launch" else 4)


def test_with_memory_for_the_copy_and_the_result_it_is_prepared():
    weight = np.ones(8, np.float32)
    assert Doubled(weight, np.ones_like(weight), 2 * weight.nbytes + 1).replay() == 0


def chain(most_bytes):
    """(weight, its launches, a replay) where the second result is prepared from the first one, which is not the
    recording's and may be too large to be prepared."""
    weight, launches = np.ones(6, np.float32), np.zeros((2, 1), np.int64)
    first, second = np.zeros_like(weight), np.zeros_like(weight)
    recording = Recording(lambda array: array is second, most_bytes)
    with recorders.noted_by(recording):
        with prepared(first, weight) as one:
            double(1, one, weight, launches[0])
        with prepared(second, first) as two:
            double(1, two, one, launches[1])
    recording.end()

    def replay():
        launches[:] = 0
        recording.replay()
        return launches.ravel().tolist(), two.tolist()

    return weight, replay


@pytest.mark.parametrize(("most_bytes", "launches"), [(1 << 20, [0, 0]), (20, [1, 1])])
def test_what_follows_from_a_prepared_array_is_as_new_as_that(most_bytes, launches):
    weight, replay = chain(most_bytes)
    assert replay() == (launches, [4.0] * 6)
    weight[-1] = 3
    assert replay() == ([1, 1], [4.0] * 5 + [12.0])
    assert replay() == (launches, [4.0] * 5 + [12.0])


def test_an_interruption_leaves_the_work_to_the_next_repetition(monkeypatch):
    weight = np.ones(8, np.float32)
    doubled = Doubled(weight, np.zeros_like(weight))
    weight += 1

    def interrupted(x):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(doubled.recording, "_preparing", [interrupted])
        with pytest.raises(KeyboardInterrupt):
            doubled.replay()
    assert doubled.replay() == 1
    np.testing.assert_array_equal(doubled.z, 4)


def test_without_a_recording_the_result_is_the_given_array():
    y = np.zeros(3, np.float32)
    with prepared(y, y) as same:
        assert same is y
