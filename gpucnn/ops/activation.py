"""Activation functions, elementwise and over the last axis, and their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..arguments import Limit
from ..dispatch.case import Array, Case, Draw, Spec, among, real
from ..dispatch.op import Op, op
from ..errors import ArgumentError, ShapeError

SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805
"""Klambauer et al., "Self-Normalizing Neural Networks", NIPS 2017, equation 14."""


def _sigmoid(x: np.ndarray) -> np.ndarray:
    decayed = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, decayed) / (1 + decayed)


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


_ERF_NEAR = (
    (0.18577770618460315, 3.1611237438705655, 113.86415415105016, 377.485237685302, 3209.3775891384694),
    (1.0, 23.601290952344122, 244.02463793444417, 1282.6165260773723, 2844.236833439171),
)
_ERF_FAR = (
    (
        2.1531153547440383e-08,
        0.5641884969886701,
        8.883149794388377,
        66.11919063714163,
        298.6351381974001,
        881.952221241769,
        1712.0476126340707,
        2051.0783778260716,
        1230.3393547979972,
    ),
    (
        1.0,
        15.744926110709835,
        117.6939508913125,
        537.1811018620099,
        1621.3895745666903,
        3290.7992357334597,
        4362.619090143247,
        3439.3676741437216,
        1230.3393548037495,
    ),
)


def _erf(x: np.ndarray) -> np.ndarray:
    """The error function to the rounding of the dtype.

    Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969), tables
    of the first two intervals; the second serves up to 6, where erf is 1 in float64.
    """
    size = np.abs(x)
    near = np.minimum(size, 0.46875)
    far = np.clip(size, 0.46875, 6.0)
    small = near * _ratio(_ERF_NEAR, near * near)
    large = 1 - np.exp(-far * far) * _ratio(_ERF_FAR, far)
    return np.copysign(np.where(size <= 0.46875, small, large), x)


def _ratio(polynomials: Sequence[Sequence[float]], x: np.ndarray) -> np.ndarray:
    numerator, denominator = (_horner(coefficients, x) for coefficients in polynomials)
    return numerator / denominator


def _horner(coefficients: Sequence[float], x: np.ndarray) -> np.ndarray:
    value = coefficients[0] * x + coefficients[1]
    for coefficient in coefficients[2:]:
        value = value * x + coefficient
    return value


def _normal_cdf(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + _erf(x * math.sqrt(0.5)))


def _normal_density(x: np.ndarray) -> np.ndarray:
    return math.sqrt(0.5 / math.pi) * np.exp(-0.5 * x * x)


def _gelu_tanh_argument(x: np.ndarray) -> np.ndarray:
    """2u, with (1 + tanh(u)) / 2 = sigmoid(2u)."""
    return math.sqrt(8 / math.pi) * (x + 0.044715 * x * x * x)


def _gelu_tanh_slope(x: np.ndarray) -> np.ndarray:
    z = _gelu_tanh_argument(x)
    s = _sigmoid(z)
    return s + x * s * _sigmoid(-z) * math.sqrt(8 / math.pi) * (1 + 3 * 0.044715 * x * x)


def _silu_slope(x: np.ndarray) -> np.ndarray:
    s = _sigmoid(x)
    return s * (1 + x * (1 - s))


def _mish_slope(x: np.ndarray) -> np.ndarray:
    t = np.tanh(_softplus(x))
    return t + x * _sigmoid(x) * (1 - t * t)


FUNCTIONS = {
    "relu": (lambda x, a: np.maximum(x, 0), lambda dy, x, a: dy * (x > 0)),
    "relu6": (lambda x, a: np.clip(x, 0, 6), lambda dy, x, a: dy * ((x > 0) & (x < 6))),
    "leaky_relu": (lambda x, a: np.where(x > 0, x, a * x), lambda dy, x, a: np.where(x > 0, dy, a * dy)),
    "elu": (
        lambda x, a: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0))),
        lambda dy, x, a: np.where(x > 0, dy, a * dy * np.exp(np.minimum(x, 0))),
    ),
    "selu": (
        lambda x, a: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0))),
        lambda dy, x, a: SELU_SCALE * np.where(x > 0, dy, SELU_ALPHA * dy * np.exp(np.minimum(x, 0))),
    ),
    "celu": (
        lambda x, a: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0) / a)),
        lambda dy, x, a: np.where(x > 0, dy, dy * np.exp(np.minimum(x, 0) / a)),
    ),
    "sigmoid": (lambda x, a: _sigmoid(x), lambda dy, x, a: dy * _sigmoid(x) * _sigmoid(-x)),
    "log_sigmoid": (lambda x, a: -_softplus(-x), lambda dy, x, a: dy * _sigmoid(-x)),
    "hard_sigmoid": (lambda x, a: np.clip(x / 6 + 0.5, 0, 1), lambda dy, x, a: dy * (np.abs(x) < 3) / 6),
    "tanh": (lambda x, a: np.tanh(x), lambda dy, x, a: dy * (1 - np.tanh(x) ** 2)),
    "tanh_shrink": (lambda x, a: x - np.tanh(x), lambda dy, x, a: dy * np.tanh(x) ** 2),
    "hard_tanh": (lambda x, a: np.clip(x, -1, 1), lambda dy, x, a: dy * (np.abs(x) < 1)),
    "hard_shrink": (lambda x, a: x * (np.abs(x) > a), lambda dy, x, a: dy * (np.abs(x) > a)),
    "soft_shrink": (lambda x, a: x - np.clip(x, -a, a), lambda dy, x, a: dy * (np.abs(x) > a)),
    "softplus": (lambda x, a: _softplus(x), lambda dy, x, a: dy * _sigmoid(x)),
    "softsign": (lambda x, a: x / (1 + np.abs(x)), lambda dy, x, a: dy / (1 + np.abs(x)) ** 2),
    "silu": (lambda x, a: x * _sigmoid(x), lambda dy, x, a: dy * _silu_slope(x)),
    "hard_silu": (
        lambda x, a: x * np.clip(x / 6 + 0.5, 0, 1),
        lambda dy, x, a: dy * np.where(np.abs(x) < 3, x / 3 + 0.5, x > 0),
    ),
    "gelu": (lambda x, a: x * _normal_cdf(x), lambda dy, x, a: dy * (_normal_cdf(x) + x * _normal_density(x))),
    "gelu_tanh": (lambda x, a: x * _sigmoid(_gelu_tanh_argument(x)), lambda dy, x, a: dy * _gelu_tanh_slope(x)),
    "mish": (lambda x, a: x * np.tanh(_softplus(x)), lambda dy, x, a: dy * _mish_slope(x)),
    "exponential": (lambda x, a: np.exp(x), lambda dy, x, a: dy * np.exp(x)),
}
"""For each elementwise function, y = f(x, a) and dx = gradient(dy, x, a), with a parameter a.

