"""Conv1D, Conv2D, Conv3D and DepthwiseConv2D."""

import inspect

import numpy as np
import pytest
from layer_checks import STEP, arguments_of, assert_gradients_agree_with_central_differences
from refusals import refuses

from gpucnn.config import deserialize, serialize
from gpucnn.errors import ArgumentError, KernelError, ShapeError
from gpucnn.layers import Convolution1D, Convolution2D, Convolution3D
from gpucnn.layers.conv import Conv1D, Conv2D, Conv3D
from gpucnn.layers.depthwise_conv import DepthwiseConv2D
from gpucnn.layers.layer import Activated


@pytest.mark.parametrize("layer", [Conv1D, Conv2D, Conv3D])
def test_convolutions_have_the_signature_of_keras(layer):
    """But for strides and dilation rates of 1, which Keras writes once for each axis."""
    assert list(arguments_of(layer).items()) == [
        ("filters", inspect.Parameter.empty),
        ("kernel_size", inspect.Parameter.empty),
        ("strides", 1),
        ("padding", "valid"),
        ("data_format", None),
        ("dilation_rate", 1),
        ("groups", 1),
        ("activation", None),
        ("use_bias", True),
        ("kernel_initializer", "glorot_uniform"),
        ("bias_initializer", "zeros"),
        ("kernel_regularizer", None),
        ("bias_regularizer", None),
        ("activity_regularizer", None),
        ("kernel_constraint", None),
        ("bias_constraint", None),
    ]


def test_depthwise_convolution_has_the_signature_of_keras():
    assert list(arguments_of(DepthwiseConv2D).items()) == [
        ("kernel_size", inspect.Parameter.empty),
        ("strides", 1),
        ("padding", "valid"),
        ("depth_multiplier", 1),
        ("data_format", None),
        ("dilation_rate", 1),
        ("activation", None),
        ("use_bias", True),
        ("depthwise_initializer", "glorot_uniform"),
        ("bias_initializer", "zeros"),
        ("depthwise_regularizer", None),
        ("bias_regularizer", None),
        ("activity_regularizer", None),
        ("depthwise_constraint", None),
        ("bias_constraint", None),
    ]


def test_old_aliases_are_the_classes_themselves():
    assert (Convolution1D, Convolution2D, Convolution3D) == (Conv1D, Conv2D, Conv3D)


@pytest.mark.parametrize(
    ("layer", "shape", "kernel", "parameters"),
    [
        (Conv2D(10, 5), (28, 28, 1), (5, 5, 1, 10), 260),
        (Conv2D(20, 5), (12, 12, 10), (5, 5, 10, 20), 5_020),
        (Conv2D(32, (3, 3)), (28, 28, 1), (3, 3, 1, 32), 320),
        (Conv2D(64, (3, 3)), (13, 13, 32), (3, 3, 32, 64), 18_496),
        (Conv2D(8, (3, 5), use_bias=False), (9, 9, 4), (3, 5, 4, 8), 480),
        (Conv2D(8, 3, groups=4), (9, 9, 4), (3, 3, 1, 8), 80),
        (Conv1D(8, 5), (20, 3), (5, 3, 8), 128),
        (Conv3D(4, (2, 3, 3)), (5, 6, 7, 2), (2, 3, 3, 2, 4), 148),
        (DepthwiseConv2D(3), (9, 9, 4), (3, 3, 4, 1), 40),
        (DepthwiseConv2D(3, depth_multiplier=2), (9, 9, 4), (3, 3, 4, 2), 80),
    ],
)
def test_kernel_shapes_and_parameter_counts_are_those_of_keras(layer, shape, kernel, parameters):
    layer.ensure_built((None, *shape))
    assert layer.weights[0].shape == kernel
    assert layer.count_params() == parameters


def test_weights_are_called_as_in_keras():
    layer, named = Conv2D(2, 3), DepthwiseConv2D(3, name="spatial")
    for each in (layer, named):
        each.ensure_built((None, 5, 5, 1))
    assert [w.path for w in layer.weights] == ["conv2d/kernel", "conv2d/bias"]
    assert [w.path for w in named.weights] == ["spatial/kernel", "spatial/bias"]
    assert DepthwiseConv2D(3).name == "depthwise_conv2d"


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (Conv2D(8, 3), (28, 28, 1), (26, 26, 8)),
        (Conv2D(8, 3, padding="same"), (28, 27, 1), (28, 27, 8)),
        (Conv2D(8, 4, strides=3, padding="SAME"), (28, 27, 1), (10, 9, 8)),
        (Conv2D(8, 3, strides=(2, 3)), (28, 28, 1), (13, 9, 8)),
        (Conv2D(8, 3, dilation_rate=2), (28, 28, 1), (24, 24, 8)),
        (Conv1D(8, 5, padding="causal", dilation_rate=2), (20, 3), (20, 8)),
        (Conv1D(8, 5, padding="causal", strides=3), (20, 3), (7, 8)),
        (Conv3D(8, 2, strides=2), (5, 6, 7, 1), (2, 3, 3, 8)),
        (DepthwiseConv2D(3, strides=2, depth_multiplier=3), (9, 9, 4), (4, 4, 12)),
    ],
)
def test_output_shapes_are_those_of_keras(layer, shape, expected):
    assert layer.compute_output_shape((None, *shape)) == (None, *expected)
    assert layer(np.zeros((2, *shape))).shape == (2, *expected)


