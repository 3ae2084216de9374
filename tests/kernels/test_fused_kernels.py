"""Fused kernels leave nothing to kernels of their own, and give the same bits whatever block is the last."""

import needs
import numpy as np
import pytest

import gpucnn
from gpucnn.devices import emulator, storage
from gpucnn.dispatch import choice
from gpucnn.dispatch.case import Case, real
from gpucnn.dispatch.check import disagreement
from gpucnn.ops.bias import bias_grad
from gpucnn.ops.bias_activation import bias_activation_grad
from gpucnn.ops.fused import (
    conv2d_bias_activation,
    conv2d_bias_activation_grad_weight,
    conv2d_bias_activation_maxpool,
    conv2d_maxpool_grad_input,
    conv2d_maxpool_grad_weight,
    matmul_bias_activation,
)
from gpucnn.profiling import launches

RELU = {"function": "relu", "alpha": 0.0}
WINDOW = {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}


def on_the_emulator(backend):
    marks = [needs.emulator_here, pytest.mark.xdist_group(f"fused-{backend}")]
    if backend == "numba":
        marks.append(needs.compilers_here)
    return pytest.param(backend, marks=marks)


BACKENDS = [on_the_emulator("cuda"), on_the_emulator("numba")]


def launched(op, kernel):
    """(filters, units or channels; names of the functions launched) for each case."""
    made = op.kernels()[kernel]
    for case in filter(lambda case: launches.serves(made, case), op.cases):
        yield case.specs[-1].shape[-1], [launch.function.name for launch in launches.launches(made, case)]


@pytest.mark.parametrize("op", [bias_grad, bias_activation_grad])
def test_a_sum_of_rows_is_one_launch(op):
    assert {(len(names), names[0]) for _, names in launched(op, "rows_cuda")} == {(1, f"{op.name}_rows")}


def test_a_matrix_with_more_tiles_than_counters_needs_none():
    kernel = bias_grad.kernels()["rows_cuda"]
    blocks = {k: launches.launches(kernel, Case("wide", (real(600, k),)))[0].blocks for k in (32 * 1024, 32 * 1024 + 1)}
    assert blocks == {32 * 1024: 5 * 1024, 32 * 1024 + 1: 1025}


@pytest.mark.parametrize(
    ("op", "kernel"), [(conv2d_bias_activation, "implicit_gemm_cuda"), (matmul_bias_activation, "warptiled_cuda")]
)
def test_a_fused_product_is_one_launch_or_two_where_its_sums_are_cut(op, kernel):
    whole, cut = [f"{op.name}_{kernel.removesuffix('_cuda')}"], "sum_parts_bias_activation"
    seen = list(launched(op, kernel))
    assert all(names in (whole, [*whole, cut]) for _, names in seen)
    assert {k for k, _ in seen} >= {1, 3, 10, 32, 33}
    assert {len(names) for _, names in seen} == {1, 2}, "some sums are cut"


@needs.emulator_here
@pytest.mark.xdist_group("fused/few_channels_cuda")
@pytest.mark.parametrize(
    ("op", "name", "numbers"),
    [
        (conv2d_bias_activation, "a_line_of_filters", {"BLOCKS": 4}),  # bands of 3, 3 and 1 rows of windows
        (conv2d_bias_activation, "a_line_of_filters", {"BLOCKS": 1, "THREADS": 32}),  # two rounds of a thread
        (conv2d_bias_activation_grad_weight, "many_images", {"BLOCKS": 4}),  # many bands of a block
    ],
)
@pytest.mark.parametrize("mode", ["fast", "check"])
def test_a_block_of_few_channels_goes_on(op, name, numbers, mode, monkeypatch):
    """As only large batches make it do."""
    kernel = op.kernels()["few_channels_cuda"]
    for number, value in numbers.items():
        monkeypatch.setitem(kernel.launch.__globals__, number, value)
    plan = kernel.launch.__globals__["gradient_plan"].__wrapped__
    monkeypatch.setitem(kernel.launch.__globals__, "gradient_plan", plan)
    case = next(case for case in op.cases if case.name == name)
    with choice.using(device="emulator"), emulator.running(mode=mode):
        assert disagreement(kernel, case) is None


@needs.emulator_here
@pytest.mark.parametrize(
    ("op", "algorithm", "number"),
    [
        (conv2d_bias_activation_maxpool, "pooled_direct", "MULTIPROCESSORS"),  # all rows of windows
        (conv2d_maxpool_grad_weight, "sparse", "BLOCKS"),  # all rows of windows, and several images
        (conv2d_maxpool_grad_input, "sparse", "BLOCKS"),  # all rows of cells
    ],
)
@pytest.mark.parametrize("name", ["same", "many_images"])
@pytest.mark.parametrize("mode", ["fast", "check"])
def test_a_block_of_a_pooled_convolution_goes_on(op, algorithm, number, name, mode, monkeypatch):
    """As only large batches make it do."""
    kernel = op.kernels()[f"{algorithm}_cuda"]
    monkeypatch.setitem(kernel.launch.__globals__, number, 1)
    case = next(case for case in op.cases if case.name == name)
    with choice.using(device="emulator"), emulator.running(mode=mode):
        assert disagreement(kernel, case) is None


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("columns", [1, 10, 33, 64])
def test_the_sums_of_rows_have_the_same_bits_in_every_order_of_blocks(backend, columns, rng):
    gpucnn.use(backend, device="emulator")
    dy, y = (storage.put(rng.standard_normal((900, columns)).astype(np.float32)) for _ in range(2))
    bits = set()
    for seed in (0, 1, 7, 8):
        with emulator.running(seed=seed):
            bits.add((bias_grad(dy).get().tobytes(), bias_activation_grad(dy, y, **RELU)[1].get().tobytes()))
    assert len(bits) == 1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("terms", [9, 180])
def test_not_a_number_stays_not_a_number(backend, terms, rng):
    gpucnn.use(backend, device="emulator")
    ended = {**RELU, "keep_input": False, "algorithm": "direct" if backend == "numba" else None}
    x = rng.standard_normal((4, terms)).astype(np.float32)
    x[1, 2] = np.nan
    weight, b = np.ones((terms, 3), np.float32), np.zeros(3, np.float32)
    dense = matmul_bias_activation(*map(storage.put, (x, weight, b)), **ended).get()
    arrays = x.reshape(4, 1, 1, terms), weight.reshape(1, 1, terms, 3), b
    conv = conv2d_bias_activation(*map(storage.put, arrays), **ended, **WINDOW).get().reshape(4, 3)
    for y in (dense, conv):
        assert np.isnan(y[1]).all()
        assert np.isfinite(y[[0, 2, 3]]).all() and (y[[0, 2, 3]] >= 0).all()
