"""Fused ops: equal to the ops that they join, by hand and by PyTorch, with ties and NaN; and their kernels anywhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpucnn
from gpucnn.devices import threads
from gpucnn.dispatch import choice
from gpucnn.dispatch.case import Case, Spec, integers, real
from gpucnn.dispatch.check import disagreement
from gpucnn.errors import ShapeError
from gpucnn.ops.bias_activation import bias_activation_grad
from gpucnn.ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight
from gpucnn.ops.dropout import scale
from gpucnn.ops.fused import (
    DEAD,
    conv2d_bias_activation,
    conv2d_bias_activation_dropout,
    conv2d_bias_activation_grad_weight,
    conv2d_bias_activation_maxpool,
    conv2d_maxpool_grad_input,
    conv2d_maxpool_grad_weight,
    matmul_bias_activation,
)
from gpucnn.ops.matmul import matmul
from gpucnn.ops.pool2d import maxpool2d, maxpool2d_grad

VALID = {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}
SAME = {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}
POOL = {"pool": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}
RELU = {"function": "relu", "alpha": 0.0}
ENDED = {**RELU, "keep_input": False}
BACKENDS = ["numpy", "auto"]


@pytest.fixture(params=BACKENDS)
def _backend(request):
    with choice.using(request.param):
        yield


def operands(rng, channels=3, filters=5):
    """Small integers, so that sums are exact and ties are common."""
    x = rng.integers(-2, 3, (4, 7, 8, channels)).astype(np.float32)
    weight = rng.integers(-1, 2, (3, 3, channels, filters)).astype(np.float32)
    return x, weight, rng.integers(-2, 3, filters).astype(np.float32)


def joined(x, weight, b, window):
    """z, relu and pooling, op by op, with the gradients for a dy."""
    z = conv2d.reference(x, weight, groups=1, **window) + b
    y = np.maximum(z, 0)
    pooled = maxpool2d.reference(y, **POOL)

    def gradients(dy):
        dz = maxpool2d_grad.reference(dy, y, pooled, **POOL) * (z > 0)
        dx = conv2d_grad_input.reference(dz, weight, size=x.shape[1:3], groups=1, **window)
        dweight = conv2d_grad_weight.reference(dz, x, kernel_size=weight.shape[:2], groups=1, **window)
        return dweight, dz.sum(axis=(0, 1, 2)), dx

    return pooled, gradients


@pytest.mark.usefixtures("_backend")
@pytest.mark.parametrize("window", [VALID, SAME], ids=["valid", "same"])
def test_convolution_relu_and_pooling_equal_the_three_ops_and_their_gradients_exactly(rng, window):
    x, weight, b = operands(rng)
    expected, gradients = joined(x, weight, b, window)
    y, index = conv2d_bias_activation_maxpool(x, weight, b, **RELU, **window)
    assert np.array_equal(y, expected)
    assert np.array_equal(index == DEAD, expected == 0)

    dy = rng.integers(-2, 3, y.shape).astype(np.float32)
    dweight, db, dx = gradients(dy)
    got_weight, got_b = conv2d_maxpool_grad_weight(dy, index, x, kernel_size=(3, 3), **window)
    got_x = conv2d_maxpool_grad_input(dy, index, weight, size=x.shape[1:3], **window)
    assert np.array_equal(got_weight, dweight)
    assert np.array_equal(got_b, db)
    assert np.array_equal(got_x, dx)


@pytest.mark.usefixtures("_backend")
def test_convolution_and_relu_equal_the_two_ops_and_their_gradients_exactly(rng):
    x, weight, b = operands(rng)
    y = conv2d_bias_activation(x, weight, b, **ENDED, **SAME)
    z = conv2d.reference(x, weight, groups=1, **SAME) + b
    assert np.array_equal(y, np.maximum(z, 0))
    dy = rng.integers(-2, 3, y.shape).astype(np.float32)
    dz, db = bias_activation_grad(dy, y, **RELU)
    assert np.array_equal(dz, dy * (z > 0))
    assert np.array_equal(db, (dy * (z > 0)).sum(axis=(0, 1, 2)))
    dweight, db_together = conv2d_bias_activation_grad_weight(dy, y, x, kernel_size=(3, 3), **RELU, **SAME)
    assert np.array_equal(dweight, conv2d_grad_weight.reference(dz, x, kernel_size=(3, 3), groups=1, **SAME))
    assert np.array_equal(db_together, db)


@pytest.mark.usefixtures("_backend")
def test_dense_and_relu_by_hand():
    x = np.array([[1, 2], [3, -4]], np.float32)
    weight = np.array([[1, 0, -1], [2, 1, 0]], np.float32)
    y = matmul_bias_activation(x, weight, np.array([-1, 0, 2], np.float32), **ENDED)
    assert np.array_equal(y, [[4, 2, 1], [0, 0, 0]])


@pytest.mark.usefixtures("_backend")
def test_the_index_names_the_first_largest_of_each_window_by_hand():
    """A filter of 1, a bias of -2: windows 0 3 / 1 1 → 3 - 2 at 1; 5 5 / 5 5 → 5 - 2 at 0; 1 2 / 2 1 → 0, dead."""
    x = np.array([[0, 3, 5, 5, 1, 2, 9], [1, 1, 5, 5, 2, 1, 9], [9] * 7], np.float32).reshape(1, 3, 7, 1)
    y, index = conv2d_bias_activation_maxpool(
        x, np.ones((1, 1, 1, 1), np.float32), np.array([-2], np.float32), **RELU, **VALID
    )
    assert np.array_equal(y[0, :, :, 0], [[1, 3, 0]])
    assert np.array_equal(index[0, :, :, 0], [[1, 0, DEAD]])
    dy = np.array([10, 20, 30], np.float32).reshape(1, 1, 3, 1)
    dx = conv2d_maxpool_grad_input(dy, index, np.full((1, 1, 1, 1), 2, np.float32), size=(3, 7), **VALID)
    assert np.array_equal(dx[0, 0, :, 0], [0, 20, 40, 0, 0, 0, 0])
    assert not dx[0, 1:].any()
    dweight, db = conv2d_maxpool_grad_weight(dy, index, x, kernel_size=(1, 1), **VALID)
    assert dweight.item() == 10 * 3 + 20 * 5
    assert db.item() == 30


@pytest.mark.usefixtures("_backend")
@pytest.mark.parametrize("cell", range(4))
def test_nan_in_any_cell_of_a_window_comes_out(cell):
    x = np.ones((1, 4, 4, 1), np.float32)
    x[0, cell // 2, cell % 2] = np.nan
    weight, b = np.ones((1, 1, 1, 9), np.float32), np.zeros(9, np.float32)
    y, index = conv2d_bias_activation_maxpool(x, weight, b, **RELU, **VALID)
    assert np.isnan(y[0, 0, 0]).all()
    assert (index[0, 0, 0] == cell).all()
    assert np.array_equal(y[0, 1, 1], np.ones(9))
    assert np.isnan(conv2d_bias_activation(x, weight, b, **ENDED, **VALID)[0, cell // 2, cell % 2]).all()


@pytest.mark.usefixtures("_backend")
def test_nan_in_a_gradient_comes_out():
    dy = np.ones((1, 1, 2, 9), np.float32)
    dy[0, 0, 1] = np.nan
    index = np.zeros(dy.shape, np.uint8)
    x, weight = np.ones((1, 2, 4, 1), np.float32), np.ones((1, 1, 1, 9), np.float32)
    dweight, db = conv2d_maxpool_grad_weight(dy, index, x, kernel_size=(1, 1), **VALID)
    assert np.isnan(dweight).all()
    assert np.isnan(db).all()
    dx = conv2d_maxpool_grad_input(dy, index, weight, size=(2, 4), **VALID)
    assert np.isnan(dx[0, 0, 2, 0])
    dweight, db = conv2d_bias_activation_grad_weight(
        dy, np.ones_like(dy), x[:, :1, :2], kernel_size=(1, 1), **RELU, **VALID
    )
    assert np.isnan(dweight).all()
    assert np.isnan(db).all()
    dz, db = bias_activation_grad(dy, np.ones_like(dy), **RELU)
    assert np.isnan(dz[0, 0, 1]).all()
    assert np.isnan(db).all()


@pytest.mark.usefixtures("_backend")
def test_relu_passes_nan_and_infinity_of_a_dense_layer():
    x = np.array([[np.nan], [np.inf], [-np.inf]], np.float32)
    y = matmul_bias_activation(x, np.ones((1, 1), np.float32), np.zeros(1, np.float32), **ENDED)
    assert np.isnan(y[0, 0])
    assert y[1:, 0].tolist() == [np.inf, 0]


def test_gradients_are_central_differences_away_from_kinks(rng):
    x = rng.standard_normal((2, 6, 6, 2))
    weight, b = rng.standard_normal((3, 3, 2, 3)), rng.standard_normal(3)
    y, index = conv2d_bias_activation_maxpool.reference(x, weight, b, **RELU, **SAME)
    dy = rng.standard_normal(y.shape)
    dweight, db = conv2d_maxpool_grad_weight.reference(dy, index, x, kernel_size=(3, 3), **SAME)
    dx = conv2d_maxpool_grad_input.reference(dy, index, weight, size=(6, 6), **SAME)
    step = 1e-6
    for operand, gradient in ((x, dx), (weight, dweight), (b, db)):
        for place in rng.choice(operand.size, min(12, operand.size), replace=False):
            ends = []
            for change in (step, -step):
                before = operand.flat[place]
                operand.flat[place] = before + change
                ends.append((conv2d_bias_activation_maxpool.reference(x, weight, b, **RELU, **SAME)[0] * dy).sum())
                operand.flat[place] = before
            assert abs((ends[0] - ends[1]) / (2 * step) - gradient.flat[place]) <= 1e-7


def test_kernels_agree_with_pytorch_in_float64(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, weight, b = (rng.standard_normal(s) for s in ((3, 9, 8, 5), (3, 3, 5, 18), (18,)))
    tensors = [torch.tensor(a, requires_grad=True) for a in (x.transpose(0, 3, 1, 2), weight.transpose(3, 2, 0, 1), b)]
    expected = torch.max_pool2d(torch.relu(torch.conv2d(*tensors, padding=1)), 2)
    dy = rng.standard_normal((3, 4, 4, 18))
    dx, dweight, db = torch.autograd.grad(expected, tensors, torch.tensor(dy.transpose(0, 3, 1, 2)))
    x, weight, b, dy = (a.astype(np.float32) for a in (x, weight, b, dy))
    y, index = conv2d_bias_activation_maxpool(x, weight, b, **RELU, **SAME)
    got_weight, got_b = conv2d_maxpool_grad_weight(dy, index, x, kernel_size=(3, 3), **SAME)
    got_x = conv2d_maxpool_grad_input(dy, index, weight, size=(9, 8), **SAME)
    for actual, reference in (
        (y, expected.detach().permute(0, 2, 3, 1)),
        (got_weight, dweight.permute(2, 3, 1, 0)),
        (got_b, db),
        (got_x, dx.permute(0, 2, 3, 1)),
    ):
        assert (
            np.abs(actual - reference.numpy()).max() <= 64 * np.finfo(np.float32).eps * np.abs(reference.numpy()).max()
        )


LAYERS = {
    "n": st.integers(1, 10),
    "size": st.tuples(st.integers(1, 9), st.integers(1, 9)),
    "channels": st.integers(1, 17),
    "filters": st.integers(1, 40),
    "kernel_size": st.tuples(st.integers(1, 4), st.integers(1, 4)),
    "strides": st.tuples(st.integers(1, 3), st.integers(1, 3)),
    "padding": st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
    "dilation": st.tuples(st.integers(1, 2), st.integers(1, 2)),
}


def _fault(op, *draws, **params):
    kernels = op.kernels(("numpy", "njit"))
    case = Case("drawn", draws, params)
    serving = [kernel for kernel in kernels.values() if kernel.serves(case.specs, params)]
    assert serving
    return [fault for kernel in serving if (fault := disagreement(kernel, case))]


@settings(deadline=None, max_examples=60)
@given(**LAYERS)
def test_kernels_agree_with_the_bodies_for_any_layer(
    n, size, channels, filters, kernel_size, strides, padding, dilation
):
    window = {"strides": strides, "padding": padding, "dilation": dilation}
    x, weight, b = real(n, *size, channels), real(*kernel_size, channels, filters), real(filters)
    y_shape = [
        (s + sum(p) - (r - 1) * d - 1) // t + 1
        for s, r, t, p, d in zip(size, kernel_size, strides, padding, dilation, strict=True)
    ]
    if min(y_shape) < 1:
        return
    dy = real(n, *y_shape, filters)
    assert not _fault(conv2d, x, weight, groups=1, **window)
    assert not _fault(conv2d_grad_input, dy, weight, size=size, groups=1, **window)
    assert not _fault(conv2d_grad_weight, dy, x, kernel_size=kernel_size, groups=1, **window)
    assert not _fault(conv2d_bias_activation, x, weight, b, **ENDED, **window)
    if min(y_shape) < 2:
        return
    pooled = (n, y_shape[0] // 2, y_shape[1] // 2, filters)
    dy, index = real(*pooled), integers(*pooled, high=DEAD + 1, dtype="uint8")
    assert not _fault(conv2d_maxpool_grad_weight, dy, index, x, kernel_size=kernel_size, **window)
    assert not _fault(conv2d_maxpool_grad_input, dy, index, weight, size=size, **window)


@pytest.mark.parametrize("number", [1, 2])
def test_a_layer_large_enough_for_blocks_panels_and_threads_agrees(number):
    threads.use(number)
    try:
        n, size, channels, filters = 3, (20, 21), 17, 33
        x, weight, b = real(n, *size, channels), real(3, 3, channels, filters), real(filters)
        dy, index = real(n, 10, 10, filters), integers(n, 10, 10, filters, high=DEAD + 1, dtype="uint8")
        assert not _fault(conv2d, x, weight, groups=1, **SAME)
        assert not _fault(conv2d_grad_weight, real(n, *size, filters), x, kernel_size=(3, 3), groups=1, **SAME)
        assert not _fault(conv2d_bias_activation, x, weight, b, **ENDED, **SAME)
        assert not _fault(conv2d_maxpool_grad_weight, dy, index, x, kernel_size=(3, 3), **SAME)
        assert not _fault(conv2d_maxpool_grad_input, dy, index, weight, size=size, **SAME)
    finally:
        threads.use()


@pytest.mark.parametrize(("rows", "columns"), [(300, 130), (130, 300), (304, 160)])
def test_products_large_enough_for_parts_agree(rows, columns):
    assert not _fault(matmul_bias_activation, real(rows, 200), real(200, columns), real(columns), **ENDED)
    assert not _fault(matmul, real(rows, 200), real(columns, 200), transpose_a=False, transpose_b=True)
    assert not _fault(matmul, real(200, rows), real(200, columns), transpose_a=True, transpose_b=False)


def test_a_wrong_bias_is_named():
    x, weight = np.zeros((1, 4, 4, 1), np.float32), np.zeros((3, 3, 1, 2), np.float32)
    for op, end in ((conv2d_bias_activation, ENDED), (conv2d_bias_activation_maxpool, RELU)):
        with pytest.raises(ShapeError, match=rf"{op.name}: there are 2 channels but b has shape \(3,\)"):
            op(x, weight, np.zeros(3, np.float32), **end, **VALID)
    with pytest.raises(ShapeError, match=r"matmul_bias_activation: there are 2 channels but b has shape \(1,\)"):
        matmul_bias_activation(
            np.zeros((3, 4), np.float32), np.zeros((4, 2), np.float32), np.zeros(1, np.float32), **ENDED
        )


def test_a_convolution_too_small_for_pooling_is_named():
    x, weight, b = np.zeros((1, 4, 3, 1), np.float32), np.zeros((3, 3, 1, 2), np.float32), np.zeros(2, np.float32)
    with pytest.raises(ShapeError, match=r"\(N, P, Q, K\) = \(1, 2, 1, 2\), too small for windows of 2 × 2"):
        conv2d_bias_activation_maxpool(x, weight, b, **RELU, **VALID)


def test_gradients_of_another_shape_than_the_result_are_named():
    dy, index = np.zeros((1, 2, 2, 2), np.float32), np.zeros((1, 2, 1, 2), np.uint8)
    x, weight = np.zeros((1, 6, 6, 1), np.float32), np.zeros((3, 3, 1, 2), np.float32)
    with pytest.raises(ShapeError, match=r"conv2d_maxpool_grad_weight: dy is .* index \(1, 2, 1, 2\) uint8"):
        conv2d_maxpool_grad_weight(dy, index, x, kernel_size=(3, 3), **VALID)
    with pytest.raises(ShapeError, match="conv2d_maxpool_grad_input: dy is"):
        conv2d_maxpool_grad_input(dy, index, weight, size=(6, 6), **VALID)
    with pytest.raises(ShapeError, match=r"bias_activation_grad: dy is \(2, 3\) float32 but kept is \(2, 2\) float32"):
        bias_activation_grad(np.zeros((2, 3), np.float32), np.zeros((2, 2), np.float32), **RELU)
    with pytest.raises(ShapeError, match=r"bias_activation_grad: dy is .* but kept is \(1, 2, 2\) float32"):
        conv2d_bias_activation_grad_weight(dy, dy[..., 0], x, kernel_size=(3, 3), **RELU, **VALID)
    with pytest.raises(ShapeError, match=r"conv2d_grad_weight: dy .* but conv2d returns \(1, 4, 4, 2\)"):
        conv2d_bias_activation_grad_weight(dy, dy, x, kernel_size=(3, 3), **RELU, **VALID)


def test_float64_is_left_to_the_bodies(rng):
    gpucnn.use("auto", device="cpu")
    x, weight, b = (a.astype(np.float64) for a in operands(rng))
    assert conv2d_bias_activation_maxpool(x, weight, b, **RELU, **SAME)[0].dtype == np.float64
    assert conv2d_bias_activation(x, weight, b, **ENDED, **SAME).dtype == np.float64
    assert matmul_bias_activation(x.reshape(4, -1), np.ones((168, 2)), np.zeros(2), **ENDED).dtype == np.float64
    assert bias_activation_grad(x, x, **RELU)[0].dtype == np.float64


def test_work_is_that_of_the_convolution_and_a_quarter_of_it_behind_the_pooling():
    x, weight, b = (Spec(shape, np.dtype("float32")) for shape in ((2, 6, 8, 3), (3, 3, 3, 5), (5,)))
    dy = Spec((2, 3, 4, 5), x.dtype)
    work = conv2d.flops(x, weight, groups=1, **SAME)
    assert conv2d_bias_activation.flops(x, weight, b, **ENDED, **SAME) == work
    assert conv2d_bias_activation_maxpool.flops(x, weight, b, **RELU, **SAME) == work
    y = Spec((2, 6, 8, 5), x.dtype)
    assert conv2d_bias_activation_grad_weight.flops(y, y, x, kernel_size=(3, 3), **RELU, **SAME) == work
    assert conv2d_maxpool_grad_weight.flops(dy, None, x, kernel_size=(3, 3), **SAME) == work / 4
    assert conv2d_maxpool_grad_input.flops(dy, None, weight, size=(6, 8), **SAME) == work / 4
    assert matmul_bias_activation.flops(dy, Spec((5, 7), x.dtype), b, **ENDED) == 2 * 120 * 7


def test_gradients_behind_dropout_are_central_differences_away_from_kinks(rng):
    x, weight, b = rng.standard_normal((2, 5, 5, 2)), rng.standard_normal((3, 3, 2, 4)), rng.standard_normal(4)
    words = {"rate": 0.4, "seed": 1, "stream": 2, "counter": 3}

    def dropped():
        return conv2d_bias_activation_dropout.reference(x, weight, b, np.array([5]), **RELU, **SAME, **words)

    y, step = dropped(), 1e-6
    dy = rng.standard_normal(y.shape)
    dz, db = bias_activation_grad.reference(dy, y, **RELU, scale=scale(0.4))
    both = conv2d_bias_activation_grad_weight.reference(dy, y, x, kernel_size=(3, 3), **RELU, **SAME, scale=scale(0.4))
    dx = conv2d_grad_input.reference(dz, weight, size=(5, 5), groups=1, **SAME)
    for operand, gradient in ((x, dx), (weight, both[0]), (b, both[1]), (b, db)):
        for place in rng.choice(operand.size, min(12, operand.size), replace=False):
            before, ends = operand.flat[place], []
            for change in (step, -step):
                operand.flat[place] = before + change
                ends.append((dropped() * dy).sum())
            operand.flat[place] = before
            assert abs((ends[0] - ends[1]) / (2 * step) - gradient.flat[place]) <= 1e-7
