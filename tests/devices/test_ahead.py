"""Kernels are compiled side by side by a rehearsal, which launches none of them."""

import threading

import numpy as np
import pytest
from needs import emulator_here

import gpucnn
from gpucnn.devices import ahead, storage
from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.emulator.device import Emulator
from gpucnn.errors import CompileError

TEXT = 'extern "C" __global__ void set(float* y) { y[0] = VALUE; }\n'


@pytest.fixture
def set_to(tmp_path):
    """Sets the first element of an array to a number that is compiled in."""
    (tmp_path / "set.cu").write_text(TEXT)
    function = cuda_function(tmp_path / "set.cu", "set")
    with gpucnn.using(device="emulator"):
        yield lambda y, value: function.define(VALUE=value)[1, 1](y)


@emulator_here
def test_a_rehearsal_compiles_each_program_once_and_launches_nothing(set_to, monkeypatch, capfd):
    monkeypatch.setenv("GPUCNN_DEBUG", "2")
    y, steps = storage.zeros((1,)), []

    def rehearse():
        for value in (1, 2, 1):
            set_to(y, value)

    assert ahead.compile_ahead(rehearse, progress=lambda *numbers: steps.append(numbers)) == 2
    assert steps == [(1, 2), (2, 2)]
    assert storage.get(y) == [0]
    assert capfd.readouterr().err == ""
    set_to(y, 2)
    assert storage.get(y) == [2]


@emulator_here
def test_all_cores_compile_while_another_thread_launches(set_to, monkeypatch):
    both, y = threading.Barrier(2), storage.zeros((1,))
    prepare = Emulator.prepare_cuda
    set_to(y, 5)

    def prepare_cuda(device, function):
        if function.defines["VALUE"] < 3:
            both.wait(60)
        return prepare(device, function)

    def elsewhere():
        with gpucnn.using(device="emulator"):
            set_to(y, 5)

    def rehearse():
        set_to(y, 1)
        set_to(y, 2)
        storage.write(y, np.zeros(1, np.float32))
        other = threading.Thread(target=elsewhere)
        other.start()
        other.join()

    monkeypatch.setattr(Emulator, "prepare_cuda", prepare_cuda)
    monkeypatch.setattr(ahead.threads, "available", lambda: 2)
    ahead.compile_ahead(rehearse)
    assert storage.get(y) == [5]


@emulator_here
def test_what_cannot_be_compiled_is_raised_and_ends_the_rehearsal(set_to):
    y = storage.zeros((1,))
    with pytest.raises(CompileError, match="nothing"):
        ahead.compile_ahead(lambda: set_to(y, "nothing"))
    with pytest.raises(ZeroDivisionError):
        ahead.compile_ahead(lambda: 1 / 0)
    set_to(y, 3)
    assert storage.get(y) == [3]


@emulator_here
def test_a_line_says_what_takes_long(set_to, monkeypatch):
    said, y, go_on = [], storage.zeros((1,)), threading.Event()
    monkeypatch.setattr(Emulator, "prepare_cuda", lambda device, function: go_on.wait(60))
    monkeypatch.setattr(ahead, "LONG", 0.01)

    def say(line):
        said.append(line)
        go_on.set()

    ahead.compile_ahead(lambda: set_to(y, 1), say)
    ahead.compile_ahead(lambda: set_to(y, 1), say)
    assert said == ["compiling kernels for emulator, which are kept: 1 of 1 to go"]


def test_on_the_cpu_nothing_is_rehearsed():
    assert ahead.compile_ahead(lambda: 1 / 0) == 0
