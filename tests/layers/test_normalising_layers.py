"""LayerNormalization, GroupNormalization, PReLU, Softmax over axes, Cropping: as in Keras, with gradients."""

import numpy as np
import pytest
from keras_layers import assert_as_in_keras
from layer_checks import STEP, assert_gradients_agree_with_central_differences
from refusals import refuses

import gpucnn
from gpucnn import Input, Sequential, layers, optimizers, utils
from gpucnn.errors import ArgumentError, ShapeError

IN_KERAS = [
    ("LayerNormalization", (3, 7), {}),
    ("LayerNormalization", (2, 4, 5, 3), {"epsilon": 1e-5}),
    ("LayerNormalization", (2, 4, 5, 3), {"axis": [1, 2, 3], "center": False}),
    ("LayerNormalization", (2, 4, 5), {"axis": [-1, -2], "scale": False}),
    ("GroupNormalization", (2, 4, 5, 6), {"groups": 3}),
    ("GroupNormalization", (2, 4, 5, 6), {"groups": -1, "epsilon": 1e-5}),
    ("GroupNormalization", (2, 7, 6), {"groups": 1, "center": False}),
    ("GroupNormalization", (3, 8), {"groups": 4, "scale": False}),
    ("GroupNormalization", (1, 2, 3, 2, 4), {"groups": 2}),
    ("PReLU", (3, 7), {}),
    ("PReLU", (2, 3, 4, 5), {"alpha_initializer": "ones"}),
    ("PReLU", (2, 3, 4, 5), {"shared_axes": [1, 2]}),
    ("PReLU", (2, 3, 4, 5), {"shared_axes": [2]}),
    ("PReLU", (2, 3, 4, 5), {"shared_axes": [3]}),
    ("PReLU", (2, 3, 4, 5), {"shared_axes": [1, 2, 3]}),
    ("PReLU", (2, 2, 3, 4, 5), {"shared_axes": [2, 4]}),
    ("PReLU", (2, 6, 5), {"shared_axes": [1]}),
    ("Softmax", (2, 3, 4), {"axis": 1}),
    ("Softmax", (2, 3, 4, 5), {"axis": 3}),
    ("Softmax", (2, 3, 4, 5), {"axis": -2}),
    ("Softmax", (2, 3, 4, 5), {"axis": [1, 2]}),
    ("Cropping1D", (2, 7, 3), {"cropping": (2, 1)}),
    ("Cropping1D", (2, 7, 3), {}),
    ("Cropping2D", (2, 5, 6, 3), {"cropping": ((1, 2), (0, 3))}),
    ("Cropping2D", (2, 5, 6, 3), {}),
    ("Cropping2D", (2, 5, 6, 3), {"cropping": (1, 2)}),
    ("Cropping3D", (1, 4, 5, 6, 2), {"cropping": 1}),
]


@pytest.mark.parametrize(("name", "shape", "arguments"), IN_KERAS, ids=lambda value: str(value)[:60])
def test_layers_compute_what_those_of_keras_do(name, shape, arguments):
    assert_as_in_keras(name, shape, **arguments)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.LayerNormalization(epsilon=1.0), (3, 5)),
        (layers.LayerNormalization([1, 2], epsilon=1.0), (2, 3, 4)),
        (layers.GroupNormalization(2, epsilon=1.0), (2, 3, 4)),
        (layers.GroupNormalization(-1, epsilon=1.0), (2, 3, 2, 2)),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_gradients_agree_with_central_differences(layer, shape):
    """With epsilon = 1 the third derivatives are below those of tanh."""
    with gpucnn.using("numpy"):
        assert_gradients_agree_with_central_differences(layer, shape)


