"""Elementwise functions that a file spells out in several nodes, and the activations they are.

An expression is `X`, the tensor that all begins with; a float; or a tuple of an operator and its
operands. Products and sums are flat and in one order, so that all spellings of a formula are equal:
x - a is x + (-1)·a, and x / 2 is 0.5·x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...activations import ClippedReLU, Elementwise
from ...layers import ELU, Activation, LeakyReLU, ReLU, Rescaling
from ...layers.layer import Layer
from ...ops import activation as ops

X = "x"

UNARY = (
    *("Abs", "Celu", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Mish"),
    *("Relu", "Selu", "Shrink", "Sigmoid", "Softplus", "Softsign", "Tanh", "ThresholdedRelu"),
)
"""Operators of one tensor; their numbers follow in a fixed order."""

FORMULAS = ("Add", "Div", "Greater", "Less", "Max", "Min", "Mul", "Neg", "Or", "Pow", "Sub", "Where")
"""Operators in formulas."""

_CONDITIONS = ("Greater", "Less", "Or")

_DIGITS = 5
"""Constants of a formula are equal if they agree to so many digits: files hold them rounded."""


def add(*terms: Any) -> Any:
    """The sum of expressions."""
    return _flat("Add", 0.0, lambda numbers: math.fsum(numbers), terms)


def multiply(*factors: Any) -> Any:
    """The product of expressions."""
    return _flat("Mul", 1.0, math.prod, factors)


def _flat(op: str, neutral: float, fold: Any, parts: Sequence[Any]) -> Any:
    operands = [part for whole in parts for part in (whole[1:] if _is(whole, op) else (whole,))]
    number = fold([part for part in operands if isinstance(part, float)] or [neutral])
    others = sorted((part for part in operands if not isinstance(part, float)), key=_key)
    kept = others if number == neutral and others else [*others, float(number)]
    return kept[0] if len(kept) == 1 else (op, *kept)


def _is(expression: Any, op: str) -> bool:
    return isinstance(expression, tuple) and expression[0] == op


def _key(expression: Any) -> str:
    """The same text for formulas that differ in the rounding of their constants."""
    if isinstance(expression, float):
        return f"{expression:.{_DIGITS}g}"
    if isinstance(expression, tuple):
        return f"({' '.join(map(_key, expression))})"
    return str(expression)


def of_node(op: str, operands: Sequence[Any], numbers: Sequence[float]) -> Any:
    """The expression of a node; None for an operator or operands without one.

    operands  expressions
    numbers   the node's attributes in the order of `layers_of`
    """
    if op in UNARY:
        return (op, operands[0], *map(float, numbers))
    first = operands[0]
    if op == "Neg":
        return multiply(-1.0, first)
    if op == "Add":
        return add(*operands)
    if op == "Mul":
        return multiply(*operands)
    if op == "Sub":
        return add(first, multiply(-1.0, operands[1]))
    if op == "Div" and isinstance(operands[1], float):
        return multiply(first, 1 / operands[1]) if operands[1] else None
    if op == "Pow" and operands[1] in (2.0, 3.0):
        return multiply(*[first] * int(operands[1]))
    if op in ("Div", "Where", "Max", "Min", *_CONDITIONS):
        return (op, *operands)
    return None


_SQUARE = multiply(X, X)
_GATE_OF_ERF = add(1.0, ("Erf", multiply(math.sqrt(0.5), X)))
_CUBIC = add(X, multiply(0.044715, _SQUARE, X))

_FORMULAS: dict[str, Any] = {
    "sigmoid": [("Sigmoid", X)],
    "tanh": [("Tanh", X)],
    "softplus": [("Softplus", X), ("Where", ("Greater", X, 20.0), X, ("Softplus", X))],
    "softsign": [("Softsign", X), ("Div", X, add(1.0, ("Abs", X)))],
    "exponential": [("Exp", X)],
    "relu": [("Relu", X), ("Max", X, 0.0), ("Max", 0.0, X)],
    "silu": [multiply(X, ("Sigmoid", X))],
    "hard_silu": [("HardSwish", X), multiply(X, ("HardSigmoid", X, 1 / 6, 0.5))],
    "mish": [("Mish", X), multiply(X, ("Tanh", ("Softplus", X)))],
    "gelu": [("Gelu", X, 0.0), multiply(0.5, X, _GATE_OF_ERF)],
    "gelu_tanh": [
        ("Gelu", X, 1.0),
        multiply(0.5, X, add(1.0, ("Tanh", multiply(math.sqrt(2 / math.pi), _CUBIC)))),
        multiply(X, ("Sigmoid", multiply(math.sqrt(8 / math.pi), X, add(1.0, multiply(0.044715, _SQUARE))))),
    ],
    "log_sigmoid": [multiply(-1.0, ("Softplus", multiply(-1.0, X)))],
    "tanh_shrink": [add(X, multiply(-1.0, ("Tanh", X)))],
}
_BY_FORMULA = {_key(formula): name for name, formulas in _FORMULAS.items() for formula in formulas}
_DOUBLED = {
    _key(multiply(X, _GATE_OF_ERF)): ("gelu", 2.0),
    _key(multiply(X, add(1.0, ("Tanh", multiply(math.sqrt(2 / math.pi), _CUBIC))))): ("gelu_tanh", 2.0),
    _key(multiply(X, ("Clip", add(3.0, X), 0.0, 6.0))): ("hard_silu", 6.0),
}
"""Products that exporters write before the constant factor."""


def layers_of(expression: Any) -> list[Layer] | None:
    """Layers that compute an expression of `X`; None if there are none."""
    if expression == X:
        return []
    key = _key(expression)
    if key in _BY_FORMULA:
        return [_named(_BY_FORMULA[key])]
    if key in _DOUBLED:
        name, factor = _DOUBLED[key]
        return [_named(name), Rescaling(factor)]
    op, *operands = expression
    if op in _PARAMETRISED and operands[0] == X:
        return _PARAMETRISED[op](*operands[1:])
    if op in ("Add", "Mul") and operands[0] == X and len(operands) == 2 and isinstance(operands[1], float):
        return [Rescaling(operands[1]) if op == "Mul" else Rescaling(1.0, operands[1])]
    if op in ("Max", "Min") and X in operands and any(isinstance(o, float) for o in operands) and len(operands) == 2:
        bound = next(o for o in operands if isinstance(o, float))
        return _clip(bound, math.inf) if op == "Max" else _clip(-math.inf, bound)
    return _clipped_relu(expression) or _shrinking(expression)


def is_condition(expression: Any) -> bool:
    """Whether an expression is true or false for each element."""
    return isinstance(expression, tuple) and expression[0] in _CONDITIONS


def _named(function: str) -> Layer:
    return Activation(Elementwise(function) if function == "gelu_tanh" else function)


def _leaky(slope: float) -> list[Layer]:
    return (
        [Activation("relu") if slope == 0 else LeakyReLU(slope)] if slope >= 0 else _parametrised("leaky_relu", slope)
    )


def _parametrised(name: str, alpha: float) -> list[Layer]:
    return [Activation(name if math.isclose(alpha, ops.ALPHAS[name], rel_tol=1e-6) else Elementwise(name, alpha))]


def _elu(alpha: float) -> list[Layer]:
    return [Activation("elu") if alpha == 1 else ELU(alpha)]


def _selu(alpha: float, gamma: float) -> list[Layer] | None:
    usual = math.isclose(alpha, 1.6732632, rel_tol=1e-5) and math.isclose(gamma, 1.0507010, rel_tol=1e-5)
    return [Activation("selu")] if usual else [ELU(alpha), Rescaling(gamma)] if alpha > 0 and gamma > 0 else None


def _hard_sigmoid(alpha: float, beta: float) -> list[Layer]:
    usual = math.isclose(alpha, 1 / 6, rel_tol=1e-5) and math.isclose(beta, 0.5, rel_tol=1e-5)
    return [Activation("hard_sigmoid")] if usual else [Rescaling(alpha, beta), ReLU(max_value=1.0)]


def _clip(low: float, high: float) -> list[Layer]:
    if low > high:
        return [Rescaling(0.0, high)]
    if math.isinf(low) and math.isinf(high):
        return []
    if math.isinf(low):  # high - max(high - x, 0)
        return [Rescaling(-1.0, high), Activation("relu"), Rescaling(-1.0, high)]
    if (low, high) == (-1, 1):
        return [Activation("hard_tanh")]
    if low == 0:
        return [Activation("relu6") if high == 6 else Activation("relu") if math.isinf(high) else ReLU(max_value=high)]
    bounded = Activation("relu") if math.isinf(high) else ReLU(max_value=high - low)
    return [Rescaling(1.0, -low), bounded, Rescaling(1.0, low)]


def _shrink(bias: float, lambd: float) -> list[Layer] | None:
    if bias not in (0, lambd) or lambd < 0:
        return None
    return _parametrised("hard_shrink" if bias == 0 else "soft_shrink", lambd)


def _thresholded(alpha: float) -> list[Layer] | None:
    return [ReLU(threshold=alpha)] if alpha >= 0 else None


_PARAMETRISED: dict[str, Any] = {
    "Celu": lambda alpha: _parametrised("celu", alpha),
    "Clip": _clip,
    "Elu": _elu,
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": _leaky,
    "Selu": _selu,
    "Shrink": _shrink,
    "ThresholdedRelu": _thresholded,
}
"""Layers of operators by their numbers, which come in this order."""


def _clipped_relu(expression: Any) -> list[Layer] | None:
    """ReLU with a cap, a slope and a threshold: `x > t ? min(x, cap) : slope · (x - t)`."""
    if not (_is(expression, "Where") and _is(expression[1], "Greater") and expression[1][1] == X):
        return None
    _, (_, _, threshold), high, low = expression
    cap = high[2] if _is(high, "Min") and high[1] == X else math.inf if high == X else None
    for slope in _numbers_in(low):
        if cap is not None and _key(low) == _key(multiply(slope, add(X, -threshold))):
            return [ReLU(None if math.isinf(cap) else cap, slope, threshold)]
    return None


def _shrinking(expression: Any) -> list[Layer] | None:
    """Values within ±lambd become 0; others are kept, or lambd nearer to 0, as PyTorch's older exporter
    spells it."""
    conditions = [part[1] for part in (expression, *expression[1:]) if _is(part, "Where")]
    for condition in (part for one in conditions for part in (one, *one[1:]) if _is(part, "Greater")):
        for lambd in _numbers_in(condition):
            above, below = ("Greater", X, lambd), ("Less", X, -lambd)
            nearer = ("Where", above, add(X, -lambd), 0.0), ("Where", below, add(X, lambd), 0.0)
            if lambd >= 0 and _key(expression) == _key(("Where", ("Or", above, below), X, 0.0)):
                return _parametrised("hard_shrink", lambd)
            if lambd >= 0 and _key(expression) == _key(add(*nearer)):
                return _parametrised("soft_shrink", lambd)
    return None


def _numbers_in(expression: Any) -> list[float]:
    return [part for part in expression if isinstance(part, float)] if isinstance(expression, tuple) else []


def merged(first: Layer, second: Layer) -> list[Layer] | None:
    """One layer, or none, for two of `Rescaling` in a row; None for other layers."""
    if type(first) is not Rescaling or type(second) is not Rescaling:
        return None
    scale, offset = first.scale * second.scale, first.offset * second.scale + second.offset
    if math.isclose(scale, 1, rel_tol=1e-7) and offset == 0:
        return []
    return [Rescaling(scale, offset)]


def is_never_negative(layer: Layer) -> bool:
    """Whether all outputs of a layer are 0 or more because of its activation."""
    function = getattr(layer, "activation", None)
    named = getattr(function, "name", "") in ("relu", "relu6", "sigmoid", "hard_sigmoid", "softplus", "softmax")
    return named or (isinstance(function, ClippedReLU) and function.params["negative_slope"] == 0)
