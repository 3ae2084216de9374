"""Layers that enlarge, and separable convolutions: numbers, gradients, shapes, refusals."""

import numpy as np
import pytest
from keras_layers import assert_as_in_keras
from layer_checks import assert_gradients_agree_with_central_differences
from refusals import refuses

import gpucnn
from gpucnn import Input, Sequential, layers, optimizers
from gpucnn.errors import ArgumentError, ShapeError

IN_KERAS = [
    ("Conv2DTranspose", (2, 4, 5, 3), {"filters": 4, "kernel_size": 3}),
    ("Conv2DTranspose", (2, 4, 5, 3), {"filters": 4, "kernel_size": 3, "strides": 2, "activation": "tanh"}),
    ("Conv2DTranspose", (2, 4, 5, 3), {"filters": 2, "kernel_size": 3, "strides": 2, "padding": "same"}),
    ("Conv2DTranspose", (2, 4, 5, 3), {"filters": 2, "kernel_size": 4, "strides": 2, "padding": "same"}),
    ("Conv2DTranspose", (2, 4, 5, 3), {"filters": 2, "kernel_size": 2, "strides": 2, "use_bias": False}),
    ("Conv2DTranspose", (1, 3, 4, 2), {"filters": 2, "kernel_size": (3, 2), "strides": (3, 2), "output_padding": 1}),
    ("Conv2DTranspose", (1, 4, 3, 2), {"filters": 3, "kernel_size": 3, "padding": "same", "dilation_rate": 2}),
    (
        "Conv2DTranspose",
        (1, 3, 4, 2),
        {"filters": 2, "kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 0},
    ),
    ("Conv1DTranspose", (2, 6, 3), {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same"}),
    ("Conv1DTranspose", (2, 6, 3), {"filters": 4, "kernel_size": 5, "strides": 3, "activation": "elu"}),
    ("Conv3DTranspose", (1, 3, 2, 4, 2), {"filters": 3, "kernel_size": 3, "strides": (1, 2, 2), "padding": "same"}),
    ("SeparableConv2D", (2, 6, 5, 3), {"filters": 4, "kernel_size": 3, "depth_multiplier": 2}),
    ("SeparableConv2D", (2, 6, 5, 3), {"filters": 2, "kernel_size": 3, "strides": 2, "padding": "same"}),
    ("SeparableConv1D", (2, 7, 3), {"filters": 4, "kernel_size": 3, "padding": "same", "activation": "tanh"}),
    ("SeparableConv1D", (2, 7, 3), {"filters": 4, "kernel_size": 2, "dilation_rate": 2, "padding": "same"}),
    ("DepthwiseConv1D", (2, 7, 3), {"kernel_size": 3, "depth_multiplier": 2, "strides": 2, "padding": "same"}),
    ("UpSampling1D", (2, 5, 3), {"size": 3}),
    ("UpSampling2D", (2, 3, 4, 2), {"size": (2, 3)}),
    ("UpSampling2D", (2, 3, 4, 2), {"size": (2, 3), "interpolation": "bilinear"}),
    ("UpSampling2D", (1, 1, 5, 2), {"size": 2, "interpolation": "bilinear"}),
    ("UpSampling3D", (1, 2, 3, 2, 2), {"size": (1, 2, 3)}),
    ("RepeatVector", (3, 4), {"n": 3}),
]


@pytest.mark.parametrize(("name", "shape", "arguments"), IN_KERAS, ids=lambda value: str(value)[:60])
def test_layers_compute_what_those_of_keras_do(name, shape, arguments):
    assert_as_in_keras(name, shape, **arguments)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.Conv2DTranspose(3, 3, strides=2, padding="same", activation="tanh"), (2, 3, 2, 2)),
        (layers.Conv2DTranspose(2, 2, strides=3, activation="tanh"), (1, 3, 2, 2)),
        (layers.Conv1DTranspose(2, 3, strides=2, output_padding=1, activation="tanh"), (2, 4, 2)),
        (layers.Conv3DTranspose(2, 2, strides=(1, 2, 1), activation="tanh"), (1, 2, 2, 2, 2)),
        (layers.SeparableConv2D(3, 2, depth_multiplier=2, padding="same", activation="tanh"), (2, 3, 4, 2)),
        (layers.SeparableConv1D(3, 3, padding="same", activation="tanh"), (2, 5, 2)),
        (layers.DepthwiseConv1D(3, depth_multiplier=2, activation="tanh"), (2, 5, 2)),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_gradients_agree_with_central_differences(layer, shape):
    with gpucnn.using("numpy"):
        assert_gradients_agree_with_central_differences(layer, shape)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.UpSampling2D((2, 3)), (2, 3, 4, 2)),
        (layers.UpSampling2D((3, 2), interpolation="bilinear"), (2, 3, 4, 2)),
        (layers.UpSampling1D(2), (2, 3, 4)),
        (layers.UpSampling3D(2), (1, 2, 3, 2, 2)),
        (layers.RepeatVector(4), (3, 5)),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_the_gradient_of_a_linear_layer_is_its_adjoint(layer, shape):
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape)
    with gpucnn.using("numpy"):
        y, backward = layer.forward(x, None, True)
        dy = rng.normal(size=y.shape)
        assert np.vdot(y, dy) == pytest.approx(np.vdot(x, backward(dy)), rel=1e-12)
    assert backward(dy, need_dx=False) is None


