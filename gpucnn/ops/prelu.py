"""The parametric rectifier, whose slope below 0 is learned, and its gradients.

He, Zhang, Ren, Sun, "Delving deep into rectifiers", ICCV 2015, section 2.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..dispatch.case import Array, Case, Draw, Spec, among, real
from ..dispatch.op import op
from ..errors import ShapeError

_SHAPES = {
    "one": (1, 1),
    "channels": (2, 5, 3, 7),
    "quads": (9, 16),
    "blocks": (3, 1027),
    "many_rows": (2049, 3),
}
_BENCH = (128, 28, 28, 32)
_KINKS = among(3, 5, 7, values=(-2.0, -0.0, 0.0, 0.5, math.nan))


def _cases(operands: Callable[[Draw, Draw], tuple[Draw, ...]]) -> list[Case]:
    """Cases of an op; `operands` orders the draws for x and alpha."""
    cases = [Case(name, operands(real(*shape), real(shape[-1]))) for name, shape in _SHAPES.items()]
    cases.append(Case("kinks", operands(_KINKS, real(7))))
    return [*cases, Case("mlearning_1", operands(real(*_BENCH), real(_BENCH[-1])), bench=True)]


def _check(name: str, x: Spec, alpha: tuple[int, ...]) -> None:
    if not x.shape or alpha != x.shape[-1:]:
        raise ShapeError(f"{name}: alpha has shape {alpha} and must have {x.shape[-1:]}: x (…, K) = {x.shape}")


def _outputs(x: Spec, alpha: Spec) -> Spec:
    _check("prelu", x, alpha.shape)
    return x


def _grad_outputs(dy: Spec, x: Spec, alpha: Spec) -> Spec:
    _check("prelu_grad", x, alpha.shape)
    if dy != x:
        raise ShapeError(f"prelu_grad: dy {dy.shape} {dy.dtype} and x {x.shape} {x.dtype} must be alike")
    return x


def _alpha_outputs(dy: Spec, x: Spec) -> Spec:
    if dy != x or not x.shape:
        raise ShapeError(f"prelu_grad_alpha: dy {dy.shape} {dy.dtype} and x {x.shape} {x.dtype} must be alike")
    return x.like(x.shape[-1])


@op(
    outputs=_outputs,
    cases=_cases(lambda x, alpha: (x, alpha)),
    prefer=("rows",),
    flops=lambda x, _: math.prod(x.shape),
)
def prelu(x: Array, alpha: Array) -> Array:
    """x above 0, alpha · x up to it.

    x      (…, K)
    alpha  (K,)
    →      (…, K)
    """
    return np.where(x > 0, x, alpha * x)


@op(
    gradient_of=prelu,
    outputs=_grad_outputs,
    cases=_cases(lambda x, alpha: (real(*x.shape), x, alpha)),
    prefer=("rows",),
    flops=lambda dy, *_: math.prod(dy.shape),
)
def prelu_grad(dy: Array, x: Array, alpha: Array) -> Array:
    """The gradient of `prelu` with respect to x: dy above 0, alpha · dy below, and 0 at 0 as in Keras.

    dy, x  (…, K)
    alpha  (K,)
    →      (…, K)
    """
    return np.where(x > 0, dy, np.where(x == 0, 0, alpha * dy))


@op(
    gradient_of=prelu,
    outputs=_alpha_outputs,
    cases=_cases(lambda x, alpha: (real(*x.shape), x)),
    prefer=("rows",),
    flops=lambda dy, _: 2 * math.prod(dy.shape),
    terms=lambda dy, x: math.prod(dy.shape[:-1]),
    sums=lambda dy, x: (np.abs(dy) * np.abs(x)).reshape(-1, x.shape[-1]).sum(axis=0),
    ulps=0,
)
def prelu_grad_alpha(dy: Array, x: Array) -> Array:
    """The gradient of `prelu` with respect to alpha: Σ dy · x where x is not above 0.

    dy, x  (…, K)
    →      (K,)
    """
    return np.where(x > 0, 0, dy * x).reshape(-1, x.shape[-1]).sum(axis=0)
