"""Every kernel for GPUs must agree with its op on every case: in the emulator, and on a GPU where there is one.

In `check` mode the emulator finds races, accesses out of bounds and uninitialised, and diverging barriers as well.
"""

import os

import pytest

from gpucnn import device, registry, trials

OPS = [op for op in trials.every_op() if op.__module__.startswith("gpucnn.")]
KERNELS = [kernel for op in OPS for kernel in registry.kernels(op, ("cuda", "numba")).values()]
LIBRARY = {"cublas"}
"""Kernels that are rows for comparison: another library's code, which runs on a GPU alone."""
SEEDS = (0, 1, 2, 3, 4) if os.environ.get("GPUCNN_TEST_ALL") else (3,)
"""Orders of the threads in fast mode: 0 forward, 1 backward, others random."""

KNOWN_GAPS = {
    op.name: "fused nodes are built for the CPU alone; on a GPU the layers run one by one"
    for op in OPS
    if op.family == "fused"
}
"""Ops without a kernel for GPUs, and why."""

on_gpu = pytest.mark.skipif(not device.gpu_state()[0], reason=f"no GPU here: {device.gpu_state()[1]}")


def planned(where, mode=None):
    own = [k for k in KERNELS if k.algorithm not in LIBRARY]
    made = trials.trials(own, where, mode)
    missing = {backend: trials.missing(backend, where) for backend in ("cuda", "numba")}
    skips = {b: pytest.mark.skipif(reason is not None, reason=str(reason)) for b, reason in missing.items()}
    return [
        pytest.param(t, id=str(t), marks=(pytest.mark.xdist_group(t.kernel.id), skips[t.kernel.backend])) for t in made
    ]


@pytest.mark.parametrize("trial", planned("emulator", "fast"))
def test_kernel_agrees_with_reference_in_any_order_of_threads(trial):
    for seed in SEEDS:
        with trials.running("emulator", "fast", seed=seed):
            fault = trials.disagreement(trial.kernel, trial.case)
        assert fault is None, f"seed {seed}: {fault}"


@pytest.mark.parametrize("trial", planned("emulator", "check"))
def test_kernel_passes_the_checker(trial):
    assert trial.fault() is None


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("kernel", KERNELS, ids=[f"{k.id}-{k.op.name}" for k in KERNELS])
def test_kernel_agrees_with_reference_on_a_gpu(kernel):
    faults = [f"{t}: {fault}" for t in trials.trials([kernel], "gpu:0") if (fault := t.fault())]
    assert not faults


@pytest.mark.parametrize("op", OPS, ids=[op.name for op in OPS])
def test_op_has_a_kernel_in_each_language(op):
    backends = {k.backend for k in KERNELS if k.op is op and k.algorithm not in LIBRARY}
    assert backends == (set() if op.name in KNOWN_GAPS else {"cuda", "numba"})


@pytest.mark.parametrize("kernel", KERNELS, ids=[f"{k.id}-{k.op.name}" for k in KERNELS])
def test_kernel_is_chosen_by_its_name_and_stands_under_its_address(kernel):
    assert (registry.folder_of_kernels() / f"{kernel.id}.py").is_file()
    assert kernel.id.endswith(f"_{kernel.backend}")
    assert kernel.algorithm in LIBRARY or kernel.algorithm in kernel.op.prefer
