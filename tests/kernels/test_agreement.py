"""Every kernel must agree with its op on every case that it supports: on the CPU, in the emulator,
and on a GPU.

In `check` mode the emulator also finds races, accesses out of bounds, uninitialised reads and
diverging barriers.
"""

import os

import needs
import numpy as np
import pytest

from gpucnn import places
from gpucnn.devices import choose
from gpucnn.dispatch import precision
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.check import cases_for
from gpucnn.ops.fused_cases import DRAWS
from gpucnn.profiling import launches, trials

OPS = [op for op in trials.every_op() if op.__module__.startswith("gpucnn.")]
FOR_CPU = [kernel for op in OPS for kernel in op.kernels(("numpy", "njit")).values()]
FOR_GPUS = [kernel for op in OPS for kernel in op.kernels(("cuda", "numba")).values()]
CASES = [(op, case) for op in OPS for case in op.cases if not case.bench]
CPU_ALONE = {
    *("conv3d_bias_activation", "conv_bias_activation_pool", "conv_pool_grad_sums"),
    *("batchnorm_activation", "batchnorm_activation_grad"),
}
"""Fused ops that have no kernels for GPUs, where the ops that they join run one by one."""
LIBRARY = {"cublas"}
"""Kernels for comparison: another library's code, which runs only on a GPU."""
ALL = bool(os.environ.get("GPUCNN_TEST_ALL"))
SEEDS = (0, 1, 2, 3, 4) if ALL else (3,)
"""Orders of the threads in fast mode: 0 forward, 1 backward, others random."""

ENDS = "function", "alpha", *DRAWS
"""The parameters of the activation and the dropout that end a fused op."""

COMPILED = 2
"""A text takes seconds to compile for an emulated GPU, where kernels have up to 28 in all their cases: each of them
is also compiled and tried in the emulator."""

_FOR_GPUS = "one launch in place of several: the CPU computes the parts one by one, and numpy has a kernel"
_NO_TENSOR_CORES = "what products on tensor cores need: the CPU picks values by their cells, and numpy has a kernel"
KNOWN_GAPS_ON_THE_CPU = {
    "dense_softmax_cross_entropy": _FOR_GPUS,
    "dense_grad": _FOR_GPUS,
    "conv2d_bias_activation_grad_weight": _FOR_GPUS,
    "conv2d_bias_activation_dropout": _FOR_GPUS,
    "matmul_bias_activation_dropout": _FOR_GPUS,
    "conv2d_maxpool_grad_sums": _NO_TENSOR_CORES,
}
"""Ops without an njit kernel, and why."""


def on_the_cpu():
    return [pytest.param(t, id=str(t), marks=pytest.mark.jit) for t in trials.trials(FOR_CPU, "cpu")]


def in_the_emulator(mode):
    own = [k for k in FOR_GPUS if k.algorithm not in LIBRARY]
    missing = {backend: trials.missing(backend, "emulator") for backend in ("cuda", "numba")}
    skips = {b: pytest.mark.skipif(reason is not None, reason=str(reason)) for b, reason in missing.items()}
    planned = trials.trials(own, "emulator", mode)
    return [
        pytest.param(t, id=str(t), marks=(pytest.mark.xdist_group(t.kernel.id), skips[t.kernel.backend]))
        for t in (planned if ALL else apart(planned, mode))
    ]


def apart(planned, mode):
    """The trials without those that differ from others only in the end, an activation or a dropout: it changes neither
    where a kernel reads and writes nor when. The checker of accesses watches each kind of accesses once. In fast mode
    this thins fused ops, for which each end of each tile is a compilation: each kind of accesses is tried with some
    end, and each end somewhere, in turns with whole and with cut sums."""

    def split(trial):
        end = {name: value for name, value in trial.case.params.items() if name in ENDS}
        place = {name: value for name, value in trial.case.params.items() if name not in end}
        op = trial.kernel.id, trial.kernel.op.name
        return (*op, trial.case.specs, repr(place)), (*op, repr(end), place.get("keep_input"))

    chosen, ends = {}, {}
    for trial in planned:
        accesses, end = split(trial)
        chosen.setdefault(accesses, [trial])
        ends.setdefault(end, []).append(trial)
    if mode == "check":
        return [trial for (trial,) in chosen.values()]
    for trial in [trial for (trial,) in chosen.values()]:
        ends.pop(split(trial)[1], None)
    for candidates in ends.values():
        rarest = min(candidates, key=lambda trial: len(chosen[split(trial)[0]]))
        chosen[split(rarest)[0]].append(rarest)
    kept = {id(trial) for alike in chosen.values() for trial in alike}
    return [trial for trial in planned if trial.kernel.op.family != "fused" or id(trial) in kept]