All functions stay finite and raise no warning at ±10⁴, except `exponential`, which overflows to
infinity. At a kink the slope is that of the lower side for relu, leaky_relu and elu, as in Keras.
Every function returns NaN for NaN.
"""

ALPHAS = {"leaky_relu": 0.2, "elu": 1.0, "celu": 1.0, "hard_shrink": 0.5, "soft_shrink": 0.5}
"""The default of each function's parameter in Keras, for the functions that have one."""

SLOPES_AT_RESULTS = {"relu", "relu6", "leaky_relu"}
"""Functions f whose gradient has the same bits at f(x) as at x, unless the parameter is negative."""


_KINKS = among(3, 5, 7, values=(-6.0, -3.0, -1.0, -0.0, 0.0, 1.0, 3.0, 6.0))
_FAR = among(3, 5, 7, values=(-1e4, -100.0, -20.0, 20.0, 60.0, 1e4, math.nan))
"""Values at which slopes jump, and values that must neither overflow nor hide a NaN."""


def _cases(*operands: Draw) -> list[Case]:
    return [
        *(Case(f, operands, {"function": f, "alpha": ALPHAS.get(f, 0.0)}) for f in FUNCTIONS),
        Case("leaky_relu_steep", operands, {"function": "leaky_relu", "alpha": 0.75}),
        Case("elu_flat", operands, {"function": "elu", "alpha": 0.25}),
        Case("relu_blocks", tuple(real(1027) for _ in operands), {"function": "relu", "alpha": 0.0}),
        *(
            Case(f"{f}_{word}", (*operands[1:], x), {"function": f, "alpha": 1.0 if f in ALPHAS else 0.0})
            for f in FUNCTIONS
            for word, x in (("kinks", _KINKS), ("far", _FAR))
        ),
    ]


