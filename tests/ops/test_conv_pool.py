"""A convolution with bias, activation and pooling by any windows: equal to the ops that it joins, by hand, with
ties and NaN; and its kernels on shapes that the cases do not have."""

import math

import numpy as np
import pytest

from gpucnn.dispatch import choice
from gpucnn.dispatch.case import Case, integers, real
from gpucnn.dispatch.check import disagreement
from gpucnn.errors import ArgumentError, ShapeError
from gpucnn.layers import AveragePooling3D, MaxPooling3D
from gpucnn.ops.bias_activation import bias_activation_grad
from gpucnn.ops.conv2d import conv2d
from gpucnn.ops.conv3d import conv3d
from gpucnn.ops.conv_pool import conv_bias_activation_pool, conv_pool_grad_sums
from gpucnn.ops.epilogue import end
from gpucnn.ops.pool2d import avgpool2d, avgpool2d_grad, maxpool2d, maxpool2d_grad
from gpucnn.ops.window import positions

VALID = {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
NONE = ((0, 0), (0, 0))
WINDOWS = [
    ((2, 2), (2, 2), NONE),
    ((3, 3), (2, 2), NONE),
    ((3, 2), (1, 2), ((1, 1), (0, 1))),
    ((1, 2), (3, 3), NONE),
    ((4, 5), (4, 5), NONE),
]


def windows(pool, strides, padding=NONE):
    return {"pool": pool, "pool_strides": strides, "pool_padding": padding}


def of_pooling(pool, strides, padding):
    return {"pool": pool, "strides": strides, "padding": padding}


@pytest.fixture(params=["numpy", "auto"])
def _backend(request):
    with choice.using(request.param):
        yield


@pytest.mark.usefixtures("_backend")
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("filters", [3, 8, 21])
def test_the_largest_equals_the_ops_one_by_one_exactly(window, filters, rng):
    """Small integers, so that sums are exact and ties are common."""
    x = rng.integers(-2, 3, (3, 7, 8, 2)).astype(np.float32)
    weight, b = rng.integers(-1, 2, (3, 3, 2, filters)), rng.integers(-2, 3, filters)
    weight, b = weight.astype(np.float32), b.astype(np.float32)
    y, index = conv_bias_activation_pool(
        x, weight, b, keep=True, kind="max", **end("relu"), **VALID, **windows(*window)
    )
    results = np.maximum(conv2d.reference(x, weight, **VALID) + b, 0)
    pooled = maxpool2d.reference(results, **of_pooling(*window))
    assert y.tolist() == pooled.tolist()
    dy = rng.integers(-3, 4, y.shape).astype(np.float32)
    where = {"size": results.shape[1:3], **windows(*window)}
    dz, db = conv_pool_grad_sums(dy, index, kind="max", **end("linear"), **where)
    expected = maxpool2d_grad.reference(dy, results, pooled, **of_pooling(*window)) * (results > 0)
    assert dz.tolist() == expected.tolist()
    assert db.tolist() == expected.sum(axis=(0, 1, 2)).tolist()


@pytest.mark.usefixtures("_backend")
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("filters", [3, 8, 21])
def test_the_mean_equals_the_ops_one_by_one(window, filters, rng):
    x, weight, b = rng.random((3, 7, 8, 2), np.float32), rng.random((3, 3, 2, filters), np.float32), np.ones(filters)
    b = b.astype(np.float32)
    y, results = conv_bias_activation_pool(
        x, weight, b, keep=True, kind="mean", **end("tanh"), **VALID, **windows(*window)
    )
    z = conv2d.reference(x, weight, **VALID) + b
    np.testing.assert_allclose(results, np.tanh(z), rtol=1e-5)
    np.testing.assert_allclose(y, avgpool2d.reference(np.tanh(z), **of_pooling(*window)), rtol=1e-5)
    dy = rng.random(y.shape, np.float32)
    where = {"size": z.shape[1:3], **windows(*window)}
    dz, db = conv_pool_grad_sums(dy, results, kind="mean", **end("tanh"), **where)
    dresults = avgpool2d_grad.reference(dy, size=z.shape[1:3], **of_pooling(*window))
    expected = bias_activation_grad.reference(dresults, results, **end("tanh"))
    np.testing.assert_allclose(dz, expected[0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(db, expected[1], rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("_backend")
@pytest.mark.parametrize("kind", ["max", "mean"])
def test_volumes_are_pooled_as_the_layers_do_it_one_by_one(kind, rng):
    """Over rows and columns, then over planes; small integers, so that ties are common and sums exact."""
    x = rng.integers(-2, 3, (2, 5, 6, 4, 2)).astype(np.float32)
    weight, b = rng.integers(-1, 2, (2, 2, 1, 2, 9)).astype(np.float32), np.arange(9, dtype=np.float32) - 4
    window, ways = VALID | {"strides": (1, 1, 1), "padding": (*NONE, (0, 0)), "dilation": (1, 1, 1)}, (2, 2, 2)
    pooling = {"pool": ways, "pool_strides": ways, "pool_padding": (*NONE, (0, 0))}
    operands, function = (x, weight, b), "relu"
    y, kept = conv_bias_activation_pool(*operands, keep=True, kind=kind, **end(function), **window, **pooling)
    results = np.maximum(conv3d.reference(x, weight, **window) + b, 0)
    layer = MaxPooling3D(2) if kind == "max" else AveragePooling3D(2)
    pooled, backward = layer.forward(results, None, True)
    np.testing.assert_array_equal(y, pooled)
    dy = rng.integers(-3, 4, y.shape).astype(np.float32) * 8
    given = {"kind": kind, **end("linear" if kind == "max" else function), "size": results.shape[1:-1], **pooling}
    dz, db = conv_pool_grad_sums(dy, kept, **given)
    expected = backward(dy) * (results > 0)
    np.testing.assert_array_equal(dz, expected)
    np.testing.assert_array_equal(db, expected.sum(axis=(0, 1, 2, 3)))


@pytest.mark.usefixtures("_backend")
def test_the_index_names_the_first_largest_of_each_window_by_hand():
    """Windows of 2 × 2 that share a column and reach over the upper edge."""
    x = np.array([[1, 5, 5, -1], [2, 0, 5, -3]], np.float32).reshape(1, 2, 4, 1)
    one, zero = np.ones((1, 1, 1, 1), np.float32), np.zeros(1, np.float32)
    ways = windows((2, 2), (1, 1), ((1, 0), (0, 0)))
    y, index = conv_bias_activation_pool(x, one, zero, keep=True, kind="max", **end("relu"), **VALID, **ways)
    assert y[0, :, :, 0].tolist() == [[5, 5, 5], [5, 5, 5]]
    assert index[0, :, :, 0].tolist() == [[3, 2, 2], [1, 0, 0]]
    y, index = conv_bias_activation_pool(-x, one, zero, keep=True, kind="max", **end("relu"), **VALID, **ways)
    assert (y[0, :, :, 0].tolist(), index[0, :, :, 0].tolist()) == ([[0, 0, 1], [0, 0, 3]], [[4, 4, 3], [4, 4, 3]])


@pytest.mark.usefixtures("_backend")
@pytest.mark.parametrize("kind", ["max", "mean"])
@pytest.mark.parametrize("cell", range(9))
@pytest.mark.parametrize("filters", [5, 40])
def test_nan_in_any_cell_of_a_window_comes_out(kind, cell, filters):
    x = np.ones((2, 3, 3, 1), np.float32)
    x[0, cell // 3, cell % 3] = np.nan
    weight, b = np.ones((1, 1, 1, filters), np.float32), np.zeros(filters, np.float32)
    y = conv_bias_activation_pool(
        x, weight, b, keep=False, kind=kind, **end("relu"), **VALID, **windows((3, 3), (1, 1))
    )
    assert np.isnan(y[0]).all() and (y[1] == 1).all()


@pytest.mark.parametrize(("kind", "function"), [("max", "relu"), ("max", "selu"), ("mean", "tanh"), ("mean", "linear")])
def test_gradients_are_central_differences_away_from_kinks(kind, function, rng):
    z, dy = rng.permutation(np.linspace(-2, 2, 2 * 5 * 6 * 2)).reshape(2, 5, 6, 2), rng.standard_normal((2, 2, 3, 2))
    one, zero, ways = np.eye(2).reshape(1, 1, 2, 2), np.zeros(2), windows((3, 3), (2, 2), ((0, 0), (1, 0)))

    def loss(z):
        y = conv_bias_activation_pool.reference(z, one, zero, keep=False, kind=kind, **end(function), **VALID, **ways)
        return (y * dy).sum()

    y, kept = conv_bias_activation_pool.reference(z, one, zero, keep=True, kind=kind, **end(function), **VALID, **ways)
    given = end(function)
    if kind == "max":
        slope = dy if function == "relu" else bias_activation_grad.reference(dy, y, **given)[0]
        dz, db = conv_pool_grad_sums.reference(slope, kept, kind=kind, **end("linear"), size=(5, 6), **ways)
    else:
        dz, db = conv_pool_grad_sums.reference(dy, kept, kind=kind, **given, size=(5, 6), **ways)
    step = 1e-6
    for place in np.ndindex(z.shape):
        moved = np.zeros_like(z)
        moved[place] = step
        assert (loss(z + moved) - loss(z - moved)) / (2 * step) == pytest.approx(dz[place], abs=1e-7)
    np.testing.assert_allclose(db, dz.sum(axis=(0, 1, 2)))


def random_window(rng, size):
    """Windows of at most 125 cells."""
    pool = tuple(int(rng.integers(1, min(n, 5) + 1)) for n in size)
    strides = tuple(int(rng.integers(1, 5)) for _ in size)
    padding = tuple((int(rng.integers(0, n)), int(rng.integers(0, n))) for n in pool)
    return windows(pool, strides, padding)


@pytest.mark.jit
@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize(("algorithm", "axes"), [("implicit_gemm", 2), ("winograd", 2), ("implicit_gemm", 3)])
def test_random_shapes_agree_with_the_definition(algorithm, axes, seed):
    """Few images or volumes, whose parts are pooled once all results are there, and many; in groups and not."""
    rng = np.random.default_rng(seed)
    images, extents = int(rng.choice([1, 2, 3, 5, 9, 40])), tuple(map(int, rng.integers(6, 17 - axes * 2, axes)))
    taps = tuple(map(int, rng.integers(2, 5, axes)))
    low, groups = (16, 1) if algorithm == "winograd" else (1, int(rng.integers(1, 4)))
    channels, filters = map(int, rng.integers(low, 50 if axes == 2 else 20, 2))
    strides = (1, 1) if algorithm == "winograd" else tuple(map(int, rng.integers(1, 3, axes)))
    padding = tuple((int(rng.integers(0, n)), int(rng.integers(0, n))) for n in taps)
    size = tuple(map(positions, extents, taps, strides, (1,) * axes, padding))
    kind, keep = ("max", "mean")[seed % 2], seed // 8 % 2 == 0
    params = {"strides": strides, "padding": padding, "dilation": (1,) * axes, "groups": groups, "kind": kind}
    params |= end(("relu", "linear", "tanh", "elu")[seed // 2 % 4], keep=keep) | random_window(rng, size)
    x, weight = real(images, *extents, channels * groups), real(*taps, channels, filters * groups)
    case = Case(f"random_{seed}", (x, weight, real(filters * groups)), params)
    kernels = conv_bias_activation_pool.kernels(("njit",)).values()
    assert disagreement(next(k for k in kernels if k.algorithm == algorithm), case) is None


@pytest.mark.jit
@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("axes", [2, 3])
def test_gradients_of_random_windows_agree_with_the_definition(axes, seed):
    rng = np.random.default_rng(seed)
    size, images = tuple(map(int, rng.integers(1, 20 if axes == 2 else 9, axes))), int(rng.integers(1, 12))
    filters = int(rng.integers(1, 70))
    ways, kind = random_window(rng, size), ("max", "mean")[seed % 2]
    extents = zip(size, ways["pool"], ways["pool_strides"], ways["pool_padding"], strict=True)
    y = images, *(positions(n, taps, stride, 1, around) for n, taps, stride, around in extents), filters
    most = math.prod(ways["pool"]) + 1
    results = real(images, *size, filters, low=-0.99, high=0.99)
    kept = integers(*y, high=most, dtype="uint8") if kind == "max" else results
    params = {"kind": kind, **end("linear" if kind == "max" else "tanh"), "size": size, **ways}
    (kernel,) = conv_pool_grad_sums.kernels(("njit",)).values()
    assert disagreement(kernel, Case(f"random_{seed}", (real(*y), kept), params)) is None


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"kind": "median"}, ArgumentError, "kind='median' is unknown: use 'max' or 'mean'"),
        ({"function": "gelu"}, ArgumentError, "slope of gelu"),
        (windows((12, 12), (1, 1), ((6, 6), (6, 6))), ShapeError, "144 cells, and at most 126 fit"),
        (windows((7, 2), (1, 1)), ShapeError, "window"),
        (
            windows((2, 2, 2), (1, 1, 1)),
            ShapeError,
            r"pool=\(2, 2, 2\) is for 3 axes, and an array",
        ),
    ],
)
def test_what_cannot_be_pooled_is_named(change, error, message):
    x, weight, b = np.ones((1, 6, 6, 1)), np.ones((1, 1, 1, 2)), np.ones(2)
    params = {"kind": "max", "keep": True, **end("relu"), **VALID, **windows((2, 2), (2, 2)), **change}
    with pytest.raises(error, match=message):
        conv_bias_activation_pool(x, weight, b, **params)


def test_gradients_of_another_shape_than_the_result_are_named():
    params = {"kind": "max", **end("linear"), "size": (4, 4), **windows((2, 2), (2, 2))}
    with pytest.raises(ShapeError, match=r"dy is \(1, 3, 2, 2\)"):
        conv_pool_grad_sums(np.ones((1, 3, 2, 2)), np.ones((1, 2, 2, 2), np.uint8), **params)
    dy, index = np.ones((1, 2, 2, 2)), np.ones((1, 2, 2, 2), np.uint8)
    with pytest.raises(ArgumentError, match="multiply dy by its slope before"):
        conv_pool_grad_sums(dy, index, **params | end("tanh"))
