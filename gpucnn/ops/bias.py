"""Addition of one number per channel, the last axis, and its gradient."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..dispatch.case import Array, Case, Draw, Spec, real
from ..dispatch.op import op
from ..errors import ArgumentError, ShapeError

_SHAPES = {
    "one": (1, 1),
    "dense": (7, 10),
    "ragged": (3, 7, 5, 9),
    "one_channel": (4, 6, 6, 1),
    "one_axis": (5,),
    "sequence": (2, 11, 3),
    "volume": (2, 3, 4, 5, 6),
    "many_rows": (1000, 3),
    "many_columns": (500, 70),
    "many_rows_and_columns": (600, 70),
}
_BENCH_SHAPES = {
    "slides_1": (128, 24, 24, 10),
    "mlearning_1": (128, 28, 28, 32),
    "mlearning_3": (128, 14, 14, 64),
    "torres_1": (100, 24, 24, 32),
    "cifar_1": (512, 32, 32, 32),
    "cifar_dense_1": (512, 512),
}


def _cases(operands: Callable[..., tuple[Draw, ...]]) -> list[Case]:
    return [
        Case(name, operands(*shape), bench=shapes is _BENCH_SHAPES)
        for shapes in (_SHAPES, _BENCH_SHAPES)
        for name, shape in shapes.items()
    ]


def _outputs(x: Spec, b: Spec) -> Spec:
    if not x.shape:
        raise ShapeError("bias: x needs a last axis of channels and has none")
    if b.shape != x.shape[-1:]:
        raise ShapeError(f"bias: x has {x.shape[-1]} channels but b has shape {b.shape}: x (…, K) = {x.shape}")
    if x.dtype != b.dtype:
        raise ArgumentError(f"bias: x is {x.dtype} but b is {b.dtype}: convert one to the other's dtype")
    return x


def _grad_outputs(dy: Spec) -> Spec:
    if not dy.shape:
        raise ShapeError("bias_grad: dy needs a last axis of channels and has none")
    return dy.like(dy.shape[-1])


def _operands(*shape: int) -> tuple[Draw, Draw]:
    return real(*shape), real(shape[-1])


def _grad_operands(*shape: int) -> tuple[Draw]:
    return (real(*shape),)


@op(
    outputs=_outputs,
    cases=_cases(_operands),
    prefer=("rows",),
    flops=lambda x, b: math.prod(x.shape),
    terms=lambda x, b: 2,
)
def bias(x: Array, b: Array) -> Array:
    """Add b to every position of x.

    x  (…, K)
    b  (K,)
    →  (…, K)
    """
    return x + b


@op(
    gradient_of=bias,
    outputs=_grad_outputs,
    cases=_cases(_grad_operands),
    prefer=("rows",),
    flops=lambda dy: math.prod(dy.shape),
    terms=lambda dy: math.prod(dy.shape[:-1]),
)
def bias_grad(dy: Array) -> Array:
    """The gradient of `bias` with respect to b: the sum of dy over all positions.

    dy  (…, K)
    →   (K,)
    """
    return dy.reshape(-1, dy.shape[-1]).sum(axis=0)
