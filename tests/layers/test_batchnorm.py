"""Batch normalisation: numbers worked by hand, gradients, PyTorch, and when the layer updates its statistics."""

import numpy as np
import pytest
from differences import slope
from layer_checks import EPS, STEP
from refusals import refuses

from gpucnn import layers
from gpucnn.errors import ArgumentError, ShapeError
from gpucnn.ops.batchnorm import (
    batchnorm,
    batchnorm_grad,
    batchnorm_inference,
    batchnorm_inference_grad,
    moving_average,
)


def test_a_channel_of_1_2_3_4_has_mean_2_5_and_variance_1_25():
    x = np.array([[1.0, -5], [2, -5], [3, -5], [4, -5]])
    y, mean, variance = batchnorm(x, np.array([2.0, 7.0]), np.array([10.0, 20.0]), epsilon=1.0)
    assert mean.tolist() == [2.5, -5]
    assert variance.tolist() == [1.25, 0]
    assert np.abs(y[:, 0] - (10 + 2 * np.array([-1, -1 / 3, 1 / 3, 1]))).max() <= 16 * EPS
    assert y[:, 1].tolist() == [20] * 4
    inferred = batchnorm_inference(x, None, None, np.array([1.0, -4.0]), np.array([3.0, 0.0]), epsilon=1.0)
    assert inferred.tolist() == [[0, -1], [0.5, -1], [1, -1], [1.5, -1]]


def test_the_result_has_mean_beta_and_deviation_gamma(rng):
    x = rng.normal(3, 5, (6, 7, 5, 4))
    gamma, beta = rng.normal(size=4), rng.normal(size=4)
    y, _, variance = batchnorm(x, gamma, beta, epsilon=1e-12)
    assert np.abs(y.mean(axis=(0, 1, 2)) - beta).max() <= y.size * EPS
    assert np.abs(y.std(axis=(0, 1, 2)) - np.abs(gamma)).max() <= 1e-12 / variance.min() + y.size * EPS


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 3), (2, 3, 2, 3), (1, 2, 2, 2, 3)])
@pytest.mark.parametrize("with_gamma", [True, False])
def test_gradients_agree_with_central_differences(shape, with_gamma, rng):
    x, beta, dy = rng.normal(size=shape), rng.normal(size=3), rng.normal(size=shape)
    gamma = rng.normal(size=3) if with_gamma else None
    _, mean, variance = batchnorm(x, gamma, beta, epsilon=0.1)
    moving = rng.normal(size=3), rng.uniform(0.1, 1, 3)

    def train(x, gamma=gamma, beta=beta):
        return batchnorm(x, gamma, beta, epsilon=0.1)[0]

    def infer(x, gamma=gamma, beta=beta):
        return batchnorm_inference(x, gamma, beta, *moving, epsilon=0.1)

    for forward, gradients in (
        (train, batchnorm_grad(dy, x, gamma, mean, variance, epsilon=0.1)),
        (infer, batchnorm_inference_grad(dy, x, gamma, *moving, epsilon=0.1)),
    ):
        dx, dgamma, dbeta = gradients
        for _ in range(3):
            direction = rng.normal(size=shape)
            expected, bound = slope(forward, x, direction, dy)
            assert abs(np.vdot(dx, direction) - expected) <= bound
        channels = rng.normal(size=3)
        expected, bound = slope(lambda b, f=forward: f(x, beta=b), beta, channels, dy)
        assert abs(np.vdot(dbeta, channels) - expected) <= bound
        if with_gamma:
            expected, bound = slope(lambda g, f=forward: f(x, gamma=g), gamma, channels, dy)
            assert abs(np.vdot(dgamma, channels) - expected) <= bound