def ones(layer, shape):
    layer.ensure_built((None, *shape))
    for weight in layer.weights:
        weight.assign(np.ones(weight.shape))
    return layer


def test_same_padding_with_an_even_kernel_pads_more_at_the_end():
    layer = Conv2D(1, 2, padding="same", kernel_initializer="ones", use_bias=False)
    x = np.array([[1, 2], [4, 8]]).reshape(1, 2, 2, 1)
    assert layer(x)[0, :, :, 0].tolist() == [[15, 10], [12, 8]]


def test_causal_padding_looks_back_only():
    layer = Conv1D(1, 2, padding="causal", dilation_rate=2, use_bias=False)
    layer.ensure_built((None, 5, 1))
    layer.kernel.assign([[[10]], [[1]]])
    assert layer(np.arange(1, 6).reshape(1, 5, 1)).reshape(-1).tolist() == [1, 2, 13, 24, 35]


def test_a_depthwise_convolution_keeps_channels_apart_in_the_order_of_keras():
    layer = DepthwiseConv2D(1, depth_multiplier=2)
    layer.ensure_built((None, 1, 1, 3))
    layer.kernel.assign(np.array([[1, 2], [3, 4], [5, 6]]).reshape(1, 1, 3, 2))
    layer.bias.assign([0, 1, 0, 0, 0, 0])
    assert layer(np.array([1, 10, 100]).reshape(1, 1, 1, 3)).reshape(-1).tolist() == [1, 3, 30, 40, 500, 600]


def test_the_activation_comes_after_the_bias():
    layer = Conv2D(1, 1, activation="relu", kernel_initializer="ones")
    x = np.array([-3, 1]).reshape(1, 1, 2, 1)
    layer.ensure_built((None, 1, 2, 1))
    layer.bias.assign([2])
    assert layer(x).reshape(-1).tolist() == [0, 3]
    z, _ = layer.linear(x.astype(np.float32), STEP, True)
    assert z.reshape(-1).tolist() == [-1, 3]


LAYERS = [
    pytest.param(lambda: Conv1D(4, 3, padding="causal", dilation_rate=2, activation="tanh"), (2, 5, 2), id="conv1d"),
    pytest.param(lambda: Conv2D(4, (3, 2), strides=2, padding="same", activation="tanh"), (2, 4, 5, 2), id="conv2d"),
    pytest.param(lambda: Conv2D(4, 2, groups=2, use_bias=False, activation="tanh"), (2, 3, 3, 4), id="grouped"),
    pytest.param(lambda: Conv3D(2, 2, activation="tanh"), (1, 2, 3, 3, 2), id="conv3d"),
    pytest.param(lambda: DepthwiseConv2D(2, depth_multiplier=2, activation="tanh"), (2, 3, 4, 2), id="depthwise"),
]


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_gradients_agree_with_central_differences(make, shape):
    assert_gradients_agree_with_central_differences(make(), shape)


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_backward_writes_and_leaves_out_the_gradient_of_x_on_request(make, shape):
    layer = ones(make(), shape[1:])
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    before = x.copy()
    y, backward = layer.forward(x, STEP, True)
    dy = np.ones_like(y)
    backward(dy)
    first = [w.gradient.copy() for w in layer.weights]
    assert backward(dy, need_dx=False) is None
    assert all(np.array_equal(w.gradient, g) for w, g in zip(layer.weights, first, strict=True))
    assert any(g.any() for g in first)
    assert np.array_equal(x, before)


@pytest.mark.parametrize(
    ("layer", "shape", "products"),
    [
        (Conv2D(10, 5), (28, 28, 1), 24 * 24 * 10 * 25),
        (Conv2D(20, 5, groups=5), (12, 12, 10), 8 * 8 * 20 * 25 * 2),
        (DepthwiseConv2D(3, depth_multiplier=2), (9, 9, 4), 7 * 7 * 8 * 9),
        (Conv1D(8, 5), (20, 3), 16 * 8 * 15),
    ],
)
def test_flops_are_two_for_each_product_of_one_image(layer, shape, products):
    assert layer.flops((None, *shape)) == 2 * products


