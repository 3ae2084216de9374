"""Bias and activation behind any op, and the gradient of both in one pass over the rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..dispatch.case import Array, Case, Draw, Spec, real
from ..dispatch.op import op
from ..errors import ShapeError
from . import epilogue
from .activation import FUNCTIONS
from .epilogue import LINEAR, RELU, ULPS, end, ended, ended_outputs


def _bias_outputs(z: Spec, b: Spec, *, function: str, alpha: float, keep_input: bool) -> Any:
    if not z.shape:
        raise ShapeError("bias_activation: z needs a last axis of channels and has none")
    return ended_outputs("bias_activation", z, b, function, keep_input)


def _bias_grad_outputs(dy: Spec, kept: Spec, *, function: str, alpha: float, scale: float = 1.0) -> tuple[Spec, Spec]:
    epilogue.check("bias_activation_grad", function)
    if dy != kept or not dy.shape:
        raise ShapeError(f"bias_activation_grad: dy is {dy.shape} {dy.dtype} but kept is {kept.shape} {kept.dtype}")
    return dy, dy.like(dy.shape[-1])


_ROWS = {
    "one": (1, 1),
    "dense": (7, 10),
    "ragged": (3, 7, 5, 9),
    "one_channel": (4, 6, 6, 1),
    "tiles": (2, 16, 16, 65),
    "many_rows": (1000, 33),
    "many_rows_of_one": (9, 8, 16, 1),
    "many_rows_of_three": (700, 3),
    "many_images": (3, 14, 15, 10),
    "many_rows_of_a_line": (600, 32),
}
_ROWS_BENCH = {"mlearning_1": (128, 28, 28, 32), "mlearning_3": (128, 14, 14, 64), "cifar_1": (512, 32, 32, 32)}


_EACH = [LINEAR, *FUNCTIONS]


def _row_cases(operands: Callable[..., tuple[Draw, ...]], **more: Any) -> list[Case]:
    return [
        *(
            Case(name, operands(*shape), {**RELU, **more}, bench=shapes is _ROWS_BENCH)
            for shapes in (_ROWS, _ROWS_BENCH)
            for name, shape in shapes.items()
        ),
        *(Case(f"ragged_{name}", operands(*_ROWS["ragged"]), {**end(name), **more}) for name in _EACH),
        Case("ragged_elu_bent", operands(*_ROWS["ragged"]), {**end("elu", -0.5), **more}),
    ]


_KEEPING = "relu", "gelu", "silu"


def _operands(*shape: int) -> tuple[Draw, Draw]:
    return real(*shape, low=-4, high=4), real(shape[-1])


@op(
    outputs=_bias_outputs,
    cases=[
        *_row_cases(_operands, keep_input=False),
        *(Case(f"keeping_{name}", _operands(*_ROWS["ragged"]), {**end(name), "keep_input": True}) for name in _KEEPING),
    ],
    prefer=("rows",),
    flops=lambda z, b, **_: 2 * math.prod(z.shape),
    ulps=ULPS,
)
def bias_activation(z: Array, b: Array, *, function: str, alpha: float, keep_input: bool) -> Any:
    """y = f(z + b).

    z           (…, K)
    b           (K,)
    function    name of f, with its parameter alpha
    keep_input  whether z + b is returned too, for a function whose slope follows from it
    →           y (…, K), or y and z + b

    On the CPU, `out` may be z: y where the input is not kept, or else z + b.
    """
    return ended(z + b, function, alpha, keep_input)


_SCALED = "ragged", "many_rows", "many_rows_of_a_line"


def _grad_operands(*shape: int) -> tuple[Draw, Draw]:
    return real(*shape), real(*shape, low=-0.99, high=0.99)


@op(
    gradient_of=bias_activation,
    outputs=_bias_grad_outputs,
    cases=[
        *_row_cases(_grad_operands),
        *(Case(f"scaled_{name}", _grad_operands(*_ROWS[name]), {**RELU, "scale": 1.25}) for name in _SCALED),
        Case("scaled_tanh", _grad_operands(*_ROWS["ragged"]), {**end("tanh"), "scale": 1.25}),
    ],
    prefer=("rows",),
    flops=lambda dy, kept, **_: 2 * math.prod(dy.shape),
    terms=lambda dy, kept, **_: math.prod(dy.shape[:-1]),
    sums=lambda dy, kept, *, function, alpha, scale=1.0: _grad_sums(dy * scale, function, alpha),
    ulps=ULPS,
)
def bias_activation_grad(
    dy: Array, kept: Array, *, function: str, alpha: float, scale: float = 1.0
) -> tuple[Array, Array]:
    """The gradients of y = f(z + b) with respect to z and b.

    dy, kept  (…, K); kept is z + b if `epilogue.keeps_input(function, alpha)`, otherwise y
    scale     of dy: what dropout behind f has multiplied the values that it kept by
    →         dz (…, K): scale · dy times the slope of f (on the CPU `out` may be dy); db (K,): its sum over positions
    """
    dz = epilogue.gradient(dy * scale, kept, function, alpha)
    return dz, dz.reshape(-1, dz.shape[-1]).sum(axis=0)


def _grad_sums(dy: np.ndarray, function: str, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """|dy| times a bound of the slope and of the error of a computed slope, and its sums."""
    sizes = dy * (epilogue.steepest(function, alpha, 1.0) + ULPS / 4)
    return sizes, sizes.reshape(-1, sizes.shape[-1]).sum(axis=0)
