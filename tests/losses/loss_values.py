"""Losses of each kind, with labels and outputs for them."""

import numpy as np

from gpucnn import losses

CATEGORICAL = losses.CategoricalCrossentropy()
SPARSE = losses.SparseCategoricalCrossentropy()
BINARY = losses.BinaryCrossentropy()
MSE = losses.MeanSquaredError()

LOSSES = {
    "categorical": (losses.CategoricalCrossentropy(), "rows", "probabilities"),
    "categorical_logits": (losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1), "rows", "logits"),
    "sparse": (losses.SparseCategoricalCrossentropy(), "numbers", "probabilities"),
    "sparse_logits": (losses.SparseCategoricalCrossentropy(from_logits=True), "numbers", "logits"),
    "binary": (losses.BinaryCrossentropy(label_smoothing=0.1), "rows", "probabilities"),
    "binary_logits": (losses.BinaryCrossentropy(from_logits=True), "rows", "logits"),
    "mse": (losses.MeanSquaredError(), "rows", "logits"),
    "mae": (losses.MeanAbsoluteError(), "rows", "logits"),
    "huber": (losses.Huber(0.7), "rows", "logits"),
}


def one_hot(labels, classes):
    return np.eye(classes, dtype=np.float32)[labels]


def example(labels, outputs, rng):
    """Labels and float64 outputs of 6 samples with 2 pixels of 4 classes."""
    numbers = rng.integers(0, 4, (6, 2))
    y_pred = rng.normal(size=(6, 2, 4)) * 3
    if outputs == "probabilities":
        y_pred = np.exp(y_pred) / np.exp(y_pred).sum(axis=-1, keepdims=True)
    return (one_hot(numbers, 4) if labels == "rows" else numbers), y_pred