test_wrong_arguments_are_refused_by_name = refuses(
    ArgumentError,
    [
        (lambda: Conv2D(0, 3), "Conv2D(filters=0): give an integer of 1 … 2**31 - 1"),
        (lambda: Conv2D(2.5, 3), "Conv2D(filters=2.5): give an integer"),
        (lambda: Conv2D(8, (3, 3, 3)), "Conv2D(kernel_size=(3, 3, 3)): give an integer of 1 … 2**31 - 1, or 2 of them"),
        (lambda: Conv2D(8, 0), "Conv2D(kernel_size=0): give an integer of 1 … 2**31 - 1, or 2 of them"),
        (lambda: Conv2D(8, "3"), "Conv2D(kernel_size='3'): give"),
        (lambda: Conv2D(8, True), "Conv2D(kernel_size=True): give"),
        (lambda: Conv1D(8, (3, 3)), "Conv1D(kernel_size=(3, 3)): give an integer of 1 … 2**31 - 1"),
        (
            lambda: Conv3D(8, 3, strides=(1, 2)),
            "Conv3D(strides=(1, 2)): give an integer of 1 … 2**31 - 1, or 3 of them",
        ),
        (lambda: Conv2D(8, 3, dilation_rate=-1), "Conv2D(dilation_rate=-1): give"),
        (lambda: Conv2D(8, 3, padding="full"), "Conv2D(padding='full'): give 'valid' or 'same'"),
        (lambda: Conv2D(8, 3, padding="causal"), "Conv2D(padding='causal'): give 'valid' or 'same'"),
        (lambda: Conv1D(8, 3, padding="full"), "give 'valid' or 'same' or 'causal'"),
        (lambda: Conv2D(8, 3, padding=1), "(for a number of cells put a ZeroPadding layer in front)"),
        (lambda: Conv2D(8, 3, data_format="channels_first"), "move the channel axis with np.moveaxis(x, 1, -1)"),
        (lambda: Conv2D(8, 3, data_format="NHWC"), "Conv2D(data_format='NHWC'): give 'channels_last'"),
        (lambda: Conv2D(8, 3, groups=3), "Conv2D(filters=8, groups=3): filters must be a multiple of groups"),
        (lambda: Conv2D(8, 3, groups=0), "Conv2D(groups=0): give an integer of 1 … 2**31 - 1"),
        (lambda: Conv2D(8, 3, strides=2, dilation_rate=2), "only one of them may be greater than 1"),
        (lambda: DepthwiseConv2D(3, depth_multiplier=0), "DepthwiseConv2D(depth_multiplier=0): give an integer"),
        (lambda: Conv2D(8, 3, border_mode="same"), "it is now called padding"),
        (lambda: Conv2D(8, 3, subsample=(2, 2)), "it is now called strides"),
        (lambda: Conv2D(nb_filter=8, nb_row=3, nb_col=3), "Conv2D"),
        (lambda: Conv2D(8, 3, kernel_size=3), "Conv2D"),
    ],
    literal=True,
)


@pytest.mark.parametrize("data_format", [None, "channels_last"])
def test_channels_last_may_be_named(data_format):
    assert Conv2D(8, 3, data_format=data_format).kernel_size == (3, 3)


test_the_sizes_of_keras_1_are_explained = refuses(
    ArgumentError,
    [
        (lambda: Conv2D(32, 3, 3), "write Conv2D(32, (3, 3)), or Conv2D(32, 3, strides=3)"),
        (lambda: Conv2D(32, 5, 4), "write Conv2D(32, (5, 4)), or Conv2D(32, 5, strides=4)"),
        (lambda: Conv2D(32, 2, 2), "write Conv2D(32, (2, 2)), or Conv2D(32, 2, strides=2)"),
        (lambda: Convolution2D(32, 3, 3, border_mode="same"), "write Conv2D(32, (3, 3))"),
        (lambda: Conv3D(8, 3, 3, 3), "write Conv3D(8, (3, 3, 3)), or Conv3D(8, 3, strides=3)"),
    ],
    literal=True,
)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Conv2D(32, 3, 1),
        lambda: Conv2D(32, 3, 2),
        lambda: Conv2D(32, 1, 1),
        lambda: Conv2D(32, (3, 3), 3),
        lambda: Conv2D(32, 3, (3, 3)),
        lambda: Conv2D(32, 3, strides=3),
        lambda: Conv1D(32, 3, 3),
        lambda: DepthwiseConv2D(3, 3),
    ],
)
def test_strides_that_cannot_be_a_width_are_taken(make):
    assert make().kernel_size


