"""The bodies of the convolution ops: numbers worked by hand, identities that must hold, and PyTorch."""

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
from differences import slope_at
from hypothesis import given, settings
from hypothesis import strategies as st

from gpucnn.dispatch.case import Spec
from gpucnn.errors import ArgumentError, ShapeError
from gpucnn.ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight
from gpucnn.ops.conv3d import conv3d, conv3d_grad_input, conv3d_grad_weight

OPS = {
    1: (conv2d, conv2d_grad_input, conv2d_grad_weight),
    2: (conv2d, conv2d_grad_input, conv2d_grad_weight),
    3: (conv3d, conv3d_grad_input, conv3d_grad_weight),
}
"""Ops by the number of axes along which filters slide; 1: images of one row, as in `Conv1D`."""

PLAIN = {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}


def filtered(image, taps, **window):
    """One grey image under one filter."""
    x, weight = np.asarray(image), np.asarray(taps)
    return conv2d(x[None, :, :, None], weight[:, :, None, None], **{**PLAIN, **window})[0, :, :, 0]


def test_the_textbook_image_under_the_textbook_filter():
    image = [[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]]
    taps = [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    assert filtered(image, taps).tolist() == [[4, 3, 4], [2, 4, 3], [2, 3, 4]]


STEP = [[0, 0, 144, 144, 144]] * 5


@pytest.mark.parametrize(
    ("taps", "row"),
    [
        pytest.param([[0, 0, 0], [0, 1, 0], [0, 0, 0]], [0, 144, 144], id="identity"),
        pytest.param([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], [-432, 432, 0], id="edge"),
        pytest.param([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], [-144, 288, 144], id="sharpen"),
        pytest.param(np.ones((3, 3)) / 9, [48, 96, 144], id="box"),
        pytest.param(np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16, [36, 108, 144], id="gaussian"),
    ],
)
def test_a_step_under_the_filters_of_image_processing(taps, row):
    y = filtered(np.array(STEP, np.asarray(taps).dtype), taps)
    assert np.abs(y - np.array([row] * 3)).max() <= 1e-12


def test_filters_are_not_flipped():
    assert filtered([[1, 0], [0, 0]], [[1, 2], [3, 4]]).tolist() == [[1]]


def test_padding_adds_zeros_on_the_sides_that_it_names():
    y = filtered([[5]], [[1, 2, 3], [4, 5, 6]], padding=((0, 1), (2, 0)))
    assert y.tolist() == [[15]]
    assert filtered([[5]], [[1, 2]], padding=((1, 0), (0, 1))).tolist() == [[0], [5]]


def test_strides_and_dilation_choose_the_cells():
    image = np.arange(35).reshape(5, 7)
    assert filtered(image, [[1]], strides=(2, 3)).tolist() == [[0, 3, 6], [14, 17, 20], [28, 31, 34]]
    y = filtered(image, [[1, 10], [100, 1000]], dilation=(3, 4))
    corners = 10 * 4 + 100 * 21 + 1000 * 25
    assert y.tolist() == [[corners + 1111 * d for d in (0, 1, 2)], [corners + 1111 * d for d in (7, 8, 9)]]


def test_each_group_of_filters_sees_its_own_channels():
    x = np.array([1, 10, 100, 1000]).reshape(1, 1, 1, 4)
    weight = np.array([[1, 2, 3, 4, 5, 6], [1, 1, 1, 1, 1, 1]]).reshape(1, 1, 2, 6)
    y = conv2d(x, weight, **{**PLAIN, "groups": 2})
    assert y.reshape(-1).tolist() == [11, 12, 13, 1400, 1500, 1600]


def test_a_depthwise_filter_sees_one_channel():
    x = np.array([1, 10, 100]).reshape(1, 1, 1, 3)
    weight = np.array([1, 2, 3, 4, 5, 6]).reshape(1, 1, 1, 6)
    y = conv2d(x, weight, **{**PLAIN, "groups": 3})
    assert y.reshape(-1).tolist() == [1, 2, 30, 40, 500, 600]


def test_a_sequence_and_a_volume_by_hand():
    steps = np.arange(6).reshape(1, 1, 6, 1)
    taps = np.array([1, 10]).reshape(1, 2, 1, 1)
    y = conv2d(steps, taps, strides=(1, 2), padding=((0, 0), (1, 0)), dilation=(1, 2), groups=1)
    assert y.reshape(-1).tolist() == [10, 31, 53]
    volume = np.arange(8).reshape(1, 2, 2, 2, 1)
    weight = (10 ** np.arange(8)).reshape(2, 2, 2, 1, 1)
    y = conv3d(volume, weight, strides=(1, 1, 1), padding=((0, 0),) * 3, dilation=(1, 1, 1), groups=1)
    assert y.reshape(-1).tolist() == [76543210]


@dataclass(frozen=True)
class Convolution:
    """The operands of a convolution along `rank` axes and of its gradients."""

    rank: int
    x: np.ndarray
    weight: np.ndarray
    dy: np.ndarray
    window: dict

    def astype(self, dtype):
        operands = {name: getattr(self, name).astype(dtype) for name in ("x", "weight", "dy")}
        return replace(self, **operands)

    def y(self):
        conv, _, _ = OPS[self.rank]
        return conv(self.x, self.weight, **self.window)

    def dx(self):
        _, grad_input, _ = OPS[self.rank]
        return grad_input(self.dy, self.weight, size=self.x.shape[1:-1], **self.window)

    def dweight(self):
        _, _, grad_weight = OPS[self.rank]
        return grad_weight(self.dy, self.x, kernel_size=self.weight.shape[:-2], **self.window)


@st.composite
def convolutions(draw, rank):
    """Operands of small integers, under any window."""
    axes = range(rank)
    size_of_tap = st.integers(1, 4 if rank < 3 else 2)
    kernel_size = tuple(draw(size_of_tap) for _ in axes)
    strides = tuple(draw(st.integers(1, 3)) for _ in axes)
    dilation = tuple(draw(st.integers(1, 3)) for _ in axes)
    padding = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in axes)
    fitting = [max(1, (k - 1) * d + 1 - sum(p)) for k, d, p in zip(kernel_size, dilation, padding, strict=True)]
    size = tuple(f + draw(st.integers(0, 4)) for f in fitting)
    groups, c, k, n = (draw(st.integers(1, 3)) for _ in range(4))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if rank == 1:
        size, kernel_size, strides, dilation = (1, *size), (1, *kernel_size), (1, *strides), (1, *dilation)
        padding = ((0, 0), *padding)
    window = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    x = random.integers(-9, 10, (n, *size, groups * c))
    weight = random.integers(-9, 10, (*kernel_size, c, groups * k))
    dy = random.integers(-9, 10, OPS[rank][0].specs(x, weight, **window)[0].shape)
    return Convolution(rank, x, weight, dy, window)