def test_gradients_ignore_a_shift_and_a_scale_of_the_batch(rng):
    """A shift or a scale of all inputs changes no result, so dx is orthogonal to 1 and to x."""
    x, dy = rng.normal(size=(50, 3)), rng.normal(size=(50, 3))
    _, mean, variance = batchnorm(x, None, None, epsilon=0.0)
    dx, _, _ = batchnorm_grad(dy, x, None, mean, variance, epsilon=0.0)
    bound = 16 * dy.size * EPS * np.abs(dy).max() / np.sqrt(variance.min())
    assert np.abs(dx.sum(axis=0)).max() <= bound
    assert np.abs((dx * x).sum(axis=0)).max() <= bound * np.abs(x).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_channel_stays_finite_and_the_dtype_stays(dtype):
    x = np.full((4, 3, 3, 2), 7, dtype)
    gamma = np.ones(2, dtype)
    y, mean, variance = batchnorm(x, gamma, gamma, epsilon=1e-3)
    gradients = batchnorm_grad(x, x, gamma, mean, variance, epsilon=1e-3)
    inferred = batchnorm_inference(x, gamma, None, mean, variance, epsilon=1e-3)
    more = batchnorm_inference_grad(x, x, None, mean, variance, epsilon=1e-3)
    for array in (y, mean, variance, *gradients, inferred, *more):
        assert array.dtype == dtype
        assert np.isfinite(array).all()
    assert (y == 1).all()


def test_many_large_values_keep_their_small_variance_in_float32():
    """Two passes: the variance is that of the differences, and not a difference of squares of 10⁴."""
    rng = np.random.default_rng(0)
    x = (1e4 + rng.integers(-1, 2, (64, 28, 28, 2))).astype(np.float32)
    _, mean, variance = batchnorm(x, None, None, epsilon=1e-3)
    exact = x.astype(np.float64).var(axis=(0, 1, 2))
    shift = mean - x.astype(np.float64).mean(axis=(0, 1, 2))
    # Partial sums of 784 positions and of 64 images, each rounded to half an ulp of the sum it adds to.
    assert np.abs(shift).max() <= (784 + 64) * 2**-24 * 1e4
    assert np.abs(variance - exact - shift**2).max() <= (784 + 64) * 2**-24


def test_two_calls_give_the_same_bits(rng):
    x = rng.normal(size=(9, 5, 7, 3)).astype(np.float32)
    first, second = (batchnorm(x, None, None, epsilon=1e-3) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_normalisation_agrees_with_pytorch(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, gamma, beta = rng.normal(size=(4, 3, 5, 6)), rng.normal(size=6), rng.normal(size=6)
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    y = torch.nn.functional.batch_norm(
        leaves[0].movedim(-1, 1), None, None, leaves[1], leaves[2], training=True, eps=1e-3
    ).movedim(1, -1)
    dy = rng.normal(size=x.shape)
    y.backward(torch.tensor(dy))
    ours, mean, variance = batchnorm(x, gamma, beta, epsilon=1e-3)
    assert np.abs(ours - y.detach().numpy()).max() <= 64 * EPS * np.abs(ours).max()
    for got, leaf in zip(batchnorm_grad(dy, x, gamma, mean, variance, epsilon=1e-3), leaves, strict=True):
        assert np.abs(got - leaf.grad.numpy()).max() <= x.size * EPS * np.abs(got).max()


def test_the_moving_average_is_written_in_place():
    moving = np.array([1.0, 10.0])
    again = moving_average(moving, np.array([3.0, 20.0]), momentum=0.75)
    assert again is moving
    assert moving.tolist() == [1.5, 12.5]


# -- the layer ---------------------------------------------------------------------------------------------------------


def test_weights_are_those_of_keras_in_their_order():
    layer = layers.BatchNormalization()
    layer.ensure_built((None, 4, 4, 3))
    assert [w.path for w in layer.weights] == [
        f"batch_normalization/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")
    ]
    assert [w.value.tolist() for w in layer.weights] == [[1] * 3, [0] * 3, [0] * 3, [1] * 3]
    assert [w.name for w in layer.trainable_weights] == ["gamma", "beta"]
    assert layer.count_params() == 12
    assert layer.flops((None, 4, 4, 3)) == 144


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"center": False}, ["gamma", "moving_mean", "moving_variance"]),
        ({"scale": False}, ["beta", "moving_mean", "moving_variance"]),
        ({"scale": False, "center": False}, ["moving_mean", "moving_variance"]),
    ],
)
def test_gamma_and_beta_can_be_left_out(arguments, names, rng):
    layer = layers.BatchNormalization(**arguments)
    x = rng.normal(3, 2, (50, 4)).astype(np.float32)
    y = layer(x, training=True)
    assert [w.name for w in layer.weights] == names
    assert np.abs(y.mean(axis=0)).max() <= 1e-5
    _, backward = layer.forward(x, STEP, True)
    assert backward(np.ones_like(x)).shape == x.shape


