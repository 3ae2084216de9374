"""Kernels for the CPU compute with nothing that they have not written: stale numbers may be denormal, and
then a multiplication takes a hundred times as long on many processors."""

import ctypes
import platform
import sys

import numpy as np
import pytest

from gpucnn.devices import storage, threads
from gpucnn.dispatch.case import Spec
from gpucnn.profiling import trials

pytestmark = [
    pytest.mark.jit,
    pytest.mark.skipif(
        sys.platform != "linux" or platform.machine() != "x86_64",
        reason="reads the flags of an x86 processor by the C library of Linux",
    ),
]

DENORMAL = np.array([0x00010001], np.uint32).view(np.float32)[0]
MXCSR = 7
"""The place of the register's 32 bits in what `fegetenv` fills; its bit 1 is set by a denormal operand."""


def has_met_denormals(call):
    """Whether the call has computed with a denormal number on this thread."""
    libm, state = ctypes.CDLL("libm.so.6"), (ctypes.c_uint32 * 8)()
    assert libm.fegetenv(state) == 0
    state[MXCSR] &= ~2
    assert libm.fesetenv(state) == 0
    call()
    assert libm.fegetenv(state) == 0
    return bool(state[MXCSR] & 2)


def with_workspaces():
    """Each kernel for the CPU that has a workspace, with the cases that it serves."""
    for op in trials.every_op():
        for kernel in op.kernels(("njit",)).values() if op.__module__.startswith("gpucnn.") else ():
            if not op.inplace and kernel.workspace:
                yield pytest.param(op, kernel, id=f"{op.name}-{kernel.algorithm}")


@pytest.fixture
def _one_thread():
    threads.use(1)
    yield
    threads.use()


def test_the_flag_tells_denormal_numbers():
    numbers = np.ones(64, np.float32)
    assert not has_met_denormals(lambda: numbers * numbers)
    numbers[5] = DENORMAL
    assert has_met_denormals(lambda: numbers * numbers)


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize(("op", "kernel"), list(with_workspaces()))
def test_what_a_workspace_holds_is_not_computed_with(op, kernel):
    rng, wrong = np.random.default_rng(3), []
    for case in op.cases:
        operands = [None if draw is None else draw.sample(rng) for draw in case.operands]
        specs = [None if a is None else Spec(a.shape, a.dtype) for a in operands]
        if case.bench or not kernel.serves(specs, case.params):
            continue
        workspace = [storage.empty(*spec) for spec in kernel.scratch(specs, case.params)]
        outputs = [storage.empty(*spec) for spec in op.specs(*operands, **case.params)]
        met = []
        for stale in (0, 0, DENORMAL):  # the first call may compile
            for array in (*workspace, *outputs):
                array[...] = stale if array.dtype == np.float32 else 0
            met.append(has_met_denormals(lambda: kernel.run(*outputs, *operands, *workspace, **case.params)))  # noqa: B023
        if met[2] and not met[1]:  # some functions have denormal values by themselves
            wrong.append(case.name)
    assert not wrong