def _bench_cases(*operands: Draw) -> list[Case]:
    return [
        Case(f"slides_1_{f}", operands, {"function": f, "alpha": 0.0}, bench=True) for f in ("relu", "tanh", "gelu")
    ]


_X, _BENCH_X = real(3, 5, 7, low=-4, high=4), real(128, 24, 24, 10, low=-4, high=4)


def _same(name: str, *arrays: tuple[str, Spec]) -> Spec:
    first = arrays[0][1]
    for word, spec in arrays[1:]:
        if spec != first:
            raise ShapeError(
                f"{name}: {arrays[0][0]} and {word} must be alike but are {first.shape} {first.dtype} and "
                f"{spec.shape} {spec.dtype}"
            )
    return first


def _check_function(function: str) -> None:
    if function not in FUNCTIONS:
        raise ArgumentError(f"activation: function={function!r} is unknown: use one of {', '.join(FUNCTIONS)}")


def _outputs(x: Spec, *, function: str, alpha: float) -> Spec:
    _check_function(function)
    return x


def _grad_outputs(dy: Spec, x: Spec, *, function: str, alpha: float) -> Spec:
    _check_function(function)
    return _same("activation_grad", ("dy", dy), ("x", x))


@op(
    outputs=_outputs,
    cases=[*_cases(_X), *_bench_cases(_BENCH_X)],
    prefer=("elementwise",),
    flops=lambda x, **_: math.prod(x.shape),
    ulps=8,
)
def activation(x: Array, *, function: str, alpha: float) -> Array:
    """Apply one of `FUNCTIONS` to each element.

    x         any shape
    function  name of the function
    alpha     parameter of the function; 0.0 if it has none
    →         same shape as x
    """
    return FUNCTIONS[function][0](x, alpha)


@op(
    gradient_of=activation,
    outputs=_grad_outputs,
    cases=[*_cases(_X, _X), *_bench_cases(_BENCH_X, _BENCH_X)],
    prefer=("elementwise",),
    flops=lambda dy, x, **_: 2 * math.prod(x.shape),
    ulps=8,
)
def activation_grad(dy: Array, x: Array, *, function: str, alpha: float) -> Array:
    """The gradient of `activation`: dy times the slope at x.

    dy, x     any shape, the same for both
    function  name of the function
    alpha     parameter of the function; 0.0 if it has none
    →         same shape as x
    """
    return FUNCTIONS[function][1](dy, x, alpha)


_CLIPPED = {
    "plain": {"max_value": math.inf, "negative_slope": 0.0, "threshold": 0.0},
    "clipped": {"max_value": 2.0, "negative_slope": 0.0, "threshold": 0.0},
    "all_three": {"max_value": 2.5, "negative_slope": 0.25, "threshold": 0.5},
}

_CLIPPED_X = {
    "": _X,
    "_kinks": among(3, 5, 7, values=(-1.0, 0.0, 0.5, 2.0, 2.5, 3.0, math.nan)),
    "_blocks": real(1027, low=-4, high=4),
}


def _clipped_outputs(x: Spec, **_: float) -> Spec:
    return x


def _clipped_grad_outputs(dy: Spec, x: Spec, **_: float) -> Spec:
    return _same("clipped_relu_grad", ("dy", dy), ("x", x))


@op(
    outputs=_clipped_outputs,
    cases=[Case(f"{name}{word}", (x,), params) for name, params in _CLIPPED.items() for word, x in _CLIPPED_X.items()],
    prefer=("elementwise",),
    flops=lambda x, **_: math.prod(x.shape),
)
def clipped_relu(x: Array, *, max_value: Limit, negative_slope: float, threshold: float) -> Array:
    """Keras' ReLU: min(x, max_value) above threshold, negative_slope · (x - threshold) up to it.

    x               any shape
    max_value       largest output, or infinity for no limit
    negative_slope  slope up to the threshold
    threshold       x up to which the slope applies
    →               same shape as x
    """
    return np.where(x > threshold, np.minimum(x, max_value), negative_slope * (x - threshold))


