"""What a prediction rests on: saliency and class-activation maps, against what is known of simple models."""

import numpy as np
import pytest

import gpucnn
from gpucnn import layers
from gpucnn.errors import ArgumentError, ShapeError
from gpucnn.models import attribution, fusion

EPS = np.finfo(np.float32).eps


def scores(model, x):
    """The outputs before the last activation."""
    for layer in model.layers[:-1]:
        x = layer(x)
    kernel, bias = model.layers[-1].get_weights()
    return x @ kernel + bias


@pytest.fixture
def linear():
    """A model whose scores are linear in the image, with random moving statistics."""
    rng = np.random.default_rng(5)
    model = gpucnn.Sequential(
        [
            gpucnn.Input((6, 5, 2)),
            layers.Conv2D(3, 3, padding="same"),
            layers.BatchNormalization(),
            layers.AveragePooling2D(2, padding="same"),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(4, activation="softmax"),
        ]
    )
    model.set_weights([rng.uniform(0.2, 1.0, w.shape) for w in model.weights])
    return model


def test_saliency_is_the_largest_slope_of_the_score_by_a_pixel(linear, rng):
    x = rng.uniform(0, 1, (2, 6, 5, 2)).astype(np.float32)
    maps = attribution.saliency(linear, x, [3, 1])
    assert maps.shape == (2, 6, 5) and maps.dtype == np.float32
    base = scores(linear, x)
    terms = linear.layers[-1].kernel.shape[0] + 3 * 3 * 2
    for (n, row, column), value in np.ndenumerate(maps):
        slopes = []
        for channel in range(2):
            changed = x.copy()
            changed[n, row, column, channel] += 1.0
            after = scores(linear, changed)
            slopes.append(abs(after[n, (3, 1)[n]] - base[n, (3, 1)[n]]))
        np.testing.assert_allclose(value, max(slopes), atol=2 * terms * EPS * np.abs(after).max())


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_layers_that_are_computed_together_give_the_same_maps(activation, rng):
    gpucnn.utils.set_random_seed(2)
    stack = [
        layers.Conv2D(6, 3, padding="same", activation=activation),
        layers.MaxPooling2D(2),
        layers.Residual([layers.Conv2D(6, 3, padding="same", activation=activation), layers.Dropout(0.5)]),
        layers.Conv2D(7, 2, activation=activation),
        layers.AveragePooling2D(2, strides=1),
        layers.Flatten(),
        layers.Dense(9, activation=activation),
        layers.Dense(3, activation="softmax"),
    ]
    model = gpucnn.Sequential([gpucnn.Input((12, 10, 2)), *stack])
    x, classes = rng.random((5, 12, 10, 2), np.float32), [0, 1, 2, 0, 1]
    for function in attribution.saliency, attribution.grad_cam:
        together = function(model, x, classes)
        with fusion.off():
            alone = function(model, x, classes)
        np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5 * alone.max())


def test_saliency_ends_at_units_that_are_off():
    model = gpucnn.Sequential(
        [
            gpucnn.Input((1, 2, 1)),
            layers.Conv2D(1, 1, activation="relu", kernel_initializer="ones"),
            layers.Flatten(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.layers[-1].set_weights([np.array([[2.0, -3.0], [5.0, 7.0]]), np.zeros(2)])
    x = np.array([1.0, -1.0], np.float32).reshape(1, 1, 2, 1)
    assert attribution.saliency(model, x, [1])[0].tolist() == [[3.0, 0.0]]


def test_grad_cam_is_the_class_activation_map_where_that_exists(rng):
    """Selvaraju et al., section 3.1: after global average pooling and Dense, both are Σ w · A."""
    model = gpucnn.Sequential(
        [
            gpucnn.Input((8, 9, 1)),
            layers.Conv2D(4, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
            layers.Softmax(),
        ]
    )
    x = rng.uniform(0, 1, (2, 8, 9, 1)).astype(np.float32)
    maps = attribution.grad_cam(model, x, [0, 2])
    features = x
    for layer in model.layers[:3]:
        features = layer(features)
    kernel = model.layers[4].get_weights()[0]
    expected = np.stack([np.maximum(f @ kernel[:, c], 0) for f, c in zip(features, (0, 2))]) / (6 * 7)
    assert maps.shape == (2, 6, 7) and expected.max() > 0
    np.testing.assert_allclose(maps, expected, atol=8 * EPS * np.abs(features).max())


def test_a_single_output_speaks_for_class_1_and_against_class_0():
    model = gpucnn.Sequential(
        [gpucnn.Input((2, 2, 1)), layers.Conv2D(1, 1, kernel_initializer="ones"), layers.Flatten()]
    )
    model.add(layers.Dense(1, activation="sigmoid", kernel_initializer="ones"))
    x = np.ones((2, 2, 2, 1), np.float32)
    assert attribution.grad_cam(model, x, [1, 0]).max(axis=(1, 2)).tolist() == [1.0, 0.0]


def test_the_model_is_left_as_it_was(linear, rng):
    x = rng.uniform(0, 1, (2, 6, 5, 2)).astype(np.float32)
    linear.layers[0].trainable = False
    before = linear.get_weights()
    attribution.saliency(linear, x, [0, 0])
    attribution.grad_cam(linear, x, [0, 0])
    for old, new in zip(before, linear.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("images", "classes", "error", "message"),
    [
        (np.zeros((6, 5, 2)), [0], ShapeError, r"images of shape \(6, 5, 2\): the model takes \(n, 6, 5, 2\)"),
        (np.zeros((2, 6, 5, 2)), [0], ShapeError, "2 images and 1 classes: give one for each"),
        (np.zeros((1, 6, 5, 2)), [4], ArgumentError, "class 4: the model has the classes 0 to 3"),
        (np.zeros((1, 6, 5, 2)), [-1], ArgumentError, "class -1"),
        (np.zeros((1, 6, 5, 2)), [0.5], ArgumentError, "classes are whole numbers"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(linear, images, classes, error, message):
    for function in (attribution.saliency, attribution.grad_cam):
        with pytest.raises(error, match=message):
            function(linear, images, classes)


def test_models_without_maps_or_gradients_are_refused():
    flat = gpucnn.Sequential([gpucnn.Input((4, 4, 1)), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(ArgumentError, match="no two-dimensional convolution whose maps could be weighed"):
        attribution.grad_cam(flat, np.zeros((1, 4, 4, 1)), [0])
    wide = gpucnn.Sequential([gpucnn.Input((4, 4, 1)), layers.Conv2D(2, 3)])
    with pytest.raises(ArgumentError, match=r"outputs of shape \(2, 2, 2\) are not one score for each class"):
        attribution.grad_cam(wide, np.zeros((1, 4, 4, 1)), [0])
    with pytest.raises(ArgumentError, match="the model is not built"):
        attribution.saliency(gpucnn.Sequential([layers.Flatten()]), np.zeros((1, 4, 4, 1)), [0])
    resized = gpucnn.Sequential([gpucnn.Input((4, 4, 1)), layers.Resizing(8, 8), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(ArgumentError, match="has no gradient"):
        attribution.saliency(resized, np.zeros((1, 4, 4, 1)), [0])
