"""Launches that are recorded while ops are called, and repeated."""

import numpy as np

from gpucnn.dispatch.tape import Tape, onto, recording
from gpucnn.ops.activation import softmax
from gpucnn.ops.pool2d import maxpool2d

WINDOW = {"pool": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}


def test_a_tape_repeats_launches_on_another_input():
    x = np.zeros((2, 4, 4, 1), np.float32)
    tape = Tape(1 << 20)
    with onto(tape):
        y = softmax(maxpool2d(x, **WINDOW).reshape(2, 4))
    assert recording() is None
    tape.take_from(x)
    x = np.zeros((2, 16), np.float32)
    x[0, 15] = x[1, 0] = 50
    tape.replay(x)
    assert tape.complete
    np.testing.assert_array_equal(y.argmax(axis=1), [3, 0])


def test_a_tape_holds_its_input_only_while_it_replays():
    x = np.zeros((1, 2, 2, 1), np.float32)
    tape = Tape(1 << 20)
    with onto(tape):
        maxpool2d(x, **WINDOW)
    tape.take_from(x)
    tape.replay(x)
    assert not any(argument is x or getattr(argument, "base", None) is x for argument in tape.launches()[0].args)


def test_a_tape_that_needs_too_much_memory_keeps_nothing():
    tape = Tape(20)
    with onto(tape):
        softmax(np.zeros((2, 3), np.float32))
    assert not tape.complete
    assert not tape.launches()


def test_a_copied_operand_makes_a_tape_incomplete():
    x = np.zeros((1, 4, 4, 2), np.float32)
    tape = Tape(1 << 20)
    with onto(tape):
        maxpool2d(x[..., :1], **WINDOW)
    assert not tape.complete


def test_a_dry_tape_records_without_computing():
    x = np.ones((1, 4, 4, 1), np.float32)
    tape = Tape(1 << 20, dry=True)
    with onto(tape):
        y = maxpool2d(x, **WINDOW)
    assert not y.any()
    (launch,) = tape.launches()
    launch()
    assert y.all()
