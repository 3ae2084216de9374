"""Keras' `losses`: classes, functions, and what training asks of them."""

from ..retired import absent
from .loss import (
    ABSENT,
    FUNCTIONS,
    REDUCTIONS,
    BinaryCrossentropy,
    CategoricalCrossentropy,
    Huber,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
    binary_crossentropy,
    categorical_crossentropy,
    check_labels,
    forward,
    from_logits_twin,
    get,
    huber,
    mean_absolute_error,
    mean_squared_error,
    reduce,
    sparse_categorical_crossentropy,
)

__all__ = [
    "FUNCTIONS",
    "REDUCTIONS",
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "SparseCategoricalCrossentropy",
    "binary_crossentropy",
    "categorical_crossentropy",
    "check_labels",
    "forward",
    "from_logits_twin",
    "get",
    "huber",
    "mean_absolute_error",
    "mean_squared_error",
    "reduce",
    "sparse_categorical_crossentropy",
]

__getattr__ = absent(__name__, ABSENT)
