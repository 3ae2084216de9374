"""How a product ends: the activation behind its bias, and the slope of that activation from what the
forward pass keeps.

Most slopes follow from the result: that of tanh is 1 - y². Then the sums before the activation need
not be kept. `keeps_input` says for which functions they must be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..dispatch.case import Spec
from ..errors import ArgumentError, ShapeError
from .activation import ALPHAS, FUNCTIONS, SELU_ALPHA, SELU_SCALE

LINEAR = "linear"
"""The end that changes nothing."""

ULPS = 16.0
"""What the function at the end may add to a kernel's error, in eps · max(1, |value|)."""

_FROM_RESULT: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "relu6": lambda y, a: (y > 0) & (y < 6),
    "leaky_relu": lambda y, a: np.where(y > 0, 1, a),
    "elu": lambda y, a: np.where(y > 0, 1, y + a),
    "selu": lambda y, a: np.where(y > 0, SELU_SCALE, y + SELU_SCALE * SELU_ALPHA),
    "celu": lambda y, a: np.where(y > 0, 1, y / a + 1),
    "sigmoid": lambda y, a: y * (1 - y),
    "log_sigmoid": lambda y, a: -np.expm1(y),
    "hard_sigmoid": lambda y, a: ((y > 0) & (y < 1)) / 6,
    "tanh": lambda y, a: 1 - y * y,
    "hard_tanh": lambda y, a: np.abs(y) < 1,
    "hard_shrink": lambda y, a: y != 0,
    "soft_shrink": lambda y, a: y != 0,
    "softplus": lambda y, a: -np.expm1(-y),
    "softsign": lambda y, a: (1 - np.abs(y)) ** 2,
    "exponential": lambda y, a: y,
}
"""The slope of a function at the place where its result is y; relu and linear have rules of their
own in `gradient`."""

_RISING = {LINEAR, "relu", *_FROM_RESULT}
"""Functions that never fall, so that the largest of several results is the result of the largest."""

_STEEPEST = {"selu": 1.76, "gelu": 1.13, "gelu_tanh": 1.13, "silu": 1.1, "hard_silu": 1.5, "mish": 1.09}
"""The largest slope of each function that has one above 1, rounded up; `exponential` has none."""


def keeps_input(function: str, alpha: float) -> bool:
    """Whether the slope is computed from the sums, not from the result. A negative parameter bends
    a function such that one result belongs to two sums."""
    return alpha < 0 or function not in _RISING


def is_flat_at_zero(function: str) -> bool:
    """Whether no result of 0 has a gradient, so that a dropped one needs no mark."""
    return function == "relu"


def rises(function: str, alpha: float) -> bool:
    """Whether a larger argument never has a smaller result."""
    return alpha >= 0 and function in _RISING


def finished(z: np.ndarray, function: str, alpha: float) -> np.ndarray:
    """The result for the sums z, bias included; NaN stays."""
    if function == LINEAR:
        return z
    return np.where(z <= 0, 0, z) if function == "relu" else FUNCTIONS[function][0](z, alpha)


def gradient(dy: np.ndarray, kept: np.ndarray, function: str, alpha: float) -> np.ndarray:
    """dy times the slope; `kept` is the sums z if `keeps_input`, otherwise the result y."""
    if function == LINEAR:
        return dy
    if keeps_input(function, alpha):
        return FUNCTIONS[function][1](dy, kept, alpha)
    return (
        np.where(kept <= 0, 0, dy) if function == "relu" else dy * _FROM_RESULT[function](kept, alpha).astype(dy.dtype)
    )


def gradient_at(dy: np.ndarray, z: np.ndarray, function: str, alpha: float) -> np.ndarray:
    """dy times the slope where the sums are z."""
    if function in (LINEAR, "relu"):
        return gradient(dy, z, function, alpha)
    return FUNCTIONS[function][1](dy, z, alpha)


def steepest(function: str, alpha: float, largest: np.ndarray | float) -> np.ndarray | float:
    """A bound of the slope for sums of at most `largest`, for the error that the sums pass on."""
    if function == "exponential":
        return np.exp(largest)
    return _STEEPEST.get(function, max(1.0, abs(alpha)))


def end(function: str, alpha: float | None = None, **more: Any) -> dict[str, Any]:
    """The parameters of an op that ends in a function, by default with the function's own alpha."""
    return {"function": function, "alpha": ALPHAS.get(function, 0.0) if alpha is None else alpha, **more}


RELU = end("relu")


def check(op: str, function: str) -> None:
    """Raise `ArgumentError` unless the function is `LINEAR` or one of `FUNCTIONS`."""
    if function != LINEAR and function not in FUNCTIONS:
        known = ", ".join((LINEAR, *FUNCTIONS))
        raise ArgumentError(f"{op}: function={function!r} is unknown: use one of {known}")


def check_of_result(op: str, function: str, alpha: float) -> None:
    """Raise `ArgumentError` unless the slope of the function follows from its result."""
    check(op, function)
    if keeps_input(function, alpha):
        raise ArgumentError(
            f"{op}: the slope of {function} with alpha={alpha} does not follow from its result: use separate ops"
        )


def ended_outputs(op: str, z: Spec, b: Spec, function: str, keep_input: bool) -> Spec | tuple[Spec, Spec]:
    """The results of an op that adds b (K,) to sums z (…, K) and applies a function: y, or y and
    z."""
    check(op, function)
    if keep_input and function == LINEAR:
        raise ArgumentError(f"{op}: keep_input=True with {LINEAR}, whose result is its input: leave it False")
    if b.shape != z.shape[-1:]:
        raise ShapeError(f"{op}: there are {z.shape[-1]} channels but b has shape {b.shape}")
    return (z, z) if keep_input else z


def ended(z: np.ndarray, function: str, alpha: float, keep_input: bool) -> Any:
    """The same for a body: z has its bias."""
    y = finished(z, function, alpha)
    return (y, z) if keep_input else y


def passed_on(z: np.ndarray, function: str, alpha: float, keep_input: bool) -> Any:
    """Σ|a||b| of the sums z, and as much of it as the function passes on to y."""
    y = z * steepest(function, alpha, z)
    return (y, z) if keep_input else y
