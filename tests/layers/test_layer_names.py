"""The names under `gpucnn.layers`: those of Keras, their aliases, and errors for missing ones."""

import importlib
import inspect
import sys

import pytest

from gpucnn import layers
from gpucnn.config import snake_case
from gpucnn.errors import ArgumentError


def test_every_public_name_is_there_once():
    assert len(set(layers.__all__)) == len(layers.__all__)
    for name in layers.__all__:
        assert issubclass(getattr(layers, name), layers.Layer)
    public = {name for name, value in vars(layers).items() if inspect.isclass(value) and value.__name__ != "Moved"}
    assert public == set(layers.__all__)


@pytest.mark.parametrize("rank", ["1D", "2D", "3D"])
def test_aliases_are_the_same_classes(rank):
    def named(name):
        return getattr(layers, name + rank)

    assert named("Convolution") is named("Conv")
    assert named("MaxPool") is named("MaxPooling")
    assert named("AvgPool") is named("AveragePooling")
    assert named("GlobalMaxPool") is named("GlobalMaxPooling")
    assert named("GlobalAvgPool") is named("GlobalAveragePooling")


@pytest.mark.parametrize(
    ("cls", "arguments", "name"),
    [
        (layers.MaxPooling2D, (), "max_pooling2d"),
        (layers.GlobalAveragePooling3D, (), "global_average_pooling3d"),
        (layers.ZeroPadding1D, (), "zero_padding1d"),
        (layers.SpatialDropout2D, (0.5,), "spatial_dropout2d"),
        (layers.BatchNormalization, (), "batch_normalization"),
        (layers.Conv2D, (1, 1), "conv2d"),
        (layers.DepthwiseConv2D, (1,), "depthwise_conv2d"),
        (layers.LeakyReLU, (), "leaky_re_lu"),
        (layers.ReLU, (), "re_lu"),
        (layers.ELU, (), "elu"),
        (layers.Flatten, (), "flatten"),
    ],
)
def test_layers_are_named_as_in_keras(cls, arguments, name):
    assert cls(*arguments).name == name == snake_case(cls.__name__)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("LSTM", "Conv1D"),
        ("Embedding", "to_categorical"),
        ("Deconvolution2D", "Conv2DTranspose"),
        ("RMSNormalization", "LayerNormalization"),
        ("Lambda", "forward"),
        ("RandomBrightness", "generator"),
        ("Concatenate", "Parallel"),
        ("Add", "Residual"),
        ("ThresholdedReLU", r"ReLU\(threshold"),
    ],
)
def test_layers_that_gpucnn_lacks_name_another_way(name, words):
    with pytest.raises(ArgumentError, match=rf"layers\.{name} is not in gpucnn: .*{words}"):
        getattr(layers, name)
    with pytest.raises(ArgumentError, match=words):
        importlib.import_module("gpucnn.layers").__getattr__(name)


def test_from_import_of_a_missing_layer_is_an_import_error():
    with pytest.raises(ImportError, match="LSTM"):
        from gpucnn.layers import LSTM  # noqa: F401


def test_no_name_has_two_answers_and_none_hides_a_layer():
    names = [name for text in layers._INSTEAD.values() for name in text.split()]
    assert len(set(names)) == len(names)
    assert not set(names) & set(vars(layers))


def test_other_names_raise_as_in_any_module():
    assert not hasattr(layers, "Conv2d")
    with pytest.raises(AttributeError, match="Conv2d"):
        _ = layers.Conv2d


def test_submodules_of_old_keras_name_the_new_import():
    with pytest.raises(ImportError, match=r"write `from gpucnn\.layers import Conv2D`"):
        from gpucnn.layers.convolutional import Conv2D  # noqa: F401
    with pytest.raises(ImportError, match=r"from gpucnn\.layers import Dense"):
        from gpucnn.layers.core import Dense  # noqa: F401
    normalization = importlib.import_module("gpucnn.layers.normalization")
    with pytest.raises(ImportError, match=r"from gpucnn\.layers import …"):
        _ = normalization.__all__  # read by `from … import *`
    assert not hasattr(sys.modules["gpucnn.layers.core"], "__wrapped__")
    from gpucnn.layers.pooling import MaxPooling2D

    assert MaxPooling2D is layers.MaxPooling2D


def test_modules_of_old_keras_do_not_disturb_searches_through_all_modules():
    """pickle searches them for an object without a module, and torch.compile for its graphs."""
    assert not any(hasattr(module, "no_such_name") for name, module in sys.modules.items() if name.startswith("gpucnn"))
    with pytest.raises(ImportError, match=r"write `from gpucnn\.layers import Dense`"):
        _ = importlib.import_module("gpucnn.layers.core").Dense