@pytest.mark.parametrize("shared", [None, [1], [2], [1, 2], [3], [1, 3], [1, 2, 3]])
def test_the_gradients_of_prelu_are_exact_away_from_0(shared):
    """It is linear in x and in alpha, so a difference gives the slope exactly."""
    rng = np.random.default_rng(0)
    layer = layers.PReLU("random_normal", shared_axes=shared)
    x = rng.choice([-2.0, -1.0, 1.0, 2.0], (2, 3, 2, 4))
    layer.ensure_built((None, 3, 2, 4))
    layer.alpha.value = rng.integers(-2, 3, layer.alpha.shape).astype(float)
    layer.alpha.gradient = np.full(layer.alpha.shape, np.nan)
    with gpucnn.using("numpy"):
        y, backward = layer.forward(x, STEP, True)
        dy = rng.integers(-2, 3, x.shape).astype(float)
        dx = backward(dy)
        assert dx.tolist() == (dy * np.where(x > 0, 1, np.broadcast_to(layer.alpha.value, x.shape))).tolist()
        for index in np.ndindex(layer.alpha.shape):
            layer.alpha.value[index] += 1
            assert layer.alpha.gradient[index] == ((layer.forward(x, STEP, True)[0] - y) * dy).sum()
            layer.alpha.value[index] -= 1


def test_normalised_values_have_mean_0_and_variance_1():
    x = np.random.default_rng(0).normal(5, 3, (4, 6, 8)).astype(np.float32)
    y = layers.LayerNormalization(epsilon=0)(x)
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(y.var(-1), 1, rtol=1e-4)
    y = layers.GroupNormalization(2, epsilon=0)(x).reshape(4, 6, 2, 4)
    np.testing.assert_allclose(y.mean((1, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(y.var((1, 3)), 1, rtol=1e-4)


def test_an_input_is_normalised_whatever_else_is_in_the_batch():
    x = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    layer = layers.GroupNormalization(3)
    assert (layer(x)[1:2] == layer(x[1:2])).all()


@pytest.mark.parametrize(
    "stack",
    [
        [layers.LayerNormalization(), layers.PReLU(shared_axes=[1, 2])],
        [layers.GroupNormalization(2), layers.Cropping2D(1), layers.Softmax(axis=[1, 2])],
    ],
    ids=["layer", "group"],
)
def test_models_with_them_are_saved_and_learn(stack, tmp_path):
    from gpucnn import models

    rng = np.random.default_rng(0)
    utils.set_random_seed(0)
    model = Sequential(
        [Input((6, 6, 1)), layers.Conv2D(4, 3, padding="same"), *stack, layers.Flatten(), layers.Dense(2, "softmax")]
    )
    model.compile(optimizers.Adam(0.03), "sparse_categorical_crossentropy")
    y = rng.integers(0, 2, 64)
    x = rng.normal(0, 0.5, (64, 6, 6, 1)).astype(np.float32)
    x[:, 1:3] += y[:, None, None, None]
    history = model.fit(x, y, epochs=15, verbose=0)
    assert history.history["loss"][-1] < 0.8 * history.history["loss"][0]
    model.save(tmp_path / "model.safetensors")
    loaded = models.load_model(tmp_path / "model.safetensors")
    assert (loaded.predict(x, verbose=0) == model.predict(x, verbose=0)).all()


test_wrong_arguments_are_refused = refuses(
    ArgumentError,
    [
        (lambda: layers.LayerNormalization([1])(np.zeros((2, 3, 4))), "give the last axes"),
        (lambda: layers.LayerNormalization(0)(np.zeros((2, 3))), "without the batch"),
        (lambda: layers.LayerNormalization("last"), "axis='last'"),
        (lambda: layers.GroupNormalization(0), "groups=0"),
        (lambda: layers.GroupNormalization(2, axis=1)(np.zeros((2, 3, 4))), "channels last"),
        (lambda: layers.PReLU(shared_axes=[0]), r"shared_axes=\[0\]"),
        (lambda: layers.PReLU(shared_axes=[3])(np.zeros((2, 3))), "shared_axes"),
        (lambda: layers.Softmax(axis=0)(np.zeros((2, 3))), r"axes of 1 … 1"),
        (lambda: layers.Softmax(axis=(1, 1))(np.zeros((2, 3, 4))), "each once"),
        (lambda: layers.Softmax(axis="last"), "axis='last'"),
        (lambda: layers.Cropping2D(-1), "cropping=-1"),
    ],
)

test_wrong_shapes_are_refused = refuses(
    ShapeError,
    [
        (lambda: layers.GroupNormalization(3)(np.zeros((2, 4))), "cannot be split into groups=3"),
        (lambda: layers.Cropping1D(2)(np.zeros((1, 4, 1))), "nothing is left"),
    ],
)
