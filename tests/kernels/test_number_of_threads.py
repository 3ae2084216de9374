"""Kernels for the CPU give the same bits on any number of threads, with arrays large enough for
several slices."""

import numpy as np
import pytest

from gpucnn.devices import threads
from gpucnn.dispatch.case import Spec
from gpucnn.profiling import trials

OPS = [op for op in trials.every_op() if op.__module__.startswith("gpucnn.") and op.kernels(("njit",))]


@pytest.fixture(autouse=True)
def _default_threads():
    yield
    threads.use()


def large(op):
    """The case for benchmarks with the least work that has several slices, or else with the most."""
    cases = sorted((case for case in op.cases if case.bench), key=lambda case: trials.work(op, case))
    several = [c for c in cases if max(np.prod(s.shape) for s in c.specs if s is not None) >= 1 << 16]
    return (several or cases[-1:] or list(op.cases[-1:]))[0]


def results(op, case):
    rng = np.random.default_rng(3)
    operands = [None if draw is None else draw.sample(rng) for draw in case.operands]
    outputs = op(*operands, **case.params)
    return [a.tobytes() for a in (outputs if isinstance(outputs, tuple) else (outputs,))]


@pytest.mark.parametrize("op", OPS, ids=[op.name for op in OPS])
def test_results_have_the_same_bits_on_any_number_of_threads(op):
    case = large(op)
    threads.use(1)
    alone = results(op, case)
    for number in (2, 3):
        threads.use(number)
        assert results(op, case) == alone


def test_most_of_these_cases_are_cut_into_slices():
    sizes = [max(int(np.prod(s.shape)) for s in large(op).specs if isinstance(s, Spec)) for op in OPS]
    assert np.mean(np.array(sizes) >= 1 << 15) > 0.7