@pytest.mark.parametrize("trial", [*on_the_cpu(), *in_the_emulator("fast"), *in_the_emulator("check")])
def test_kernel_agrees_with_its_op(trial):
    orders = [{"seed": seed} for seed in SEEDS] if trial.mode == "fast" else [{}]
    for order in orders:
        fault = trial.fault(**order)
        assert fault is None, f"{order}: {fault}"


def on_a_gpu(kernel):
    """The trials on a GPU: all. On an emulated one, those that need no more than `COMPILED` texts."""
    if not choose.is_emulated("gpu:0"):
        return trials.trials([kernel], "gpu:0")
    chosen, compiled = [], set()
    for trial in trials.trials([kernel], "gpu:0", largest=trials.AFFORDABLE["fast"]):
        needed = compiled | compiled_texts(trial)
        if not chosen or needed == compiled or len(needed) <= COMPILED:
            chosen.append(trial)
            compiled = needed
    return chosen


def compiled_texts(trial):
    """What must be compiled for a trial: functions with their defines, or their types."""
    texts = set()
    for kind in trial.kernel.precisions:
        with precision.scope(kind):
            for launch in launches.launches(trial.kernel, trial.case, "sm_80"):
                types = getattr(launch.function, "kinds", lambda arguments: ())
                texts.add((launch.function, types(list(launch.arguments))))
    return texts


@pytest.mark.gpu
@needs.gpu_here
@pytest.mark.parametrize("kernel", FOR_GPUS, ids=[f"{k.id}-{k.op.name}" for k in FOR_GPUS])
def test_kernel_agrees_with_its_op_on_a_gpu(kernel):
    faults = [f"{t}: {fault}" for t in on_a_gpu(kernel) if (fault := t.fault())]
    assert not faults


@pytest.mark.parametrize("kernel", FOR_CPU, ids=[f"{k.id}-{k.op.name}" for k in FOR_CPU])
def test_kernel_supports_some_case_of_its_op(kernel):
    assert cases_for(kernel)


@pytest.mark.parametrize("op", OPS, ids=[op.name for op in OPS])
def test_op_has_a_kernel_in_each_language(op):
    backends = {k.backend for k in FOR_GPUS if k.op is op and k.algorithm not in LIBRARY}
    assert backends == (set() if op.name in CPU_ALONE else {"cuda", "numba"})


@pytest.mark.parametrize("op", OPS, ids=[op.name for op in OPS])
def test_op_has_a_compiled_kernel_for_the_cpu(op):
    kernels = [k for k in FOR_CPU if k.op is op and (k.backend == "njit") == (op.name not in KNOWN_GAPS_ON_THE_CPU)]
    assert kernels
    assert op.name in KNOWN_GAPS_ON_THE_CPU or {k.algorithm for k in kernels} <= set(op.prefer)


@pytest.mark.parametrize("op", [op for op in OPS if op.family not in ("conv2d", "conv3d", "fused")], ids=str)
def test_compiled_kernels_for_the_cpu_serve_every_case(op):
    kernels = [kernel for kernel in FOR_CPU if kernel.op is op]
    assert not [case.name for case in op.cases if not any(k.serves(case.specs, case.params) for k in kernels)]


@pytest.mark.parametrize("kernel", FOR_GPUS, ids=[f"{k.id}-{k.op.name}" for k in FOR_GPUS])
def test_kernel_is_chosen_by_its_name_and_lies_at_its_address(kernel):
    assert (places.folder_of_kernels() / f"{kernel.id}.py").is_file()
    assert kernel.id.endswith(f"_{kernel.backend}")
    assert kernel.algorithm in LIBRARY or kernel.algorithm in kernel.op.prefer


def test_kernel_files_register_under_their_address():
    folder = places.folder_of_kernels()
    for kernel in FOR_CPU:
        assert (folder / f"{kernel.id}.py").is_file()
        assert kernel.id.endswith(f"_{kernel.backend}")


def test_the_cases_of_an_op_have_different_names():
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
