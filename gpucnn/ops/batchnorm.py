"""Normalisation of each channel to mean 0 and variance 1, in training and in inference.

Ioffe, Szegedy, "Batch normalization", ICML 2015, algorithms 1 and 2. The variance is that of the
batch itself (divided by the count, not by count - 1). Sums run over the positions of each image
first, then over the images: the order is fixed, and the rounding error grows with √positions +
√images.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..arguments import NotNegative
from ..dispatch.case import Array, Case, Draw, Spec, real
from ..dispatch.op import op
from ..errors import ShapeError

_SHAPES = {
    "one_channel": (5, 3, 3, 1),
    "dense": (7, 6),
    "one_image": (1, 4, 5, 3),
    "ragged": (3, 7, 5, 9),
    "sequence": (4, 11, 5),
    "volume": (2, 3, 4, 3, 2),
    "many_positions": (2, 33, 35, 3),
}
_BENCH_SHAPES = {"mlearning_1": (128, 28, 28, 32), "mlearning_3": (128, 14, 14, 64), "cifar_dense": (512, 512)}


def _cases(operands: Callable[..., tuple[Draw | None, ...]]) -> list[Case]:
    """Cases of an op; `operands` orders the draws for x, gamma, beta (or mean) and variance."""
    return [
        Case(name, operands(real(*shape), *_channels(shape[-1])), {"epsilon": 1e-3}, bench=shapes is _BENCH_SHAPES)
        for shapes in (_SHAPES, _BENCH_SHAPES)
        for name, shape in shapes.items()
    ] + [Case("without_gamma_and_beta", operands(real(3, 7, 9), None, None, real(9, low=0.1)), {"epsilon": 1e-3})]


_FAR = real(3, low=1000, high=1001)
_FAR_FROM_ZERO = Case(
    "far_from_zero",
    (real(2, 33, 35, 3), real(2, 33, 35, 3, low=1000, high=1001), real(3), _FAR, real(3, low=0.1)),
    {"epsilon": 1e-3},
)
"""A case in which Σ dy · x and mean · Σ dy are a thousand times larger than their difference."""


def _channels(c: int) -> tuple[Draw, Draw, Draw]:
    return real(c), real(c), real(c, low=0.1)


def _check(name: str, x: Spec, **others: Spec | None) -> None:
    if len(x.shape) < 2:
        raise ShapeError(f"{name}: x needs at least 2 axes (N, …, C) and has shape {x.shape}")
    for word, spec in others.items():
        expected = x.shape if word == "dy" else x.shape[-1:]
        if spec is not None and spec.shape != expected:
            raise ShapeError(f"{name}: {word} has shape {spec.shape} and must have {expected}: x (N, …, C) = {x.shape}")


def _outputs(x: Spec, gamma: Spec | None, beta: Spec | None, *, epsilon: NotNegative) -> tuple[Spec, ...]:
    _check("batchnorm", x, gamma=gamma, beta=beta)
    return x, x.like(x.shape[-1]), x.like(x.shape[-1])


def _grad_outputs(
    dy: Spec, x: Spec, gamma: Spec | None, mean: Spec, variance: Spec, *, epsilon: NotNegative
) -> tuple[Spec, ...]:
    _check("batchnorm_grad", x, dy=dy, gamma=gamma, mean=mean, variance=variance)
    return x, x.like(x.shape[-1]), x.like(x.shape[-1])


def _inference_outputs(
    x: Spec, gamma: Spec | None, beta: Spec | None, mean: Spec, variance: Spec, *, epsilon: NotNegative
) -> Spec:
    _check("batchnorm_inference", x, gamma=gamma, beta=beta, mean=mean, variance=variance)
    return x


def _average_outputs(moving: Spec, batch: Spec, *, momentum: float) -> Spec:
    if moving != batch:
        raise ShapeError(f"moving_average: moving has shape {moving.shape} but batch has shape {batch.shape}")
    return moving


def _work(per_element: int) -> Callable[..., int]:
    return lambda x, *_, **__: per_element * math.prod(x.shape)


@op(
    outputs=_outputs,
    cases=_cases(lambda x, gamma, beta, _: (x, gamma, beta)),
    prefer=("two_pass",),
    flops=_work(6),
    ulps=16,
)
def batchnorm(x: Array, gamma: Array | None, beta: Array | None, *, epsilon: NotNegative) -> tuple[Array, Array, Array]:
    """Shift and scale each channel to mean beta and standard deviation gamma over the batch.

    x        (N, …, C)
    gamma    (C,), or None for 1
    beta     (C,), or None for 0
    epsilon  added to the variance before the square root
    →        y (N, …, C), mean (C,) and variance (C,) of the batch
    """
    mean = _sums(x) / _count(x)
    centred = x - mean
    variance = _sums(centred * centred) / _count(x)
    return _shifted(centred * _slope(gamma, variance, epsilon), beta), mean, variance


@op(
    gradient_of=batchnorm,
    outputs=_grad_outputs,
    cases=[*_cases(lambda x, gamma, mean, variance: (x, x, gamma, mean or real(9), variance)), _FAR_FROM_ZERO],
    prefer=("two_pass",),
    flops=_work(10),
    ulps=32,
)
def batchnorm_grad(
    dy: Array, x: Array, gamma: Array | None, mean: Array, variance: Array, *, epsilon: NotNegative
) -> tuple[Array, Array, Array]:
    """The gradient of `batchnorm`, computed from the mean and variance that it returned.

    dy, x           (N, …, C)
    gamma           (C,), or None for 1
    mean, variance  (C,)
    epsilon         as in `batchnorm`
    →               dx (N, …, C), dgamma (C,), dbeta (C,)
    """
    normal = (x - mean) * _slope(None, variance, epsilon)
    dbeta, dgamma = _sums(dy), _sums(dy * normal)
    dx = (dy - dbeta / _count(x) - normal * (dgamma / _count(x))) * _slope(gamma, variance, epsilon)
    return dx, dgamma, dbeta


@op(
    outputs=_inference_outputs,
    cases=_cases(lambda x, gamma, beta, variance: (x, gamma, beta, beta or real(9), variance)),
    prefer=("two_pass",),
    flops=_work(3),
    ulps=16,
)
def batchnorm_inference(
    x: Array, gamma: Array | None, beta: Array | None, mean: Array, variance: Array, *, epsilon: NotNegative
) -> Array:
    """The same as `batchnorm`, with the mean and variance passed in instead of those of the batch.

    x               (N, …, C)
    gamma, beta     (C,), or None for 1 and 0
    mean, variance  (C,)
    epsilon         added to the variance before the square root
    →               (N, …, C)
    """
    return _shifted((x - mean) * _slope(gamma, variance, epsilon), beta)


@op(
    gradient_of=batchnorm_inference,
    outputs=_grad_outputs,
    cases=[*_cases(lambda x, gamma, mean, variance: (x, x, gamma, mean or real(9), variance)), _FAR_FROM_ZERO],
    prefer=("two_pass",),
    flops=_work(6),
    ulps=32,
)
def batchnorm_inference_grad(
    dy: Array, x: Array, gamma: Array | None, mean: Array, variance: Array, *, epsilon: NotNegative
) -> tuple[Array, Array, Array]:
    """The gradient of `batchnorm_inference` with respect to x, gamma and beta.

    dy, x           (N, …, C)
    gamma           (C,), or None for 1
    mean, variance  (C,)
    epsilon         as in `batchnorm_inference`
    →               dx (N, …, C), dgamma (C,), dbeta (C,)
    """
    normal = (x - mean) * _slope(None, variance, epsilon)
    return dy * _slope(gamma, variance, epsilon), _sums(dy * normal), _sums(dy)


@op(
    outputs=_average_outputs,
    cases=[Case(f"of_{c}", (real(c), real(c)), {"momentum": 0.99}) for c in (1, 7, 300)],
    prefer=("elementwise",),
    flops=_work(3),
    inplace=(0,),
)
def moving_average(moving: Array, batch: Array, *, momentum: float) -> Array:
    """Update moving statistics in place: moving · momentum + batch · (1 - momentum).

    moving    any shape, changed in place
    batch     same shape as moving
    momentum  0 … 1
    →         moving
    """
    moving[...] = moving * momentum + batch * (1 - momentum)
    return moving


def _count(x: np.ndarray) -> int:
    return math.prod(x.shape[:-1])


def _sums(x: np.ndarray) -> np.ndarray:
    """(C,): the sum of each channel."""
    return x.reshape(x.shape[0], -1, x.shape[-1]).sum(axis=1).sum(axis=0)


def _slope(gamma: np.ndarray | None, variance: np.ndarray, epsilon: NotNegative) -> np.ndarray:
    deviation = np.sqrt(variance + epsilon)
    return 1 / deviation if gamma is None else gamma / deviation


def _shifted(y: np.ndarray, beta: np.ndarray | None) -> np.ndarray:
    return y if beta is None else y + beta
