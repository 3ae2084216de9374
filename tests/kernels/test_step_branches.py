"""Kernels that are launched beside others share nothing with them but what they read."""

from functools import cache

import numpy as np
import pytest
from exchange.examples import BRANCHES, LAYERS

from gpucnn import Input, Sequential
from gpucnn.devices import branches, choose
from gpucnn.dispatch import choice
from gpucnn.models import fusion
from gpucnn.profiling.launches import Call, Launch, LaunchRecorder, of_call
from gpucnn.runs import zoo

COUNTERS = "is_last_block("
"""What adds up by counters that all launches of a kernel share (include/last_block.cuh)."""


def backward(model):
    """What the backward pass of a model launches."""
    recorder = LaunchRecorder("sm_90")
    with choice.using("cuda", device="emulator"), choose.using(recorder), branches.on():
        model.parameters.bring()
        x, backwards = recorder.empty((2, *model.input_shape[1:])), []
        for node in fusion.program(model.layers, False):
            x, of_node, _ = node.forward(x, recorder.put(np.zeros(1, np.int64)), True)
            backwards.append(of_node)

        def run():
            dy = x
            while backwards:
                dy = backwards.pop()(dy, need_dx=True)

        return recorder.record_nodes(run)


@cache
def calls():
    """The calls of ops that the layers launch on branches, and all others, by the op's name."""
    aside, others = {}, {}
    examples = (Sequential([Input(shape), *make()]) for shape, make in (*LAYERS.values(), *BRANCHES.values()))
    for model in (*examples, zoo.find("slides").build()):
        for node in backward(model):
            if isinstance(node, Launch):
                (aside if node.branch else others).setdefault(node.call.kernel.op.name, []).append(node.call)
    return aside, others


def counts(call):
    """Whether a kernel in CUDA C++ that serves a call adds up by counters; none in numba.cuda does."""
    op = call.kernel.op
    serving = (kernel for kernel in op.kernels(("cuda",)).values() if kernel.serves(call.operands, call.params))
    with choice.using("cuda", device="emulator"):
        launches = [one for kernel in serving for one in of_call(Call(kernel, call.operands, call.params), "sm_90")]
    return any(COUNTERS in one.function.program() for one in launches)


@pytest.mark.parametrize(("variable", "enabled"), [(None, False), ("0", False), ("yes", False), ("1", True)])
def test_branches_are_off_but_for_the_variable_and_the_context(monkeypatch, variable, enabled):
    monkeypatch.delenv("GPUCNN_BRANCHES", raising=False)
    if variable is not None:
        monkeypatch.setenv("GPUCNN_BRANCHES", variable)
    assert branches.is_enabled() == enabled
    with branches.on():
        assert branches.is_enabled()
    assert branches.is_enabled() == enabled


def test_gradients_of_weights_are_on_branches():
    aside, _ = calls()
    assert aside.keys() == {"conv2d_grad_weight", "conv3d_grad_weight", "conv2d_maxpool_grad_weight", "matmul"}


def test_no_kernel_on_a_branch_adds_up_by_counters():
    aside, others = calls()
    assert not [name for name, of_op in aside.items() if any(map(counts, of_op))]
    assert any(map(counts, others["bias_grad"])), "such a kernel would be seen"
