"""Batch normalisation and the activation behind it in one op, and the gradient of both.

The gradient computes what the activation was applied to from x once more, which it reads anyway:
nothing but x is kept. These ops have kernels for the CPU alone; on a GPU, layer and activation run one
by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..arguments import NotNegative
from ..dispatch.case import Array, Case, Draw, Spec, real
from ..dispatch.op import op
from . import epilogue
from .activation import FUNCTIONS
from .batchnorm import batchnorm, batchnorm_grad, batchnorm_inference
from .epilogue import RELU, ULPS, end

_SHAPES = {
    "one_channel": (5, 3, 3, 1),
    "dense": (7, 6),
    "one_image": (1, 4, 5, 3),
    "ragged": (3, 7, 5, 9),
    "volume": (2, 3, 4, 3, 2),
    "many_positions": (2, 33, 35, 3),
    "many_images": (9, 16, 16, 40),
}
_BENCH_SHAPES = {"vgg_1": (64, 32, 32, 32), "vgg_3": (64, 8, 8, 128)}


def _cases(operands: Callable[..., tuple[Draw | None, ...]]) -> list[Case]:
    """Cases of an op; `operands` takes the draws for x, gamma, beta and the variance."""
    cases = []
    for shapes in (_SHAPES, _BENCH_SHAPES):
        for name, shape in shapes.items():
            draws = operands(real(*shape), *(real(shape[-1]) for _ in range(2)), real(shape[-1], low=0.1))
            cases.append(Case(name, draws, {"epsilon": 1e-3, **RELU}, bench=shapes is _BENCH_SHAPES))
    ragged = _SHAPES["ragged"]
    draws = operands(real(*ragged), real(9), real(9), real(9, low=0.1))
    cases += [Case(f"ragged_{name}", draws, {"epsilon": 1e-3, **end(name)}) for name in (epilogue.LINEAR, *FUNCTIONS)]
    bare = operands(real(*ragged), None, None, real(9, low=0.1))
    return [*cases, Case("without_gamma_and_beta", bare, {"epsilon": 1e-3, **RELU})]


def _outputs(
    x: Spec, gamma: Spec | None, beta: Spec | None, *, epsilon: NotNegative, function: str, alpha: float
) -> tuple[Spec, ...]:
    epilogue.check("batchnorm_activation", function)
    return batchnorm.outputs(x, gamma, beta, epsilon=epsilon)


def _grad_outputs(
    dy: Spec,
    x: Spec,
    gamma: Spec | None,
    beta: Spec | None,
    mean: Spec,
    variance: Spec,
    *,
    epsilon: NotNegative,
    function: str,
    alpha: float,
) -> tuple[Spec, ...]:
    epilogue.check("batchnorm_activation_grad", function)
    batchnorm.outputs(x, gamma, beta, epsilon=epsilon)
    return batchnorm_grad.outputs(dy, x, gamma, mean, variance, epsilon=epsilon)


@op(
    outputs=_outputs,
    cases=_cases(lambda x, gamma, beta, _: (x, gamma, beta)),
    prefer=("two_pass",),
    flops=lambda x, *_, **__: 7 * math.prod(x.shape),
    ulps=16 + ULPS,
)
def batchnorm_activation(
    x: Array, gamma: Array | None, beta: Array | None, *, epsilon: NotNegative, function: str, alpha: float
) -> tuple[Array, Array, Array]:
    """y = f(batchnorm(x)).

    x         (N, …, C)
    gamma     (C,), or None for 1
    beta      (C,), or None for 0
    epsilon   added to the variance before the square root
    function  name of f, with its parameter alpha
    →         y (N, …, C), mean (C,) and variance (C,) of the batch
    """
    z, mean, variance = batchnorm.reference(x, gamma, beta, epsilon=epsilon)
    return epilogue.finished(z, function, alpha), mean, variance


@op(
    gradient_of=batchnorm_activation,
    outputs=_grad_outputs,
    cases=_cases(lambda x, gamma, beta, variance: (x, x, gamma, beta, real(x.shape[-1]), variance)),
    prefer=("two_pass",),
    flops=lambda dy, *_, **__: 15 * math.prod(dy.shape),
    ulps=32 + 2 * ULPS,
)
def batchnorm_activation_grad(
    dy: Array,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    mean: Array,
    variance: Array,
    *,
    epsilon: NotNegative,
    function: str,
    alpha: float,
) -> tuple[Array, Array, Array]:
    """The gradient of `batchnorm_activation`, computed from the mean and variance that it returned.

    dy, x            (N, …, C)
    gamma, beta      (C,), or None for 1 and 0
    mean, variance   (C,)
    epsilon          as in `batchnorm_activation`
    function, alpha  the same
    →                dx (N, …, C), dgamma (C,), dbeta (C,)
    """
    z = batchnorm_inference.reference(x, gamma, beta, mean, variance, epsilon=epsilon)
    dz = epilogue.gradient_at(dy, z, function, alpha)
    return batchnorm_grad.reference(dz, x, gamma, mean, variance, epsilon=epsilon)