def test_a_transposed_convolution_is_the_transposed_matrix_of_a_convolution():
    """<conv(x), y> = <x, transposed(y)> for one kernel."""
    rng = np.random.default_rng(0)
    forth, back = (
        layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False),
        layers.Conv2DTranspose(3, 3, strides=2, padding="same", use_bias=False),
    )
    x, y = rng.normal(size=(2, 8, 6, 3)).astype(np.float32), rng.normal(size=(2, 4, 3, 4)).astype(np.float32)
    forth.ensure_built((None, 8, 6, 3))
    back.ensure_built((None, 4, 3, 4))
    back.set_weights(forth.get_weights())
    assert np.vdot(forth(x), y) == pytest.approx(np.vdot(x, back(y)), rel=1e-4)


test_wrong_arguments_are_refused = refuses(
    ArgumentError,
    [
        (lambda: layers.Conv2DTranspose(2, 3, strides=2, output_padding=2), "output_padding=2.*below the strides"),
        (lambda: layers.Conv2DTranspose(2, 3, strides=2, output_padding=(1,)), r"output_padding=\(1,\)"),
        (lambda: layers.Conv2DTranspose(2, 3, groups=2), "no argument groups=2"),
        (lambda: layers.SeparableConv2D(2, 3, kernel_initializer="ones"), "no argument kernel_initializer"),
        (lambda: layers.UpSampling2D(interpolation="bicubic"), "'bicubic'.*bilinear"),
        (lambda: layers.UpSampling2D(0), "size=0"),
        (lambda: layers.RepeatVector(0), "n=0"),
    ],
)

test_wrong_shapes_are_refused = refuses(
    ShapeError,
    [
        (lambda: layers.Conv2DTranspose(2, 3)(np.zeros((1, 4, 4))), "4 axes"),
        (lambda: layers.UpSampling2D()(np.zeros((1, 4, 4))), "needs 4 axes"),
        (
            lambda: layers.Conv2DTranspose(2, 2, strides=2, padding="same", output_padding=0)(np.zeros((1, 1, 1, 1))),
            "nothing is left",
        ),
    ],
)


def test_pixels_get_classes_by_an_encoder_and_a_decoder():
    """The use of segmentation: classes of all pixels at once, with a crossentropy for each."""
    rng = np.random.default_rng(0)
    x = rng.random((64, 8, 8, 1)).astype(np.float32)
    y = (x[..., 0] > 0.5).astype(np.int64)
    gpucnn.utils.set_random_seed(0)
    model = Sequential(
        [
            Input((8, 8, 1)),
            layers.SeparableConv2D(8, 3, padding="same", activation="relu"),
            layers.Conv2D(16, 2, strides=2, activation="relu"),
            layers.Conv2DTranspose(8, 2, 2, activation="relu"),
            layers.UpSampling2D(2),
            layers.MaxPooling2D(2),
            layers.Conv2D(2, 1, activation="softmax"),
        ]
    )
    model.compile(optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, epochs=60, batch_size=16, verbose=0)
    assert history.history["accuracy"][-1] > 0.9