@op(
    gradient_of=clipped_relu,
    outputs=_clipped_grad_outputs,
    cases=[
        Case(f"{name}{word}", (real(*x.shape), x), params)
        for name, params in _CLIPPED.items()
        for word, x in _CLIPPED_X.items()
    ],
    prefer=("elementwise",),
    flops=lambda dy, x, **_: math.prod(x.shape),
)
def clipped_relu_grad(dy: Array, x: Array, *, max_value: Limit, negative_slope: float, threshold: float) -> Array:
    """The gradient of `clipped_relu`: dy times 1, 0 or negative_slope.

    dy, x  any shape, the same for both
    →      same shape as x
    """
    return np.where(x > threshold, dy * (x < max_value), negative_slope * dy)


_ROWS = {
    "one": (1, 1),
    "one_class": (4, 1),
    "digits": (7, 10),
    "ragged": (2, 3, 37),
    "wide": (3, 1000),
    "long": (2, 9001),
}
_ROWS_BENCH = {"digits_128": (128, 10), "imagenet_128": (128, 1000)}


def _row_cases(operands: Callable[..., tuple[Draw, ...]]) -> list[Case]:
    return [
        Case(name, operands(*shape), bench=rows is _ROWS_BENCH)
        for rows in (_ROWS, _ROWS_BENCH)
        for name, shape in rows.items()
    ]


def _logits(*shape: int) -> tuple[Draw, ...]:
    return (real(*shape, low=-4, high=4),)


def _probabilities(*shape: int) -> tuple[Draw, ...]:
    return real(*shape), real(*shape, low=0, high=2 / shape[-1])


def _log_probabilities(*shape: int) -> tuple[Draw, ...]:
    return real(*shape), real(*shape, low=-8, high=0)


def _row_outputs(name: str) -> Callable[[Spec], Spec]:
    def outputs(x: Spec) -> Spec:
        if not x.shape:
            raise ShapeError(f"{name}: x needs a last axis of classes but has no axes")
        return x

    return outputs


def _row_flops(*arrays: Spec) -> int:
    return 4 * math.prod(arrays[0].shape)


def _row_grad_of(forward: Op, operands: Callable[..., tuple[Draw, ...]], ulps: float) -> Callable[[Callable], Op]:
    """Turn a body dx = f(dy, y) into the op of the gradient; `operands` draws dy and y."""
    return op(
        gradient_of=forward,
        outputs=lambda dy, y: _same(f"{forward.name}_grad", ("dy", dy), ("y", y)),
        cases=_row_cases(operands),
        prefer=("rows",),
        flops=_row_flops,
        ulps=ulps,
    )


@op(outputs=_row_outputs("softmax"), cases=_row_cases(_logits), prefer=("rows",), flops=_row_flops)
def softmax(x: Array) -> Array:
    """exp(x) / Σ exp(x) over the last axis.

    The largest x is subtracted first, so that nothing overflows.

    x  (…, K)
    →  (…, K)
    """
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@_row_grad_of(softmax, _probabilities, ulps=4)
def softmax_grad(dy: Array, y: Array) -> Array:
    """The gradient of `softmax`, computed from its result y: y · (dy - Σ dy · y).

    dy, y  (…, K)
    →      (…, K)
    """
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))


@op(outputs=_row_outputs("log_softmax"), cases=_row_cases(_logits), prefer=("rows",), flops=_row_flops)
def log_softmax(x: Array) -> Array:
    """x - log Σ exp(x) over the last axis.

    The largest x is subtracted first, so that nothing overflows.

    x  (…, K)
    →  (…, K)
    """
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


@_row_grad_of(log_softmax, _log_probabilities, ulps=16)
def log_softmax_grad(dy: Array, y: Array) -> Array:
    """The gradient of `log_softmax`, computed from its result y: dy - exp(y) · Σ dy.

    dy, y  (…, K)
    →      (…, K)
    """
    return dy - np.exp(y) * dy.sum(axis=-1, keepdims=True)
