"""Each weight of a layer gets the initializer, the regularizer and the constraint that bear its name."""

import numpy as np
import pytest

from gpucnn import initializers, layers
from gpucnn.config import deserialize, serialize


@pytest.mark.parametrize(
    ("cls", "arguments", "shape", "names"),
    [
        pytest.param(layers.Dense, (3,), (2,), ["kernel", "bias"], id="dense"),
        pytest.param(layers.Conv1D, (3, 2), (4, 2), ["kernel", "bias"], id="conv1d"),
        pytest.param(layers.Conv2D, (3, 2), (4, 4, 2), ["kernel", "bias"], id="conv2d"),
        pytest.param(layers.Conv3D, (3, 2), (4, 4, 4, 2), ["kernel", "bias"], id="conv3d"),
        pytest.param(layers.DepthwiseConv2D, (1,), (2, 2, 1), ["depthwise", "bias"], id="depthwise_conv2d"),
        pytest.param(
            layers.BatchNormalization,
            (),
            (2,),
            ["gamma", "beta", "moving_mean", "moving_variance"],
            id="batch_normalization",
        ),
    ],
)
def test_each_weight_gets_the_arguments_with_its_name(cls, arguments, shape, names):
    first, second, *_ = names
    layer = cls(
        *arguments,
        **{f"{name}_initializer": initializers.Constant(value) for value, name in enumerate(names, start=5)},
        **{f"{first}_regularizer": "l1", f"{first}_constraint": "max_norm"},
        **{f"{second}_regularizer": "l2", f"{second}_constraint": "non_neg"},
        activity_regularizer="l2",
        name="head",
        input_shape=shape,
    )
    layer.ensure_built((None, *shape))
    paths = [f"head/{name.replace('depthwise', 'kernel')}" for name in names]  # Keras, too, has both words
    assert [weight.path for weight in layer.weights] == paths
    for value, weight in enumerate(layer.weights, start=5):
        assert np.array_equal(weight.value, np.full(weight.shape, value))
    kinds = [type(thing).__name__ for w in layer.weights[:2] for thing in (w.regularizer, w.constraint)]
    assert kinds == ["L1", "MaxNorm", "L2", "NonNeg"]
    assert [weight.regularizer for weight in layer.weights[2:]] == [None] * len(names[2:])
    assert (layer.weights[0].regularizer.l1, layer.weights[1].regularizer.l2) == (0.01, 0.01)
    assert type(layer.activity_regularizer).__name__ == "L2"
    assert deserialize(serialize(layer)).get_config() == layer.get_config()
