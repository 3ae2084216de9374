"""Models that the tests of files of other libraries write and read: every layer and activation, and random rows."""

import numpy as np

from gpucnn import Input, Sequential, activations, layers
from gpucnn.ops import activation as ops

ALPHA = {"leaky_relu": 0.35, "elu": 0.7, "celu": 1.3, "hard_shrink": 0.4, "soft_shrink": 0.3}

LAYERS = {
    "conv1d": ((9, 3), lambda: [layers.Conv1D(4, 3, strides=2, padding="same", activation="relu")]),
    "conv1d_causal": ((9, 3), lambda: [layers.Conv1D(6, 3, padding="causal", dilation_rate=2, groups=3)]),
    "conv2d": ((7, 8, 3), lambda: [layers.Conv2D(5, (3, 2), strides=(2, 1), activation="tanh")]),
    "conv2d_same_even": ((8, 7, 2), lambda: [layers.Conv2D(4, 4, strides=2, padding="same", use_bias=False)]),
    "conv2d_dilated": ((9, 9, 4), lambda: [layers.Conv2D(4, 3, dilation_rate=2, groups=2, padding="same")]),
    "conv2d_odd_same": ((9, 9, 1), lambda: [layers.Conv2D(3, 5, padding="same", activation="softmax")]),
    "conv3d": ((5, 6, 7, 2), lambda: [layers.Conv3D(3, 2, strides=(1, 2, 2), padding="same")]),
    "depthwise": ((6, 7, 3), lambda: [layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", activation="elu")]),
    "dense": ((6,), lambda: [layers.Dense(4, activation="sigmoid")]),
    "dense_on_images": ((4, 5, 3), lambda: [layers.Dense(2, use_bias=False), layers.MaxPooling2D(2), layers.Dense(3)]),
    "max1d": ((9, 2), lambda: [layers.MaxPooling1D(2)]),
    "max2d_same": ((7, 6, 2), lambda: [layers.MaxPooling2D((3, 2), strides=2, padding="same")]),
    "max2d_same_even": ((7, 7, 2), lambda: [layers.MaxPooling2D(2, padding="same")]),
    "max3d": ((5, 6, 4, 2), lambda: [layers.MaxPooling3D(2, padding="same")]),
    "average1d": ((9, 2), lambda: [layers.AveragePooling1D(4, strides=3, padding="same")]),
    "average2d": ((7, 6, 2), lambda: [layers.AveragePooling2D(3, strides=2)]),
    "average2d_same": ((8, 7, 2), lambda: [layers.AveragePooling2D(3, strides=2, padding="same")]),
    "average3d": ((5, 6, 4, 2), lambda: [layers.AveragePooling3D(3, strides=1, padding="same")]),
    "global": ((5, 4, 3), lambda: [layers.Conv2D(4, 2), layers.GlobalAveragePooling2D(), layers.Dense(2)]),
    "global_kept": ((5, 4, 3), lambda: [layers.GlobalMaxPooling2D(keepdims=True), layers.Conv2D(2, 1)]),
    "global_max1d": ((6, 3), lambda: [layers.GlobalMaxPooling1D()]),
    "global_average1d": ((6, 3), lambda: [layers.GlobalAveragePooling1D(keepdims=True)]),
    "global_max2d": ((6, 2, 3), lambda: [layers.GlobalMaxPooling2D()]),
    "global_max3d": ((3, 6, 2, 3), lambda: [layers.GlobalMaxPooling3D()]),
    "global_average3d": ((3, 2, 2, 3), lambda: [layers.GlobalAveragePooling3D()]),
    "batchnorm": ((5, 4, 3), lambda: [layers.Conv2D(4, 2), layers.BatchNormalization(epsilon=0.01), layers.ReLU()]),
    "batchnorm_plain": ((6,), lambda: [layers.BatchNormalization(center=False, scale=False)]),
    "batchnorm_of_sequences": ((5, 4), lambda: [layers.BatchNormalization(scale=False, momentum=0.9)]),
    "batchnorm_scaled": (
        (5, 4, 3),
        lambda: [layers.Conv2D(4, 2, use_bias=False), layers.BatchNormalization(center=False), layers.ReLU()],
    ),
    "batchnorm_shifted": (
        (5, 4, 3),
        lambda: [layers.Conv2D(4, 2), layers.ReLU(), layers.BatchNormalization(scale=False), layers.Flatten()],
    ),
    "batchnorm_plain_flattened": (
        (5, 4, 3),
        lambda: [
            layers.Conv2D(4, 2),
            layers.Flatten(),
            layers.BatchNormalization(center=False, scale=False),
            layers.Dense(3),
        ],
    ),
    "dropout": ((6,), lambda: [layers.Dropout(0.5)]),
    "spatial_dropout": (
        (4, 4, 4, 2),
        lambda: [
            layers.SpatialDropout3D(0.2),
            layers.Reshape((16, 4, 2)),
            layers.SpatialDropout2D(0.1),
            layers.Reshape((-1, 2)),
            layers.SpatialDropout1D(0.1),
        ],
    ),
    "flatten": ((3, 4, 2), lambda: [layers.Conv2D(3, 2), layers.Flatten(), layers.Dropout(0.5), layers.Dense(4)]),
    "flatten_last": ((3, 4, 2), lambda: [layers.MaxPooling2D((1, 2)), layers.Flatten()]),
    "flatten_normalised": (
        (3, 4, 2),
        lambda: [layers.MaxPooling2D((1, 2)), layers.Flatten(), layers.BatchNormalization(), layers.Dense(3)],
    ),
    "reshape": ((12,), lambda: [layers.Reshape((2, -1, 2)), layers.Conv2D(3, 2), layers.Reshape((-1, 3))]),
    "permute": ((3, 4, 2), lambda: [layers.Conv2D(3, 2), layers.Permute((3, 1, 2)), layers.AveragePooling2D(2)]),
    "padding": (
        (2, 3, 4, 2),
        lambda: [
            layers.ZeroPadding3D((1, 0, (0, 2))),
            layers.Reshape((12, 6, 2)),
            layers.MaxPooling2D(2),
            layers.ZeroPadding2D(((0, 1), (2, 0))),
            layers.Reshape((-1, 2)),
            layers.ZeroPadding1D((2, 1)),
        ],
    ),
    "rescaling": ((4, 4, 2), lambda: [layers.Rescaling(1 / 127.5, offset=-1), layers.Conv2D(2, 2)]),
    "relu": ((5, 3), lambda: [layers.ReLU(max_value=1.5, negative_slope=0.25, threshold=0.5)]),
    "relu_capped": ((5, 3), lambda: [layers.ReLU(max_value=1.0)]),
    "relu_late": ((5, 3), lambda: [layers.ReLU(threshold=0.7)]),
    "leaky_relu": ((5, 3), lambda: [layers.LeakyReLU(0.1)]),
    "elu": ((5, 3), lambda: [layers.ELU(0.5)]),
    "softmax": ((5, 3), lambda: [layers.Softmax()]),
    "activation": ((5, 3), lambda: [layers.Activation("swish"), layers.Activation("linear")]),
    **{f"activation_{name}": ((5, 3), lambda name=name: [layers.Activation(name)]) for name in activations._NAMED},
    "dense_gelu": ((5,), lambda: [layers.Dense(3, activation="gelu")]),
}
"""For each example the shape of an input, and a function that returns new layers."""

LAYERS |= {
    "conv1d_transposed": ((5, 3), lambda: [layers.Conv1DTranspose(4, 3, strides=2, padding="same", activation="relu")]),
    "conv2d_transposed": ((4, 5, 3), lambda: [layers.Conv2DTranspose(2, 3, strides=2, activation="tanh")]),
    "conv2d_transposed_wide_steps": ((4, 5, 3), lambda: [layers.Conv2DTranspose(2, 2, strides=3, use_bias=False)]),
    "conv2d_transposed_same_even": ((4, 5, 3), lambda: [layers.Conv2DTranspose(2, 4, strides=2, padding="same")]),
    "conv2d_transposed_more": (
        (4, 5, 3),
        lambda: [layers.Conv2DTranspose(2, (3, 4), strides=(2, 3), output_padding=(1, 2))],
    ),
    "conv2d_transposed_dilated": ((4, 5, 3), lambda: [layers.Conv2DTranspose(2, 3, dilation_rate=2, padding="same")]),
    "conv3d_transposed": ((2, 3, 4, 2), lambda: [layers.Conv3DTranspose(2, 2, strides=(1, 2, 2))]),
    "separable1d": ((9, 3), lambda: [layers.SeparableConv1D(4, 3, padding="same", activation="elu")]),
    "separable2d": ((7, 6, 3), lambda: [layers.SeparableConv2D(4, 3, strides=2, depth_multiplier=2, padding="same")]),
    "depthwise1d": ((9, 3), lambda: [layers.DepthwiseConv1D(3, depth_multiplier=2, strides=2)]),
    "layer_normalised": ((4, 5, 3), lambda: [layers.Conv2D(4, 2), layers.LayerNormalization()]),
    "layer_normalised_all": ((4, 5), lambda: [layers.LayerNormalization([1, 2], epsilon=0.01, center=False)]),
    "layer_normalised_rows": ((6,), lambda: [layers.LayerNormalization(scale=False)]),
    "group_normalised": ((4, 5, 6), lambda: [layers.GroupNormalization(3), layers.ReLU()]),
    "instance_normalised": ((7, 4), lambda: [layers.GroupNormalization(-1, scale=False)]),
    "prelu": ((4, 3, 2), lambda: [layers.Conv2D(3, 2), layers.PReLU(shared_axes=[1, 2])]),
    "prelu_each": ((4, 3, 2), lambda: [layers.PReLU()]),
    "prelu_rows": ((6,), lambda: [layers.PReLU()]),
    "softmax_rows": ((5, 3), lambda: [layers.Softmax(axis=1)]),
    "softmax_pixels": ((5, 4, 3), lambda: [layers.Conv2D(3, 2), layers.Softmax(axis=[1, 2])]),
    "cropping": (
        (5, 6, 7, 2),
        lambda: [
            layers.Cropping3D((1, 0, (0, 2))),
            layers.Reshape((18, 5, 2)),
            layers.Cropping2D(((2, 1), (0, 1))),
            layers.Reshape((-1, 2)),
            layers.Cropping1D((3, 1)),
        ],
    ),
    "upsampling1d": ((5, 3), lambda: [layers.UpSampling1D(3)]),
    "upsampling2d": ((4, 5, 3), lambda: [layers.Conv2D(2, 2), layers.UpSampling2D((2, 3))]),
    "upsampling2d_bilinear": ((4, 5, 3), lambda: [layers.UpSampling2D((2, 3), interpolation="bilinear")]),
    "upsampling3d": ((2, 3, 2, 2), lambda: [layers.UpSampling3D((1, 2, 3))]),
    "repeated": ((4,), lambda: [layers.RepeatVector(3), layers.Conv1D(2, 2)]),
}

BRANCHES = {
    "residual": (
        (6, 5, 3),
        lambda: [
            layers.Residual([layers.Conv2D(3, 3, padding="same"), layers.BatchNormalization(), layers.ReLU()]),
            layers.Residual(
                [layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"), layers.Conv2D(4, 1)],
                [layers.Conv2D(4, 1, strides=2)],
            ),
            layers.Flatten(),
            layers.Dense(3),
        ],
    ),
    "residual_rows": ((4,), lambda: [layers.Residual([layers.Dense(4, activation="tanh")]), layers.Dense(2)]),
    "parallel": (
        (6, 5, 3),
        lambda: [
            layers.Parallel(
                [
                    [layers.Conv2D(2, 1)],
                    [layers.MaxPooling2D(3, 1, "same"), layers.Conv2D(3, 1, activation="softmax")],
                    [],
                    [layers.Residual([layers.Dense(3), layers.LayerNormalization()])],
                ]
            ),
            layers.GlobalAveragePooling2D(),
        ],
    ),
    "three_summed": (
        (4, 5, 2),
        lambda: [
            layers.Parallel([[layers.Conv2D(2, 3, padding="same")], [], [layers.Dense(2), layers.ReLU()]], merge="add"),
            layers.Residual([layers.Activation("tanh")]),
        ],
    ),
    "u_net": (
        (8, 8, 2),
        lambda: [
            layers.Conv2D(3, 3, padding="same", activation="relu"),
            layers.Parallel(
                [
                    [],
                    [
                        layers.MaxPooling2D(2),
                        layers.Parallel(
                            [
                                [],
                                [
                                    layers.Conv2D(4, 3, strides=2, padding="same"),
                                    layers.Conv2DTranspose(2, 2, strides=2),
                                ],
                            ]
                        ),
                        layers.UpSampling2D(2),
                    ],
                ]
            ),
            layers.GroupNormalization(2),
            layers.Conv2D(1, 1, activation="sigmoid"),
        ],
    ),
}
"""The same for layers that hold layers, which are branches in the graphs of other libraries."""

OBJECTS = {
    f"function_{name}": (
        (5, 3),
        lambda name=name: [layers.Activation(activations.Elementwise(name, ALPHA.get(name)))],
    )
    for name in ops.FUNCTIONS
}
"""The same for activations with a parameter of the user's, which no name stands for."""


IMAGES = {
    "augmentation": (
        (6, 5, 2),
        lambda: [
            layers.RandomFlip(),
            layers.RandomRotation(0.1),
            layers.RandomTranslation(0.1, 0.1),
            layers.RandomZoom(0.1),
            layers.RandomContrast(0.1),
            layers.Conv2D(2, 3),
        ],
    ),
    "affine": ((6, 5, 2), lambda: [layers.RandomAffine(0.1, flip_mode="vertical"), layers.Conv2D(2, 3)]),
    "crop": ((7, 6, 2), lambda: [layers.CenterCrop(4, 5), layers.Conv2D(2, 3), layers.CenterCrop(1, 2)]),
    "random_crop": ((7, 6, 2), lambda: [layers.RandomCrop(4, 3), layers.Conv2D(2, 3)]),
    "resizing": ((7, 6, 2), lambda: [layers.Resizing(9, 4), layers.Conv2D(2, 3)]),
    "resizing_shrinks": ((11, 9, 2), lambda: [layers.Conv2D(3, 2), layers.Resizing(3, 8), layers.Resizing(5, 2)]),
}
"""The same for layers that bring images to another size, or change them in training."""


def model_of(shape, stack, name=None):
    """A model with random weights and moving statistics."""
    model = Sequential([Input(shape), *stack], name=name)
    randomise(model)
    return model


def randomise(model, seed=0):
    """Give each weight random values, so that a layout that is wrong cannot hide."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        low, high = (0.3, 2.0) if weight.name in ("gamma", "moving_variance") else (-0.6, 0.6)
        weight.assign(rng.uniform(low, high, weight.shape).astype(np.float32))


def inputs_of(model, n=3, seed=1):
    """Random inputs of the model, (n, …) float32 in -2 … 2."""
    return np.random.default_rng(seed).uniform(-2, 2, (n, *model.input_shape[1:])).astype(np.float32)


def random_model(seed):
    """A model of up to ten layers drawn at random: images, sequences or volumes, then a vector of outputs."""
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 4))
    shape = (*rng.integers(5, 10, rank).tolist(), int(rng.integers(1, 4)) * 2)
    conv, pool, mean, pad = (
        getattr(layers, f"{name}{rank}D") for name in ("Conv", "MaxPooling", "AveragePooling", "ZeroPadding")
    )

    def drawn():
        activation = str(rng.choice([*activations._NAMED]))
        padding, size = str(rng.choice(["valid", "same"])), int(rng.integers(1, 4))
        groups = int(rng.choice([1, 2]))
        kinds = [
            lambda: conv(4, size, strides=int(rng.integers(1, 3)), padding=padding, activation=activation),
            lambda: conv(6, size, padding="same", groups=groups, dilation_rate=2),
            lambda: pool(size, strides=int(rng.integers(1, 3)), padding=padding),
            lambda: mean(size, padding=padding),
            lambda: pad(size),
            lambda: layers.BatchNormalization(scale=bool(rng.integers(2))),
            lambda: layers.Dropout(0.3),
            lambda: layers.Activation(activation),
            lambda: layers.LeakyReLU(0.2),
            lambda: layers.Permute((*range(2, rank + 1), 1, rank + 1)),
            lambda: layers.Dense(4, activation=activation),
        ]
        return kinds[int(rng.integers(len(kinds)))]()

    model = Sequential([Input(shape)])
    while len(model.layers) < 6:
        try:
            model.add(drawn())
        except ValueError:  # it does not fit the sizes that are left
            continue
    model.add([layers.Flatten(), getattr(layers, f"GlobalAveragePooling{rank}D")()][int(rng.integers(2))])
    model.add(layers.Dense(5, activation="relu"))
    model.add(layers.BatchNormalization())
    model.add(layers.Dense(3, activation=str(rng.choice(["softmax", "sigmoid", "linear"]))))
    randomise(model, seed)
    return model