@pytest.mark.parametrize("rank", [1, 2, 3])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_gradients_are_the_adjoints_exactly(rank, data):
    drawn = data.draw(convolutions(rank))
    product = np.vdot(drawn.dy, drawn.y())
    assert np.vdot(drawn.dx(), drawn.x) == product
    assert np.vdot(drawn.dweight(), drawn.weight) == product


@pytest.mark.parametrize("rank", [1, 2, 3])
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_integer_values_are_exact_in_float32(rank, data):
    integers = data.draw(convolutions(rank))
    floats = integers.astype(np.float32)
    for result in (Convolution.y, Convolution.dx, Convolution.dweight):
        assert result(floats).dtype == np.float32
        assert np.array_equal(result(floats), result(integers))


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_every_value_is_the_sum_of_its_definition(data):
    drawn = data.draw(convolutions(2))
    x, weight, window = drawn.x, drawn.weight, drawn.window
    (stride_r, stride_s), (dilation_r, dilation_s) = window["strides"], window["dilation"]
    (top, _), (left, _) = window["padding"]
    taps_r, taps_s, channels, filters = weight.shape
    y = drawn.y()
    for n, p, q, k in np.ndindex(y.shape):
        first = k // (filters // window["groups"]) * channels
        total = 0
        for r, s, c in itertools.product(range(taps_r), range(taps_s), range(channels)):
            h, w = p * stride_r + r * dilation_r - top, q * stride_s + s * dilation_s - left
            if 0 <= h < x.shape[1] and 0 <= w < x.shape[2]:
                total += x[n, h, w, first + c] * weight[r, s, c, k]
        assert y[n, p, q, k] == total


