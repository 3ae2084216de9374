"""Layers that change shape, order or range of their inputs, and the one that only states a shape."""

import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_checks import STEP
from refusals import refuses

from gpucnn import config, layers
from gpucnn.dispatch.case import Spec
from gpucnn.errors import ArgumentError, ShapeError
from gpucnn.ops.rescaling import rescale
from gpucnn.ops.reshaping import crop, pad, transpose


def counted(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (lambda: layers.Flatten(), (2, 3, 4, 5), (2, 60)),
        (lambda: layers.Flatten(), (2, 3), (2, 3)),
        (lambda: layers.Reshape((4, 3)), (2, 12), (2, 4, 3)),
        (lambda: layers.Reshape((-1, 2)), (2, 3, 4), (2, 6, 2)),
        (lambda: layers.Reshape((2, -1, 1)), (5, 6), (5, 2, 3, 1)),
        (lambda: layers.Reshape((-1,)), (2, 3, 4), (2, 12)),
        (lambda: layers.Reshape(12), (2, 3, 4), (2, 12)),
        (lambda: layers.Permute((2, 1)), (2, 3, 4), (2, 4, 3)),
        (lambda: layers.Permute((2, 3, 1)), (2, 3, 4, 5), (2, 4, 5, 3)),
        (lambda: layers.ZeroPadding1D(), (2, 3, 4), (2, 5, 4)),
        (lambda: layers.ZeroPadding1D((0, 2)), (2, 3, 4), (2, 5, 4)),
        (lambda: layers.ZeroPadding2D(), (2, 3, 4, 5), (2, 5, 6, 5)),
        (lambda: layers.ZeroPadding2D(2), (2, 3, 4, 5), (2, 7, 8, 5)),
        (lambda: layers.ZeroPadding2D((1, 2)), (2, 3, 4, 5), (2, 5, 8, 5)),
        (lambda: layers.ZeroPadding2D(((1, 0), (0, 3))), (2, 3, 4, 5), (2, 4, 7, 5)),
        (lambda: layers.ZeroPadding3D(), (2, 3, 4, 5, 1), (2, 5, 6, 7, 1)),
        (lambda: layers.ZeroPadding3D((0, 1, (2, 0))), (2, 3, 4, 5, 1), (2, 3, 6, 7, 1)),
        (lambda: layers.InputLayer((3, 4)), (2, 3, 4), (2, 3, 4)),
        (lambda: layers.Rescaling(0.5), (2, 3, 4), (2, 3, 4)),
    ],
)
def test_shapes_and_adjoints(layer, shape, expected, rng):
    layer = layer()
    x = counted(*shape)
    before = x.copy()
    assert layer(x).shape == expected
    assert layer.output_shape == (None, *expected[1:])
    assert layer.compute_output_shape(shape) == expected
    y, backward = layer.forward(x, STEP, True)
    dy = rng.integers(-4, 5, y.shape).astype(np.float32)
    dx = backward(dy)
    assert dx.shape == shape
    assert dx.dtype == np.float32
    assert dx.flags.c_contiguous
    assert y.flags.c_contiguous
    assert np.vdot(dy, y) == np.vdot(dx, x)
    assert np.array_equal(x, before)
    again = config.deserialize(config.serialize(layer))
    assert np.array_equal(again(x), y)


def test_flatten_and_reshape_keep_the_order():
    x = counted(1, 2, 2, 2)
    assert layers.Flatten()(x).tolist() == [list(range(8))]
    assert layers.Reshape((4, 2))(x)[0].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_permute_counts_axes_from_one():
    x = counted(1, 2, 3)
    assert layers.Permute((2, 1))(x)[0].tolist() == [[0, 3], [1, 4], [2, 5]]
    y, backward = layers.Permute((3, 1, 2)).forward(counted(2, 2, 3, 4), STEP, True)
    assert np.array_equal(backward(y), counted(2, 2, 3, 4))
    assert backward(y, need_dx=False) is None


def test_moving_values_counts_as_no_work():
    x = Spec((2, 3), np.dtype(np.float32))
    assert pad.flops(x, padding=((1, 1), (0, 0))) == transpose.flops(x, axes=(1, 0)) == 0


def test_zeros_are_where_the_padding_says():
    y = layers.ZeroPadding2D(((1, 0), (0, 2)))(np.ones((1, 1, 2, 1)))
    assert y[0, :, :, 0].tolist() == [[0, 0, 0, 0], [1, 1, 0, 0]]
    assert layers.ZeroPadding1D((2, 1))(np.ones((1, 1, 1))).reshape(-1).tolist() == [0, 0, 1, 0]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=4))
def test_crop_undoes_pad_and_is_its_gradient(axes):
    shape = tuple(extent for extent, _, _ in axes)
    padding = tuple((before, after) for _, before, after in axes)
    x = counted(*shape)
    y = pad(x, padding=padding)
    assert y.sum() == x.sum()
    assert np.array_equal(crop(y, padding=padding), x)
    dy = counted(*y.shape)
    assert np.vdot(dy, y) == np.vdot(crop(dy, padding=padding), x)


def test_rescaling_brings_bytes_to_the_unit_interval():
    x = np.array([[0, 51, 255]], np.float32)
    assert np.abs(layers.Rescaling(1 / 255)(x) - np.array([[0, 0.2, 1]])).max() <= 2**-23
    layer = layers.Rescaling(1 / 127.5, offset=-1)
    assert layer(x)[0, [0, 2]].tolist() == [-1, 1]
    _, backward = layer.forward(x, STEP, True)
    assert np.array_equal(backward(np.ones_like(x)), np.full_like(x, 1 / 127.5))
    assert backward(x, need_dx=False) is None
    assert layer.flops((None, 3)) == 6
    assert rescale(np.ones(2), scale=2.0, offset=1.0).tolist() == [3, 3]


