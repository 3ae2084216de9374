"""Every kernel for the CPU must agree with its op on every case that it supports. For GPUs: test_gpu_kernels.py."""

import numpy as np
import pytest

from gpucnn import registry, trials
from gpucnn.check import cases_for, disagreement
from gpucnn.op import Spec

OPS = [op for op in trials.every_op() if op.__module__.startswith("gpucnn.")]
KERNELS = [kernel for op in OPS for kernel in registry.kernels(op, ("numpy", "njit")).values()]
TRIALS = [(kernel, case) for kernel in KERNELS for case in cases_for(kernel)]
CASES = [(op, case) for op in OPS for case in op.cases if not case.bench]


@pytest.mark.parametrize(("kernel", "case"), TRIALS, ids=[f"{k.id}-{k.op.name}-{c.name}" for k, c in TRIALS])
def test_kernel_agrees_with_reference(kernel, case):
    assert disagreement(kernel, case) is None


@pytest.mark.parametrize("kernel", KERNELS, ids=[f"{k.id}-{k.op.name}" for k in KERNELS])
def test_kernel_supports_some_case_of_its_op(kernel):
    assert cases_for(kernel)


def test_every_op_has_cases_with_names_of_their_own():
    for op in OPS:
        names = [case.name for case in op.cases]
        assert names, op
        assert len(set(names)) == len(names), op


@pytest.mark.parametrize(("op", "case"), CASES, ids=[f"{o.name}-{c.name}" for o, c in CASES])
def test_body_returns_what_the_shape_rule_says(op, case):
    rng = np.random.default_rng(0)
    operands = [None if draw is None else draw.sample(rng) for draw in case.operands]
    specs = op.specs(*operands, **case.params)
    results = op.reference(*operands, **case.params)
    for spec, result in zip(specs, results if isinstance(results, tuple) else (results,), strict=True):
        assert spec == (None if result is None else Spec(result.shape, result.dtype))


def test_kernel_files_register_under_their_address():
    folder = registry.folder_of_kernels()
    for kernel in KERNELS:
        assert (folder / f"{kernel.id}.py").is_file()
        assert kernel.id.endswith(f"_{kernel.backend}")
