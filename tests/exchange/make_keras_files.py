"""Make the files in data/ with Keras: KERAS_BACKEND=torch python tests/exchange/make_keras_files.py.

Each `.npz` holds inputs and the outputs of Keras for the model of the same name.
"""

from pathlib import Path

import keras
import numpy as np

DATA = Path(__file__).parent / "data"


def images():
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(2, 3, padding="same", strides=2, activation="relu", kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def path():
    inputs = keras.Input((5, 2))
    outputs = keras.layers.Dense(2)(keras.layers.GlobalMaxPooling1D()(keras.layers.Conv1D(3, 2)(inputs)))
    return keras.Model(inputs, outputs)


def branches():
    layers = keras.layers
    inputs = keras.Input((6, 6, 2))
    y = layers.Conv2D(3, 3, padding="same")(inputs)
    block = layers.Conv2D(3, 3, padding="same")(layers.ReLU()(layers.BatchNormalization()(y)))
    y = layers.Concatenate()([layers.Add()([block, y]), inputs, layers.Conv2D(2, 1)(inputs)])
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(y)))


def normalised():
    """Batch normalisation with and without scale and shift."""
    layers = keras.layers
    stack = [keras.Input((5, 5, 2)), layers.Conv2D(3, 2)]
    for center in (False, True):
        stack += [layers.BatchNormalization(center=center, scale=scale) for scale in (False, True)]
    return keras.Sequential([*stack, layers.Flatten(), layers.LayerNormalization(center=False), layers.Dense(2)])


for name, make in {"images": images, "path": path, "branches": branches, "normalised": normalised}.items():
    keras.utils.set_random_seed(0)
    model, rng = make(), np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.uniform(0.2, 1.2, tuple(weight.shape)))
    x = rng.normal(size=(3, *model.input_shape[1:])).astype(np.float32)
    model.save(DATA / f"{name}.keras")
    if name == "images":
        model.save_weights(DATA / f"{name}.weights.h5")
    np.savez(DATA / f"{name}.npz", x=x, y=keras.ops.convert_to_numpy(model(x, training=False)))
