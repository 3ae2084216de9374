"""Calls of ops that are recorded, and repeated."""

import sys

import numpy as np
import pytest

from gpucnn.devices import storage
from gpucnn.dispatch.choice import using
from gpucnn.dispatch.tape import Rehearsal, Tape, onto, recording
from gpucnn.ops.activation import softmax
from gpucnn.ops.pool2d import maxpool2d

WINDOW = {"pool": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}


@pytest.mark.parametrize("backend", ["njit", "numpy"])
def test_a_tape_repeats_calls_on_another_input(backend):
    x = np.zeros((2, 4, 4, 1), np.float32)
    tape = Tape(1 << 20)
    with using(backend), tape.recording():
        y = softmax(maxpool2d(x, **WINDOW).reshape(2, 4))
    assert recording() is None
    tape.end(x)
    x = np.zeros((2, 4, 4, 1), np.float32)
    x[0, 3, 3] = x[1, 0, 0] = 50
    tape.replay(x)
    assert tape.complete
    np.testing.assert_array_equal(y.argmax(axis=1), [3, 0])


def test_a_tape_repeats_each_kernel_by_itself_to_time_it():
    x = np.zeros((2, 4, 4, 1), np.float32)
    tape = Tape(1 << 20)
    with using("njit"), tape.recording():
        y = softmax(maxpool2d(x, **WINDOW).reshape(2, 4))
    tape.end(x)
    x = np.zeros((2, 4, 4, 1), np.float32)
    x[0, 3, 3] = x[1, 0, 0] = 50
    times = tape.times(x)
    assert [run and run.kernel.op.name for run, _ in times] == ["maxpool2d", "softmax"]
    assert all(seconds > 0 for _, seconds in times)
    np.testing.assert_array_equal(y.argmax(axis=1), [3, 0])
    x[0, 3, 3], x[0, 0, 3] = 0, 50
    tape.replay(x)
    np.testing.assert_array_equal(y.argmax(axis=1), [1, 0])


@pytest.mark.parametrize("backend", ["njit", "numpy"])
def test_a_tape_holds_its_input_only_while_it_replays(backend):
    x = storage.zeros((1, 2, 2, 1))
    x_lies_on, tape = x.base, Tape(1 << 20)
    with using(backend), tape.recording():
        maxpool2d(x, **WINDOW)
    tape.end(x)
    tape.replay(x)
    assert sys.getrefcount(x_lies_on) == 3


def test_what_is_no_longer_needed_makes_room():
    x = np.ones((1, 64), np.float32)
    tape = Tape(600)
    with tape.recording():
        for _ in range(4):
            x = softmax(x)
    tape.end()
    before = x.copy()
    tape.replay()
    assert tape.complete
    np.testing.assert_array_equal(x, before)


def test_a_tape_that_needs_too_much_memory_is_not_complete():
    tape = Tape(20)
    with tape.recording():
        softmax(np.zeros((2, 3), np.float32))
    assert not tape.complete


def test_copies_of_operands_are_repeated():
    x = np.zeros((1, 4, 4, 2), np.float32)
    tape = Tape(1 << 20)
    with tape.recording():
        y = maxpool2d(x[..., :1], **WINDOW)
    tape.end()
    x[...] = 3
    tape.replay()
    assert y.min() == 3


def test_a_part_of_the_input_that_is_read_by_python_makes_a_tape_incomplete():
    x = np.zeros((1, 4, 4, 2), np.float32)
    tape = Tape(1 << 20)
    with tape.recording():
        maxpool2d(x[..., :1], **WINDOW)
    tape.end(x)
    assert not tape.complete


def test_a_rehearsal_notes_launches_without_computing():
    x = np.ones((1, 4, 4, 1), np.float32)
    rehearsal = Rehearsal()
    with onto(rehearsal):
        y = maxpool2d(x, **WINDOW)
    assert not y.any()
    (launch,) = rehearsal.launches
    launch()
    assert y.all()
