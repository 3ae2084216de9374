"""Scaling of all values of an array by one factor and one summand."""

from __future__ import annotations

import math

from ..dispatch.case import Array, Case, Spec, real
from ..dispatch.op import op


def _outputs(x: Spec, *, scale: float, offset: float) -> Spec:
    return x


@op(
    outputs=_outputs,
    cases=[
        Case("pixels", (real(3, 7, 5, 2, low=0, high=255),), {"scale": 1 / 255, "offset": 0.0}),
        Case("symmetric", (real(3, 7, 5, low=0, high=255),), {"scale": 1 / 127.5, "offset": -1.0}),
        Case("beyond_blocks", (real(2050, low=0, high=255),), {"scale": 1 / 255, "offset": 0.0}),
        Case("cifar", (real(512, 32, 32, 3, low=0, high=255),), {"scale": 1 / 255, "offset": 0.0}, bench=True),
    ],
    prefer=("elementwise",),
    flops=lambda x, **_: 2 * math.prod(x.shape),
)
def rescale(x: Array, *, scale: float, offset: float) -> Array:
    """x · scale + offset. Its gradient is itself, applied to dy with offset 0.

    x  any shape
    →  same shape as x
    """
    return x * scale + offset
