"""Mean and maximum over all positions of an image, and their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..arguments import Count
from ..dispatch.case import Array, Case, Draw, Spec, among, distinct, integers, real
from ..dispatch.op import op
from ..errors import ShapeError

_SHAPES = {
    "one": (1, 1, 1),
    "one_position": (3, 1, 4),
    "ragged": (3, 35, 5),
    "one_channel": (2, 49, 1),
    "many_positions": (2, 1025, 3),
    "multiples_of_4": (2, 37, 8),
    "many_channels": (3, 5, 300),
}
_BENCH_SHAPES = {"resnet_head": (128, 49, 512), "early": (128, 784, 32)}

_STRANGE = among(7, 4, 8, values=(-math.inf, -math.inf, -1.0, 1.0, math.inf, math.nan))


def _cases(operands: Callable[..., tuple[Draw, ...]], **params: Callable[..., int]) -> list[Case]:
    return [
        Case(name, operands(shape), {word: value(shape) for word, value in params.items()}, shapes is _BENCH_SHAPES)
        for shapes in (_SHAPES, _BENCH_SHAPES)
        for name, shape in shapes.items()
    ]


def _outputs(name: str) -> Callable[[Spec], Spec]:
    def outputs(x: Spec) -> Spec:
        if len(x.shape) != 3:
            raise ShapeError(f"{name}: x needs 3 axes (N, M, C) and has shape {x.shape}")
        return x.like(x.shape[0], x.shape[2])

    return outputs


def _max_grad_outputs(dy: Spec, x: Spec) -> Spec:
    expected = _outputs("globalmaxpool_grad")(x)
    if dy != expected:
        raise ShapeError(f"globalmaxpool_grad: dy (N, C) = {dy.shape} but globalmaxpool returns {expected.shape}")
    return x


def _avg_grad_outputs(dy: Spec, *, count: Count) -> Spec:
    if len(dy.shape) != 2:
        raise ShapeError(f"globalavgpool_grad: dy needs 2 axes (N, C) and has shape {dy.shape}")
    return dy.like(dy.shape[0], count, dy.shape[1])


@op(
    outputs=_outputs("globalavgpool"),
    cases=[
        *_cases(lambda shape: (real(*shape),)),
        Case("nan_and_infinity", (among(7, 4, 8, values=(-1.0, 1.0, 2.0, math.inf, math.nan)),)),
    ],
    prefer=("columns",),
    flops=lambda x: math.prod(x.shape),
)
def globalavgpool(x: Array) -> Array:
    """The mean of each channel over all M positions of each image.

    x  (N, M, C)
    →  (N, C)
    """
    return x.mean(axis=1)


@op(
    gradient_of=globalavgpool,
    outputs=_avg_grad_outputs,
    cases=_cases(lambda shape: (real(shape[0], shape[2]),), count=lambda shape: shape[1]),
    prefer=("columns",),
    flops=lambda dy, count: math.prod(dy.shape),
)
def globalavgpool_grad(dy: Array, *, count: Count) -> Array:
    """The gradient of `globalavgpool`: dy / count at each position.

    dy     (N, C)
    count  M, the number of positions
    →      (N, M, C)
    """
    return np.repeat(dy[:, None] / count, count, axis=1)


@op(
    outputs=_outputs("globalmaxpool"),
    cases=[*_cases(lambda shape: (distinct(*shape),)), Case("nan_and_infinity", (_STRANGE,))],
    prefer=("columns",),
    flops=lambda x: math.prod(x.shape),
    ulps=0,
)
def globalmaxpool(x: Array) -> Array:
    """The largest value of each channel over all M positions of each image; NaN if there is one.

    x  (N, M, C)
    →  (N, C)
    """
    return x.max(axis=1)


@op(
    gradient_of=globalmaxpool,
    outputs=_max_grad_outputs,
    cases=[
        *_cases(lambda shape: (real(shape[0], shape[2]), integers(*shape, low=0, high=3, dtype="float32"))),
        Case("nan_and_infinity", (real(7, 8), _STRANGE)),
    ],
    prefer=("columns",),
    flops=lambda dy, x: math.prod(x.shape),
    ulps=0,
)
def globalmaxpool_grad(dy: Array, x: Array) -> Array:
    """The gradient of `globalmaxpool`: dy at the first position of the largest value, 0 elsewhere.

    dy  (N, C)
    x   (N, M, C)
    →   (N, M, C)
    """
    dx = np.zeros_like(x)
    np.put_along_axis(dx, x.argmax(axis=1)[:, None], dy[:, None], axis=1)
    return dx
