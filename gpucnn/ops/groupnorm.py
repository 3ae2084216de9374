"""Normalisation of each input alone: groups of its channels to mean 0 and variance 1.

Wu, He, "Group normalization", ECCV 2018. With one group and one position it is layer normalisation:
Ba, Kiros, Hinton, arXiv:1607.06450. The variance is that of the values themselves (divided by the
count). The gradient with respect to beta is `bias_grad`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..arguments import Count, NotNegative
from ..dispatch.case import Array, Case, Draw, Spec, real
from ..dispatch.op import op
from ..errors import ShapeError

_SETTINGS = {
    "one_value": ((3, 1, 2), 2),
    "layer": ((7, 1, 37), 1),
    "long_layer": ((2, 1, 3001), 1),
    "image": ((3, 35, 6), 3),
    "instance": ((2, 63, 5), 5),
    "whole_image": ((2, 33, 9), 1),
    "many_rows": ((701, 1, 8), 1),
}
_BENCH = {"resnet": ((64, 256, 64), 32), "tokens": ((8192, 1, 256), 1)}


def _cases(operands: Callable[..., tuple[Draw | None, ...]], **params: float) -> list[Case]:
    """Cases of an op; `operands` orders the draws for x, gamma and a number for each group."""
    return [
        Case(
            name,
            operands(real(*shape), real(shape[2], low=0.5, high=2.0), (shape[0], groups)),
            {"groups": groups, **params},
            bench=settings is _BENCH,
        )
        for settings in (_SETTINGS, _BENCH)
        for name, (shape, groups) in settings.items()
    ]


def _statistics(shape: tuple[int, int]) -> tuple[Draw, Draw]:
    """Means, and variances that are not small."""
    return real(*shape), real(*shape, low=0.5, high=2.0)


def _check(name: str, x: Spec, groups: int, **others: tuple[Spec | None, tuple[int, ...]]) -> None:
    if len(x.shape) != 3 or x.shape[2] % groups:
        raise ShapeError(f"{name}: x needs 3 axes (N, P, C) with C a multiple of groups={groups} and has {x.shape}")
    for word, (spec, shape) in others.items():
        if spec is not None and spec.shape != shape:
            raise ShapeError(f"{name}: {word} has shape {spec.shape} and must have {shape}: x (N, P, C) = {x.shape}")


def _outputs(x: Spec, gamma: Spec | None, beta: Spec | None, *, groups: int, epsilon: float) -> tuple[Spec, ...]:
    _check("groupnorm", x, groups, gamma=(gamma, x.shape[-1:]), beta=(beta, x.shape[-1:]))
    return x, x.like(x.shape[0], groups), x.like(x.shape[0], groups)


def _grad_outputs(
    dy: Spec, x: Spec, gamma: Spec | None, mean: Spec, variance: Spec, *, groups: int, epsilon: float
) -> Spec:
    each = (*x.shape[:1], groups)
    _check(
        "groupnorm_grad",
        x,
        groups,
        dy=(dy, x.shape),
        gamma=(gamma, x.shape[-1:]),
        mean=(mean, each),
        variance=(variance, each),
    )
    return x


def _gamma_outputs(dy: Spec, x: Spec, mean: Spec, variance: Spec, *, groups: int, epsilon: float) -> Spec:
    _grad_outputs(dy, x, None, mean, variance, groups=groups, epsilon=epsilon)
    return x.like(x.shape[2])


@op(
    outputs=_outputs,
    cases=[
        *_cases(lambda x, gamma, _: (x, gamma, gamma), epsilon=1e-3),
        Case("plain", (real(5, 3, 8), None, None), {"groups": 4, "epsilon": 1e-3}),
    ],
    prefer=("two_pass",),
    flops=lambda x, *_, **__: 6 * math.prod(x.shape),
    ulps=32,
)
def groupnorm(
    x: Array, gamma: Array | None, beta: Array | None, *, groups: Count, epsilon: NotNegative
) -> tuple[Array, Array, Array]:
    """Shift and scale each group of channels of each input to mean 0 and variance 1, then by gamma and
    beta.

    x        (N, P, C): P positions
    gamma    (C,), or None for 1
    beta     (C,), or None for 0
    groups   parts into which C is split, each normalised over all positions
    epsilon  added to the variance before the square root
    →        y (N, P, C), mean (N, groups) and variance (N, groups)
    """
    parts = _by_group(x, groups)
    mean = parts.mean(axis=(1, 3))
    centred = parts - mean[:, None, :, None]
    variance = (centred * centred).mean(axis=(1, 3))
    y = (centred / np.sqrt(variance + epsilon)[:, None, :, None]).reshape(x.shape)
    y = y if gamma is None else y * gamma
    return y if beta is None else y + beta, mean, variance


@op(
    gradient_of=groupnorm,
    outputs=_grad_outputs,
    cases=[
        *_cases(lambda x, gamma, each: (x, x, gamma, *_statistics(each)), epsilon=1e-3),
        Case(
            "plain",
            (real(5, 3, 8), real(5, 3, 8), None, real(5, 4), real(5, 4, low=0.5, high=2.0)),
            {"groups": 4, "epsilon": 1e-3},
        ),
    ],
    prefer=("two_pass",),
    flops=lambda dy, *_, **__: 10 * math.prod(dy.shape),
    ulps=32,
)
def groupnorm_grad(
    dy: Array, x: Array, gamma: Array | None, mean: Array, variance: Array, *, groups: Count, epsilon: NotNegative
) -> Array:
    """The gradient of `groupnorm` with respect to x, from the mean and variance that it returned.

    dy, x           (N, P, C)
    gamma           (C,), or None for 1
    mean, variance  (N, groups)
    →               (N, P, C)
    """
    scale = 1 / np.sqrt(variance + epsilon)[:, None, :, None]
    normal = (_by_group(x, groups) - mean[:, None, :, None]) * scale
    slope = _by_group(dy if gamma is None else dy * gamma, groups)
    level, tilt = slope.mean(axis=(1, 3), keepdims=True), (slope * normal).mean(axis=(1, 3), keepdims=True)
    return ((slope - level - normal * tilt) * scale).reshape(x.shape)


@op(
    gradient_of=groupnorm,
    outputs=_gamma_outputs,
    cases=_cases(lambda x, _, each: (x, x, *_statistics(each)), epsilon=1e-3),
    prefer=("two_pass",),
    flops=lambda dy, *_, **__: 4 * math.prod(dy.shape),
    ulps=32,
)
def groupnorm_grad_gamma(
    dy: Array, x: Array, mean: Array, variance: Array, *, groups: Count, epsilon: NotNegative
) -> Array:
    """The gradient of `groupnorm` with respect to gamma: Σ dy · (x - mean) / √(variance + epsilon).

    dy, x           (N, P, C)
    mean, variance  (N, groups)
    →               (C,)
    """
    normal = (_by_group(x, groups) - mean[:, None, :, None]) / np.sqrt(variance + epsilon)[:, None, :, None]
    return (dy * normal.reshape(x.shape)).sum(axis=(0, 1))


def _by_group(x: np.ndarray, groups: int) -> np.ndarray:
    """(N, P, C) → (N, P, groups, C / groups)."""
    return x.reshape(*x.shape[:2], groups, -1)
