"""The same training with steps that are recorded, and step by step."""

import numpy as np

import gpucnn
from gpucnn import layers, optimizers
from gpucnn.optimizers import schedules


def digits(classes=4, samples=36, dtype=np.float32):
    rng = np.random.default_rng(7)
    return rng.integers(0, 256, (samples, 8, 8, 1)).astype(dtype), np.arange(samples) * 7 % 11 % classes


def small(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=("accuracy",), **regularizer):
    gpucnn.utils.set_random_seed(3)
    model = gpucnn.Sequential(
        [
            gpucnn.Input((8, 8, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, activation="relu", **regularizer),
            layers.BatchNormalization(),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.25),
            layers.Dense(4, activation="softmax"),
        ]
    )
    model.compile(optimizer, loss, metrics=list(metrics))
    return model


def both_ways(monkeypatch, make, **fit):
    """(recorded, one by one): history, weights and optimizer state of the same training."""
    outcomes = []
    for graph in ("1", "0"):
        monkeypatch.setenv("GPUCNN_GRAPH", graph)
        model = make()
        history = model.fit(**{"epochs": 2, "batch_size": 16, "verbose": 0, **fit}).history
        outcomes.append((history, model.get_weights(), model.optimizer.state()))
    return outcomes


def assert_equal(recorded, one_by_one):
    assert recorded[0] == one_by_one[0]
    for ours, theirs in zip(recorded[1], one_by_one[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for name, values in one_by_one[2].items():
        np.testing.assert_array_equal(recorded[2][name], values, err_msg=name)


OPTIMIZERS = {
    "adam": lambda: "adam",
    "nadam": optimizers.Nadam,
    "nesterov with a schedule": lambda: optimizers.SGD(
        schedules.ExponentialDecay(0.1, 2, 0.7), momentum=0.9, nesterov=True
    ),
    "clipped, decayed and averaged": lambda: optimizers.AdamW(global_clipnorm=0.5, use_ema=True),
    "amsgrad": lambda: optimizers.Adam(amsgrad=True, clipvalue=0.01),
}
