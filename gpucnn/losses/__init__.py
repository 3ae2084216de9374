"""Keras' `losses`: classes, functions, and what training needs of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import config
from ..retired import absent, absent_error
from .crossentropy import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    CrossentropyByShape,
    SparseCategoricalCrossentropy,
    binary_crossentropy,
    categorical_crossentropy,
    from_logits_twin,
    sparse_categorical_crossentropy,
)
from .loss import FunctionLoss, Loss, check_labels, forward, reduce, shares
from .regression import Huber, MeanAbsoluteError, MeanSquaredError, huber, mean_absolute_error, mean_squared_error

__all__ = [
    "FUNCTIONS",
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
    "shares",
    "sparse_categorical_crossentropy",
]

FUNCTIONS: dict[Callable, type[Loss]] = {
    categorical_crossentropy: CategoricalCrossentropy,
    sparse_categorical_crossentropy: SparseCategoricalCrossentropy,
    binary_crossentropy: BinaryCrossentropy,
    mean_squared_error: MeanSquaredError,
    mean_absolute_error: MeanAbsoluteError,
    huber: Huber,
}
"""The functions of this package and the class behind each."""

_ALIASES = {
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "bce": BinaryCrossentropy,
    "ce": CrossentropyByShape,
    "crossentropy": CrossentropyByShape,
}

_KERAS_ONLY = """
    BinaryFocalCrossentropy CategoricalFocalCrossentropy CategoricalGeneralizedCrossEntropy CategoricalHinge Circle
    CosineSimilarity CTC Dice Hinge KLDivergence LogCosh MeanAbsolutePercentageError MeanSquaredLogarithmicError Poisson
    SquaredHinge Tversky binary_focal_crossentropy categorical_focal_crossentropy categorical_generalized_cross_entropy
    categorical_hinge circle cosine_similarity ctc dice hinge kl_divergence kld KLD log_cosh logcosh
    mean_absolute_percentage_error mape MAPE mean_squared_logarithmic_error msle MSLE poisson squared_hinge tversky
"""

_ABSENT = dict.fromkeys(
    _KERAS_ONLY.split(),
    "use a crossentropy, mean_squared_error, mean_absolute_error or huber, or write a function or a subclass of Loss",
)

__getattr__ = absent(__name__, _ABSENT)


def get(identifier: Any) -> Any:
    """The loss behind a name, an object, a class, a description or a function; None stays None.

    "crossentropy" (or "ce") becomes binary, sparse or categorical when `check` or `forward` first
    sees shapes.
    """
    if isinstance(identifier, str):
        if identifier in _ABSENT:
            raise absent_error(__name__, identifier, _ABSENT[identifier])
    elif callable(identifier) and not isinstance(identifier, (Loss, type)):
        return FUNCTIONS[identifier]() if identifier in FUNCTIONS else FunctionLoss(identifier)
    return config.get(Loss, identifier, _ALIASES)
