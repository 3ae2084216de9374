"""Two arrays made one: their sum, or one behind the other along the channels."""

from __future__ import annotations

import math

import numpy as np

from ..dispatch.case import Array, Case, Spec, real
from ..dispatch.op import op
from ..errors import ShapeError

_SHAPES = {
    "one": (1, 1),
    "ragged": (3, 7, 5, 3),
    "quads": (2, 5, 8),
    "blocks": (5, 413),
}
_CHANNELS = {
    "one": (1, 1, 1),
    "ragged": (7, 3, 5),
    "quads": (6, 4, 12),
    "one_wide": (3, 1, 300),
    "many_rows": (1031, 5, 2),
}


def _added(a: Spec, b: Spec) -> Spec:
    if a != b:
        raise ShapeError(f"add: a {a.shape} {a.dtype} and b {b.shape} {b.dtype} must be alike")
    return a


def _joined(a: Spec, b: Spec) -> Spec:
    if not a.shape or a.shape[:-1] != b.shape[:-1] or a.dtype != b.dtype:
        raise ShapeError(
            f"concatenate: a {a.shape} {a.dtype} and b {b.shape} {b.dtype} may differ in their last extent alone"
        )
    return a.like(*a.shape[:-1], a.shape[-1] + b.shape[-1])


@op(
    outputs=_added,
    cases=[
        *(Case(name, (real(*shape), real(*shape))) for name, shape in _SHAPES.items()),
        Case("resnet", (real(128, 16, 16, 64), real(128, 16, 16, 64)), bench=True),
    ],
    prefer=("elementwise",),
    flops=lambda a, b: math.prod(a.shape),
    ulps=1,
)
def add(a: Array, b: Array) -> Array:
    """a + b, whose gradient for both is that of the sum.

    a, b  any shape, the same for both
    →     same shape
    """
    return a + b


@op(
    outputs=lambda a, b, **_: _added(a, b),
    cases=[
        Case(name, (real(*shape), real(*shape)), {"of_a": 3.4445, "of_b": -4.775}) for name, shape in _SHAPES.items()
    ],
    prefer=("elementwise",),
    flops=lambda a, b, **_: 3 * math.prod(a.shape),
    ulps=16,
)
def weighted_sum(a: Array, b: Array, *, of_a: float, of_b: float) -> Array:
    """of_a · a + of_b · b.

    a, b  any shape, the same for both
    →     same shape
    """
    return of_a * a + of_b * b


@op(
    outputs=_joined,
    cases=[
        *(Case(name, (real(rows, a), real(rows, b))) for name, (rows, a, b) in _CHANNELS.items()),
        Case("images", (real(2, 3, 4, 5), real(2, 3, 4, 2))),
        Case("inception", (real(128, 16, 16, 64), real(128, 16, 16, 32)), bench=True),
    ],
    prefer=("elementwise",),
    flops=lambda a, b: 0,
    ulps=0,
)
def concatenate(a: Array, b: Array) -> Array:
    """The channels of a, then those of b. The gradients are the two parts of the result's: `crop`.

    a  (…, A)
    b  (…, B), the other extents those of a
    →  (…, A + B)
    """
    return np.concatenate([a, b], axis=-1)
