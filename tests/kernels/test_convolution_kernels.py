"""What the cases of the convolutions do not cover: batches in pieces, sums in slices."""

import importlib
import math

import needs
import pytest

from gpucnn.dispatch import choice
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.check import cases_for, disagreement
from gpucnn.ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight
from gpucnn.ops.conv3d import conv3d_grad_weight

pytestmark = needs.emulator_here

IMAGES = (conv2d, conv2d_grad_input, conv2d_grad_weight)


def numba_kernel(op, algorithm):
    return op.kernels(("numba",))[f"{algorithm}_numba"]


def workspace(kernel, case):
    specs = kernel.workspace(*case.specs, **case.params)
    return (specs,) if isinstance(specs, Spec) else specs


@pytest.mark.parametrize("op", IMAGES, ids=lambda op: op.name)
def test_im2col_agrees_when_the_batch_is_processed_in_pieces(op, monkeypatch):
    kernel = numba_kernel(op, "im2col")
    monkeypatch.setattr(importlib.import_module("gpucnn.kernels.conv2d.im2col_numba"), "COLUMNS", 500)
    with choice.using("numba", device="emulator"):
        for case in cases_for(kernel):
            if case.name == "ragged":
                assert workspace(kernel, case)[0].shape[0] < case.operands[0].shape[0]
                assert disagreement(kernel, case) is None


@pytest.mark.parametrize("op", IMAGES, ids=lambda op: op.name)
def test_columns_stay_within_their_bound_unless_one_image_needs_more(op):
    kernel = numba_kernel(op, "im2col")
    bound = importlib.import_module("gpucnn.kernels.conv2d.im2col_numba").COLUMNS
    for case in cases_for(kernel) + cases_for(kernel, bench=True):
        columns = workspace(kernel, case)[0]
        assert columns.shape[0] == 1 or math.prod(columns.shape) <= bound, case.name


@pytest.mark.parametrize("op", [conv2d_grad_weight, conv3d_grad_weight], ids=lambda op: op.name)
def test_partial_sums_are_enough_for_a_large_gpu_and_no_larger(op):
    slices = importlib.import_module("gpucnn.kernels.shared.slices_numba")
    for algorithm in op.kernels(("numba",)).values():
        for case in cases_for(algorithm, bench=True):
            partial, (dweight,) = workspace(algorithm, case)[-1], op.specs(*case.specs, **case.params)
            values = math.prod(dweight.shape)
            assert math.prod(partial.shape) % values == 0
            assert math.prod(partial.shape) <= max(slices.RESIDENT_THREADS, values), case.name
            assert partial.shape[0] <= slices.MOST_SLICES
            assert values >= slices.RESIDENT_THREADS or math.prod(partial.shape) >= 1 << 14, case.name


def test_im2col_leaves_groups_to_other_kernels():
    for op in IMAGES:
        names = {case.name for case in cases_for(numba_kernel(op, "im2col"))}
        assert "ragged" in names and not names & {"grouped", "depthwise", "depthwise_multiplier"}


def test_weight_gradient_agrees_when_slices_end_within_an_image(monkeypatch):
    kernel = numba_kernel(conv2d_grad_weight, "direct")
    monkeypatch.setattr(importlib.import_module("gpucnn.kernels.shared.slices_numba"), "MOST_SLICES", 2)
    with choice.using("numba", device="emulator"):
        for case in cases_for(kernel):
            if case.name in ("ragged", "many_images"):
                assert workspace(kernel, case)[0].shape[0] == 2
                assert disagreement(kernel, case) is None