def test_moving_statistics_change_in_update_and_not_before():
    layer = layers.BatchNormalization(momentum=0.75)
    x = np.array([[0.0], [4.0]], np.float32)
    layer(x, training=True)
    assert layer.moving_mean.value == 0
    assert layer.moving_variance.value == 1
    layer.update()
    assert layer.moving_mean.value == 0.5
    assert layer.moving_variance.value == 1.75
    layer.update()
    assert layer.moving_mean.value == 0.5


def test_a_pass_in_inference_leaves_nothing_for_update():
    layer = layers.BatchNormalization()
    x = np.array([[0.0], [4.0]], np.float32)
    layer(x, training=True)
    layer(x)
    layer.update()
    assert layer.moving_mean.value == 0


def test_inference_takes_the_moving_statistics():
    layer = layers.BatchNormalization(epsilon=1.0)
    layer.ensure_built((None, 1))
    layer.set_weights([[2.0], [1.0], [5.0], [3.0]])
    assert layer([[5.0], [7.0]]).tolist() == [[1], [3]]


def test_a_frozen_layer_uses_its_statistics_even_in_training():
    layer = layers.BatchNormalization(trainable=False, epsilon=0.0)
    x = np.array([[3.0], [9.0]], np.float32)
    assert layer(x, training=True).tolist() == [[3], [9]]
    layer.update()
    assert layer.moving_mean.value == 0
    _, backward = layer.forward(x, STEP, True)
    assert backward(x).tolist() == [[3], [9]]


@pytest.mark.parametrize("training", [True, False])
def test_backward_writes_gradients_and_does_not_add(training, rng):
    layer = layers.BatchNormalization()
    x, dy = (rng.normal(size=(6, 2, 3)).astype(np.float32) for _ in range(2))
    before = x.copy()
    layer(x, training=training)
    for _ in range(2):
        _, backward = layer.forward(x, STEP, training)
        dx = backward(dy)
    assert dx.shape == x.shape
    assert np.array_equal(x, before)
    gamma, beta = layer.gamma.gradient.copy(), layer.beta.gradient.copy()
    rounding = (4 + np.sqrt(12)) * np.finfo(np.float32).eps * np.abs(dy).sum(axis=(0, 1))
    assert (np.abs(beta - dy.sum(axis=(0, 1), dtype=np.float64)) <= rounding).all()
    normal = layer.forward(x, STEP, training)[0]
    assert np.abs(gamma - (dy * normal).sum(axis=(0, 1))).max() <= 64 * np.finfo(np.float32).eps
    assert backward(dy, need_dx=False) is None
    assert np.array_equal(layer.gamma.gradient, gamma)


def test_the_last_axis_may_be_given_by_its_number():
    assert layers.BatchNormalization(axis=3).compute_output_shape((None, 4, 4, 3)) == (None, 4, 4, 3)
    with pytest.raises(ArgumentError, match=r"axis=1.*channels last"):
        layers.BatchNormalization(axis=1).compute_output_shape((None, 3, 4, 4))


@pytest.mark.parametrize(
    "arguments",
    [
        {"renorm": True},
        {"renorm_clipping": {"rmax": 1}},
        {"renorm_momentum": 0.5},
        {"momentum": 1.5},
        {"epsilon": -1.0},
        {"epsilon": float("nan")},
        {"mode": 0},
    ],
)
def test_wrong_and_missing_arguments_are_refused_by_name(arguments):
    with pytest.raises(ArgumentError, match=next(iter(arguments)).split("_")[0]):
        layers.BatchNormalization(**arguments)


test_arrays_that_do_not_fit_are_refused = refuses(
    ShapeError,
    [
        (lambda: batchnorm(np.ones(3), None, None, epsilon=0.1), "at least 2 axes"),
        (lambda: batchnorm(np.ones((2, 3)), np.ones(2), None, epsilon=0.1), r"gamma has shape \(2,\).*\(3,\)"),
        (
            lambda: batchnorm_grad(np.ones((2, 2)), np.ones((2, 3)), None, np.ones(3), np.ones(3), epsilon=0.1),
            r"dy has shape \(2, 2\).*\(2, 3\)",
        ),
        (
            lambda: batchnorm_inference(np.ones((2, 3)), None, None, np.ones(3), np.ones(1), epsilon=0.1),
            r"variance has shape \(1,\)",
        ),
        (lambda: moving_average(np.ones(2), np.ones(3), momentum=0.5), r"\(2,\).*\(3,\)"),
    ],
)
