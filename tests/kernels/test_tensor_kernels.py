"""What the cases do not show of the kernels on tensor cores: long sums, infinities, and when "auto"
chooses them."""

import importlib

import needs
import numpy as np
import pytest

from gpucnn.devices import storage
from gpucnn.devices.emulator.device import Emulator
from gpucnn.dispatch import choice, precision
from gpucnn.dispatch.case import Spec
from gpucnn.ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight
from gpucnn.ops.fused import conv2d_bias_activation, matmul_bias_activation
from gpucnn.ops.matmul import matmul

pytestmark = needs.emulator_here

FLOAT32 = np.dtype(np.float32)
ENDED = {"function": "relu", "alpha": 0.0, "keep_input": False}
CONVOLUTIONS = [conv2d, conv2d_grad_input, conv2d_grad_weight, conv2d_bias_activation]
KERNEL = matmul.kernels(("cuda",))["tensor_cuda"]
PLAIN = {"transpose_a": False, "transpose_b": False}


def product(a, b, **transposes):
    with choice.using("cuda", device="emulator"):
        return matmul(storage.put(a), storage.put(b), algorithm="tensor", **(PLAIN | transposes)).get()


@needs.nvrtc_here
@pytest.mark.parametrize("kind", precision.PRECISIONS)
def test_rounding_toward_zero_adds_up_to_no_more_than_is_allowed(rng, monkeypatch, kind):
    """Nothing in float32; else an ulp for each instruction, which is much less than factors are rounded by."""
    module = importlib.import_module(KERNEL.launch.__module__)
    K = 8192
    a, b = (rng.uniform(0.5, 1.0, shape).astype(np.float32) for shape in ((64, K), (K, 32)))
    whole = module.tensor_plan(64, 32, K)._replace(parts=1, length=K)
    monkeypatch.setattr(module, "tensor_plan", lambda *_: whole)
    exact = precision.rounded(a, kind).astype(np.float64) @ precision.rounded(b, kind).astype(np.float64)
    with precision.scope(kind):
        y = product(a, b)
    error = np.abs(y - exact) / exact / np.finfo(np.float32).eps
    steps = {precision.FLOAT32: 0, precision.TF32: K / 8, precision.BFLOAT16: K / 16}[kind]
    assert error.max() <= 4 + np.sqrt(K) + steps
    assert (
        kind == precision.FLOAT32
        or error.max() * np.finfo(np.float32).eps < 2.0 ** -precision.SIGNIFICANT_BITS[kind] / 4
    )


@needs.nvrtc_here
def test_infinities_and_nan_come_out_as_in_float32(rng):
    a, b = (rng.uniform(0.5, 1.0, shape).astype(np.float32) for shape in ((40, 36), (36, 40)))
    largest = np.finfo(np.float32).max
    b[3, 5], b[4, 7] = 0.0, -1.0
    a[0, 3], a[1, 2], a[2, 3], a[3, 4], a[4, 6] = np.inf, np.nan, largest, -np.inf, 1e30
    b[6, 9], b[6, 10] = 1e30, -1e30
    with np.errstate(invalid="ignore", over="ignore"):
        expected = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)
    assert np.isnan(expected).sum() == 1 + 40 and np.isinf(expected).sum() == 39 + 40 + 2
    np.testing.assert_allclose(product(a, b), expected, rtol=1e-6)


@needs.nvrtc_here
def test_relu_cuts_off_infinities_as_in_float32(rng):
    x, weight = (rng.uniform(0.5, 1.0, shape).astype(np.float32) for shape in ((40, 36), (36, 40)))
    b = rng.uniform(0.5, 1.0, 40).astype(np.float32)
    b[2], b[3], b[4] = np.inf, -np.inf, np.nan
    x[0, 3], x[1, 2], x[2, 3] = np.inf, -np.inf, np.nan
    with np.errstate(invalid="ignore"):
        expected = matmul_bias_activation.reference(*(a.astype(np.float64) for a in (x, weight, b)), **ENDED).astype(
            np.float32
        )
    assert np.isnan(expected).sum() == 40 + 39 + 2 and np.isinf(expected).sum() == 38 + 37
    with choice.using("cuda", device="emulator"):
        y = matmul_bias_activation(*map(storage.put, (x, weight, b)), **ENDED, algorithm="tensor").get()
    np.testing.assert_allclose(y, expected, rtol=1e-6)


def unaligned(array):
    """The array on the device, one float after a multiple of 16 bytes."""
    memory = storage.empty((array.size + 1,), array.dtype)
    view = memory[1:].reshape(array.shape)
    view[...] = storage.put(array)
    return view


@needs.nvrtc_here
@pytest.mark.parametrize("op", [matmul, *CONVOLUTIONS, matmul_bias_activation], ids=lambda op: op.name)
def test_arrays_need_not_be_aligned(op, rng):
    names = ("quads", "multiples_of_4_strided")
    for case in (case for case in op.cases if case.name.startswith(names) and not case.params.get("keep_input")):
        operands = [draw.sample(rng) for draw in case.operands]
        expected = op.reference(*(a.astype(np.float64) for a in operands), **case.params)
        with choice.using("cuda", device="emulator"):
            result = op(*map(unaligned, operands), algorithm="tensor", **case.params).get()
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def chosen(m, k, n):
    specs = Spec((m, k), FLOAT32), Spec((k, n), FLOAT32)
    with choice.using("cuda", device="emulator"):
        return matmul.find(specs, PLAIN).algorithm


@pytest.mark.parametrize("op", CONVOLUTIONS, ids=lambda op: op.name)
def test_large_convolutions_are_for_tensor_cores_if_channels_come_in_quads(op):
    algorithms = {}
    with choice.using("cuda", device="emulator"):
        for case in op.cases:
            if case.bench:
                algorithms[case.name] = op.find(case.specs, case.params).algorithm
    tensor = {name for name, algorithm in algorithms.items() if algorithm in ("tensor", "halo")}
    assert {"mlearning_2", "mlearning_3", "mlearning_4", "torres_2", "cifar_2"} <= tensor
    assert not tensor & {"slides_1", "slides_2", "mlearning_1", "keras_intro_1", "torres_1", "cifar_1"}


def test_large_dense_layers_are_for_tensor_cores():
    with choice.using("cuda", device="emulator"):
        chosen = {
            c.name: matmul_bias_activation.find(c.specs, c.params).algorithm
            for c in matmul_bias_activation.cases
            if c.bench
        }
    assert chosen == {"slides": "warptiled", "mlearning": "tensor", "keras_intro": "warptiled", "cifar": "tensor"}


def test_large_products_are_for_tensor_cores_if_there_are_any(monkeypatch):
    assert chosen(512, 7200, 512) == "tensor"
    assert chosen(512, 7200, 8) == "warptiled", "most of a tile would be empty"
    assert chosen(128, 100, 32) == "warptiled", "too little work"
    monkeypatch.setattr(Emulator, "cc", 75)
    assert chosen(512, 7200, 512) == "warptiled"


@pytest.mark.parametrize(("kind", "algorithm"), [("float32", "warptiled"), ("tf32", "tensor"), ("bfloat16", "tensor")])
def test_a_geforce_multiplies_lower_precisions_alone_on_tensor_cores(monkeypatch, kind, algorithm):
    monkeypatch.setattr(Emulator, "cc", 86)
    with precision.scope(kind):
        assert chosen(512, 7200, 512) == algorithm