def test_a_missing_channel_or_batch_axis_is_named_with_the_fix():
    with pytest.raises(ShapeError) as caught:
        Conv2D(8, 3)(np.zeros((5, 28, 28)))
    assert str(caught.value) == (
        "conv2d needs inputs of 4 axes (batch, rows, columns, channels) and got (None, 28, 28); "
        "add a missing channel axis with x[..., None], or the batch axis of a single input with x[None]"
    )
    with pytest.raises(
        ShapeError, match=r"conv1d needs inputs of 3 axes \(batch, steps, channels\) and got \(None,\)$"
    ):
        Conv1D(8, 3)(np.zeros(5))


def test_an_input_that_is_too_small_is_named_with_the_axis_that_shrinks():
    with pytest.raises(ShapeError) as caught:
        Conv2D(8, (3, 5), name="third").ensure_built((None, 6, 4, 2))
    assert str(caught.value) == (
        "third: columns shrink to nothing: a filter that reaches over 5 does not fit into 4, input (None, 6, 4, 2); "
        "use padding='same' or a smaller kernel_size"
    )
    with pytest.raises(ShapeError, match="steps shrink to nothing: a filter that reaches over 7"):
        Conv1D(8, 3, dilation_rate=3).ensure_built((None, 6, 2))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_channels_first_is_recognised_where_nothing_fits(shape):
    with pytest.raises(ShapeError, match=r"looks like channels first: move .* with np.moveaxis\(x, 1, -1\)"):
        Conv2D(8, 5).ensure_built((None, *shape))


def test_channels_that_do_not_split_into_the_groups_are_named():
    with pytest.raises(ShapeError, match=r"conv2d: 3 channels cannot be split into groups=2: \(None, 9, 9, 3\)"):
        Conv2D(8, 3, groups=2).ensure_built((None, 9, 9, 3))


def test_an_input_with_other_channels_than_built_for_is_named():
    layer = ones(Conv2D(8, 3), (9, 9, 3))
    with pytest.raises(ShapeError, match="x has 1 channel but weight expects 3"):
        layer(np.zeros((1, 9, 9, 1)))
    with pytest.raises(ShapeError, match=r"x needs 4 axes \(N, H, W, C\) and has shape \(1, 9, 9\)"):
        layer(np.zeros((1, 9, 9)))
    depthwise = ones(DepthwiseConv2D(3, padding="same"), (9, 9, 3))
    with pytest.raises(ShapeError, match=r"x has 4 channels but weight expects 3 \(3 groups of 1\)"):
        depthwise(np.zeros((1, 9, 9, 4)))


def test_another_image_size_than_built_for_is_computed():
    layer = ones(Conv2D(1, 3, padding="same", strides=2), (9, 9, 1))
    assert layer(np.ones((1, 4, 6, 1))).shape == (1, 2, 3, 1)


def test_algorithm_chooses_the_kernels_of_all_three_ops_by_name():
    x = np.ones((1, 4, 4, 1), np.float32)
    layer = ones(Conv2D(1, 3, algorithm="reference"), (4, 4, 1))
    assert layer(x).reshape(-1).tolist() == [10] * 4
    layer.algorithm = "magic"
    with pytest.raises(KernelError, match=r"conv2d: no .* kernel for this call. Requested: magic"):
        layer(x)


@pytest.mark.parametrize(
    "layer",
    [
        Conv1D(4, 3, padding="causal", name="a"),
        Conv2D(4, (3, 2), strides=2, activation="relu", kernel_regularizer="l2", algorithm="reference"),
        Conv3D(4, 3, dilation_rate=(1, 2, 1)),
        DepthwiseConv2D((3, 1), depth_multiplier=2),
    ],
)
def test_a_layer_comes_back_from_its_description(layer):
    again = deserialize(serialize(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    for name in ("kernel_size", "strides", "padding", "dilation_rate", "groups", "algorithm"):
        assert getattr(again, name) == getattr(layer, name)


@pytest.mark.parametrize("base", ["Convolution", "Activated"])
def test_no_file_can_name_a_base_class(base):
    with pytest.raises(ArgumentError, match=f"unknown Layer '{base}'"):
        deserialize({"kind": "Layer", "class_name": base, "config": {}})


def test_a_layer_with_an_activation_must_define_linear():
    class Half(Activated):
        pass

    with pytest.raises(NotImplementedError, match=r"Half must define linear\(x, step, training\)"):
        Half()(np.zeros((1, 2)))