@pytest.mark.parametrize("layer", [layers.Flatten(), layers.ZeroPadding1D(), layers.Reshape((6,))])
def test_the_gradient_of_the_input_is_left_out_on_request(layer):
    y, backward = layer.forward(counted(2, 3, 2), STEP, True)
    assert backward(y, need_dx=False) is None


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.AveragePooling2D(2), (2, 4, 4, 3)),
        (layers.AveragePooling3D(2), (2, 4, 4, 4, 3)),
        (layers.GlobalAveragePooling2D(), (2, 4, 4, 3)),
        (layers.Dropout(0.5), (2, 4)),
        (layers.SpatialDropout1D(0.5), (2, 4, 3)),
        (layers.Flatten(), (2, 4, 4, 3)),
        (layers.Permute((2, 1)), (2, 4, 3)),
        (layers.ZeroPadding1D(), (2, 4, 3)),
        (layers.Rescaling(2.0), (2, 4)),
        (layers.Softmax(), (2, 4)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_backward_pass_that_needs_no_input_keeps_none(layer, shape):
    x = counted(*shape)
    kept = weakref.ref(x)
    y, backward = layer.forward(x, STEP, True)
    dy = np.ones(y.shape, np.float32)
    del x, y
    assert kept() is None
    assert backward(dy).shape == shape


# -- Input -------------------------------------------------------------------------------------------------------------


def test_input_states_a_shape():
    first = layers.Input(shape=(28, 28, 1), batch_size=32, dtype="float32", name="image")
    assert isinstance(first, layers.InputLayer)
    assert (first.shape, first.batch_size, first.name) == ((28, 28, 1), 32, "image")
    assert layers.InputLayer(batch_shape=(None, 8, 8, 3)).shape == (8, 8, 3)
    assert layers.InputLayer(batch_shape=(16, 8)).batch_size == 16
    assert layers.InputLayer(input_shape=(8, 3)).shape == (8, 3)
    y, backward = first.forward(counted(2, 3), STEP, True)
    assert backward(y) is y


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "without the batch axis"),
        ({"shape": 28}, r"tuple such as \(28,\)"),
        ({"shape": (None, 28)}, "positive extents"),
        ({"shape": (28,), "batch_size": 0}, "batch_size=0"),
        ({"shape": (28,), "dtype": "uint8"}, "dtype='uint8'"),
        ({"shape": (28,), "sparse": True}, "sparse=True"),
        ({"shape": (28,), "ragged": True}, "ragged=True"),
        ({"shape": (28,), "optional": True}, "optional=True"),
        ({"shape": (28,), "input_tensor": 1}, "symbolic"),
        ({"shape": (28,), "tensor": 1}, "tensor"),
        ({"shape": (28,), "sahpe": 1}, "did you mean 'shape'"),
    ],
)
def test_wrong_arguments_of_input_are_refused(arguments, words):
    with pytest.raises(ArgumentError, match=words):
        layers.Input(**arguments)


test_wrong_arguments_are_refused = refuses(
    ArgumentError,
    [
        (lambda: layers.Reshape((0, 2)), r"target_shape=\(0, 2\)"),
        (lambda: layers.Reshape((-1, -1)), "at most one"),
        (lambda: layers.Reshape("ab"), "target_shape='ab'"),
        (lambda: layers.Permute((0, 1)), r"dims=\(0, 1\).*counted from 1"),
        (lambda: layers.Permute(1), "dims=1"),
        (lambda: layers.Flatten(data_format="channels_first"), "channels_first"),
        (lambda: layers.ZeroPadding2D(-1), "padding=-1"),
        (lambda: layers.ZeroPadding2D((1, 2, 3)), "for each of 2 axes"),
        (lambda: layers.ZeroPadding2D(((1, 2, 3), 1)), "pair"),
        (lambda: layers.ZeroPadding1D("same"), r"padding='same'\): give a number of cells, or a pair"),
        (lambda: layers.ZeroPadding1D((1, 2, 3)), r"padding=\(1, 2, 3\)"),
        (lambda: layers.ZeroPadding3D(data_format="channels_first"), "channels_first"),
        (lambda: layers.Rescaling([1, 2]), r"scale=\[1, 2\].*a number"),
        (lambda: layers.Rescaling(1.0, "0"), "offset='0'"),
        (lambda: pad(np.ones(2), padding=((-1, 0),)), "must not be negative"),
    ],
)


test_arrays_that_do_not_fit_are_refused = refuses(
    ShapeError,
    [
        (lambda: layers.Reshape((5, 2))(counted(1, 12)), r"12 values .*\(5, 2\)"),
        (lambda: layers.Reshape((5, -1))(counted(1, 12)), r"12 values .*\(5, -1\)"),
        (lambda: layers.Permute((2, 1))(counted(1, 2, 3, 4)), "needs 3 axes"),
        (lambda: layers.ZeroPadding2D()(counted(1, 2, 3)), "needs 4 axes"),
        (lambda: pad(np.ones((2, 2)), padding=((1, 1),)), "2 axes but padding"),
        (lambda: crop(np.ones(3), padding=((2, 1),)), "nothing is left"),
        (lambda: transpose(np.ones((2, 2)), axes=(0, 0)), r"axes=\(0, 0\)"),
    ],
)