@pytest.mark.parametrize("rank", [1, 2, 3])
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_all_three_ops_agree_with_pytorch_in_float64(rank, data):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    ours = data.draw(convolutions(rank)).astype(np.float64)
    x = torch.tensor(np.ascontiguousarray(np.moveaxis(ours.x, -1, 1)), requires_grad=True)
    weight = torch.tensor(np.ascontiguousarray(np.moveaxis(ours.weight, (-1, -2), (0, 1))), requires_grad=True)
    y = getattr(torch.nn.functional, f"conv{ours.x.ndim - 2}d")(
        torch.nn.functional.pad(x, [*itertools.chain(*reversed(ours.window["padding"]))]),
        weight,
        stride=ours.window["strides"],
        dilation=ours.window["dilation"],
        groups=ours.window["groups"],
    )
    y.backward(torch.tensor(np.ascontiguousarray(np.moveaxis(ours.dy, -1, 1))))
    assert np.array_equal(np.moveaxis(ours.y(), -1, 1), y.detach())
    assert np.array_equal(np.moveaxis(ours.dx(), -1, 1), x.grad)
    assert np.array_equal(np.moveaxis(ours.dweight(), (-1, -2), (0, 1)), weight.grad)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_gradients_agree_with_central_differences(rank):
    conv, _, _ = OPS[rank]
    rng = np.random.default_rng(rank)
    rows = (1,) if rank == 1 else ()
    window = {
        "strides": (*rows, *(2,) * rank),
        "padding": (*((0, 0) for _ in rows), *((1, 0),) * rank),
        "dilation": (*rows, *(1,) * rank),
        "groups": 2,
    }
    x, weight = rng.normal(size=(2, *rows, *(4,) * rank, 4)), rng.normal(size=(*rows, *(2,) * rank, 2, 2))
    dy = rng.normal(size=conv(x, weight, **window).shape)
    drawn, step = Convolution(rank, x, weight, dy, window), 1e-3
    # The ops are linear in each operand, so only rounding parts the two: n · eps · Σ|a||b| on each side.
    n = dy.size + weight[..., 0].size
    rounding = n * np.finfo(np.float64).eps * np.vdot(np.abs(dy), conv(np.abs(x), np.abs(weight), **window)) / step
    for array, gradient in ((x, drawn.dx()), (weight, drawn.dweight())):
        for place in range(0, array.size, max(1, array.size // 10)):
            index = np.unravel_index(place, array.shape)
            assert abs(slope_at(index, array, drawn.y, dy, step) - gradient[index]) <= rounding


def test_operands_are_left_alone():
    for conv in OPS.values():
        for op in conv:
            small = next(c for c in op.cases if not c.bench)
            operands = [draw.sample(np.random.default_rng(0)) for draw in small.operands]
            copies = [a.copy() for a in operands]
            op(*operands, **small.params)
            assert all(np.array_equal(a, b) for a, b in zip(operands, copies, strict=True))


FLOAT = np.dtype(np.float32)


def refusal(op, *shapes, **params):
    with pytest.raises(ShapeError) as caught:
        op.specs(*[np.zeros(s, FLOAT) for s in shapes], **params)
    return str(caught.value)


def test_a_wrong_number_of_channels_is_named_with_both_shapes():
    assert refusal(conv2d, (32, 28, 28, 1), (3, 3, 3, 16), **PLAIN) == (
        "conv2d: x has 1 channel but weight expects 3: "
        "x (N, H, W, C) = (32, 28, 28, 1), weight (R, S, C, K) = (3, 3, 3, 16)"
    )


def test_channels_that_do_not_fit_the_groups_are_named():
    message = refusal(conv2d, (1, 5, 5, 5), (3, 3, 2, 4), **{**PLAIN, "groups": 2})
    assert message.startswith("conv2d: x has 5 channels but weight expects 4 (2 groups of 2): ")
    message = refusal(conv2d, (1, 5, 5, 4), (3, 3, 2, 3), **{**PLAIN, "groups": 2})
    assert message.startswith("conv2d: 3 filters cannot be split into 2 groups: ")


def test_a_missing_axis_is_named():
    assert refusal(conv2d, (28, 28, 1), (3, 3, 1, 8), **PLAIN) == (
        "conv2d: x needs 4 axes (N, H, W, C) and has shape (28, 28, 1)"
    )
    assert "weight needs 4 axes (R, S, C, K)" in refusal(conv2d, (1, 28, 28, 1), (3, 3), **PLAIN)
    assert "dy needs 4 axes (N, P, Q, K)" in refusal(conv2d_grad_input, (2,), (3, 3, 1, 1), size=(5, 5), **PLAIN)
    message = refusal(conv2d_grad_weight, (1, 3, 3, 1), (5, 5, 1), kernel_size=(3, 3), **PLAIN)
    assert "conv2d_grad_weight: x needs 4 axes" in message


def test_a_filter_that_does_not_fit_is_named_with_its_axis():
    message = refusal(conv2d, (1, 9, 4, 1), (3, 3, 1, 1), **{**PLAIN, "dilation": (1, 2)})
    assert "a filter that reaches over 5 cells does not fit into W = 4 with padding (0, 0)" in message


def test_a_dy_of_the_wrong_shape_is_refused_with_the_right_one():
    message = refusal(conv2d_grad_input, (2, 5, 5, 4), (3, 3, 1, 4), size=(6, 6), **PLAIN)
    assert message == (
        "conv2d_grad_input: dy (N, P, Q, K) = (2, 5, 5, 4) float32 but conv2d returns (2, 4, 4, 4) float32"
    )
    message = refusal(conv2d_grad_weight, (3, 4, 4, 4), (2, 6, 6, 1), kernel_size=(3, 3), **PLAIN)
    assert "but conv2d returns (2, 4, 4, 4) float32" in message


def test_mixed_dtypes_are_refused():
    with pytest.raises(ArgumentError, match="x is uint8 but weight is float32: convert one"):
        conv2d(np.zeros((1, 5, 5, 1), np.uint8), np.zeros((3, 3, 1, 1), np.float32), **PLAIN)


@pytest.mark.parametrize("rank", [1, 2, 3])
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_counts_of_work_and_terms(rank, data):
    drawn = data.draw(convolutions(rank))
    x, weight, dy, window = drawn.x, drawn.weight, drawn.dy, drawn.window
    conv, grad_input, grad_weight = OPS[rank]
    xs, ws, ys = (Spec(a.shape, a.dtype) for a in (x, weight, dy))
    size, kernel_size = x.shape[1:-1], weight.shape[:-2]
    work = 2 * dy.size * weight[..., 0].size
    assert conv.flops(xs, ws, **window) == work
    assert grad_input.flops(ys, ws, size=size, **window) == work
    assert grad_weight.flops(ys, xs, kernel_size=kernel_size, **window) == work
    assert conv.terms(xs, ws, **window) == weight[..., 0].size
    assert grad_input.terms(ys, ws, size=size, **window) * window["groups"] == weight.size // weight.shape[-2]
    assert grad_weight.terms(ys, xs, kernel_size=kernel_size, **window) == dy[..., 0].size
