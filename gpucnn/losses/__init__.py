"""Keras' `losses`: classes, functions, and what training needs of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import config
from ..errors import ArgumentError
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
from .focal import (
    BinaryFocalCrossentropy,
    CategoricalFocalCrossentropy,
    CategoricalGeneralizedCrossEntropy,
    binary_focal_crossentropy,
    categorical_focal_crossentropy,
    categorical_generalized_cross_entropy,
)
from .loss import FunctionLoss, Loss, check_labels, forward, reduce, shares
from .of_values import (
    CategoricalHinge,
    CosineSimilarity,
    Hinge,
    KLDivergence,
    LogCosh,
    MeanAbsolutePercentageError,
    MeanSquaredLogarithmicError,
    Poisson,
    SquaredHinge,
    categorical_hinge,
    cosine_similarity,
    hinge,
    kl_divergence,
    log_cosh,
    mean_absolute_percentage_error,
    mean_squared_logarithmic_error,
    poisson,
    squared_hinge,
)
from .overlaps import Dice, Tversky, dice, tversky
from .regression import Huber, MeanAbsoluteError, MeanSquaredError, huber, mean_absolute_error, mean_squared_error

__all__ = [
    "FUNCTIONS",
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalGeneralizedCrossEntropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "Dice",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "Tversky",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_generalized_cross_entropy",
    "categorical_hinge",
    "check_labels",
    "cosine_similarity",
    "dice",
    "forward",
    "from_logits_twin",
    "get",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
    "reduce",
    "shares",
    "sparse_categorical_crossentropy",
    "squared_hinge",
    "tversky",
]

FUNCTIONS: dict[Callable, type[Loss]] = {
    categorical_crossentropy: CategoricalCrossentropy,
    sparse_categorical_crossentropy: SparseCategoricalCrossentropy,
    binary_crossentropy: BinaryCrossentropy,
    mean_squared_error: MeanSquaredError,
    mean_absolute_error: MeanAbsoluteError,
    huber: Huber,
    binary_focal_crossentropy: BinaryFocalCrossentropy,
    categorical_focal_crossentropy: CategoricalFocalCrossentropy,
    categorical_hinge: CategoricalHinge,
    cosine_similarity: CosineSimilarity,
    dice: Dice,
    hinge: Hinge,
    kl_divergence: KLDivergence,
    log_cosh: LogCosh,
    mean_absolute_percentage_error: MeanAbsolutePercentageError,
    mean_squared_logarithmic_error: MeanSquaredLogarithmicError,
    poisson: Poisson,
    squared_hinge: SquaredHinge,
    tversky: Tversky,
    categorical_generalized_cross_entropy: CategoricalGeneralizedCrossEntropy,
}
"""The functions of this package and the class behind each."""

mse = MSE = mean_squared_error
mae = MAE = mean_absolute_error
mape = MAPE = mean_absolute_percentage_error
msle = MSLE = mean_squared_logarithmic_error
kld = KLD = kl_divergence
logcosh = log_cosh

_ALIASES = {
    "mape": MeanAbsolutePercentageError,
    "msle": MeanSquaredLogarithmicError,
    "kld": KLDivergence,
    "kl_divergence": KLDivergence,
    "logcosh": LogCosh,
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "bce": BinaryCrossentropy,
    "ce": CrossentropyByShape,
    "crossentropy": CrossentropyByShape,
}

_KERAS_ONLY = {
    "use a crossentropy for classes; for embeddings write a function or a subclass of Loss": "Circle circle",
    "gpucnn has no recurrent layers: use a crossentropy for each step": "CTC ctc",
}

_ABSENT = {name: instead for instead, names in _KERAS_ONLY.items() for name in names.split()}

__getattr__ = absent(__name__, _ABSENT)


def get(identifier: Any) -> Any:
    """The loss behind a name, an object, a class, a description or a function; None stays None.

    "crossentropy" (or "ce") becomes binary, sparse or categorical when `check` or `forward` first
    sees shapes.
    """
    if isinstance(identifier, (list, tuple)) or (isinstance(identifier, dict) and "class_name" not in identifier):
        raise ArgumentError(f"loss={identifier!r}: a model has one output; give one loss, such as 'mse'")
    if isinstance(identifier, str):
        if identifier in _ABSENT:
            raise absent_error(__name__, identifier, _ABSENT[identifier])
    elif callable(identifier) and not isinstance(identifier, (Loss, type)):
        return FUNCTIONS[identifier]() if identifier in FUNCTIONS else FunctionLoss(identifier)
    return config.get(Loss, identifier, _ALIASES)
