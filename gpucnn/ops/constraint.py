"""Scaling of weights to norms within bounds, in place, after an update.

Each norm is taken over a slice: the elements of w that differ only in their indices on `axes`. For
a dense weight (inputs, units) and axes (0,) a slice holds the weights into one unit; for a
convolution weight (R, S, C, K) and axes (0, 1, 2) it is one filter.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import Fraction, Limit
from ..dispatch.case import Array, Case, Spec, real
from ..dispatch.op import op
from ..errors import ShapeError

EPSILON = 1e-7
"""Keras' `backend.epsilon()`: keeps the norm of an all-zero slice from dividing by zero."""

_SHAPES = {
    "one": ((1,), (0,)),
    "bias": ((10,), (0,)),
    "units": ((37, 10), (0,)),
    "inputs": ((37, 10), (1,)),
    "long_units": ((1030, 33), (0,)),
    "long_rows": ((3, 5003), (1,)),
    "all": ((5, 67), (0, 1)),
    "filters": ((3, 3, 5, 7), (0, 1, 2)),
    "rows_of_filters": ((3, 3, 5, 7), (0,)),
    "inside": ((3, 3, 5, 7), (1, 2)),
    "channels": ((3, 4, 5, 7), (2,)),
    "alternating": ((3, 4, 5, 6), (0, 2)),
    "alternating_kept": ((3, 4, 5, 6), (1, 3)),
    "volume": ((2, 3, 2, 4, 5), (0, 1, 2, 3)),
}
_BENCH_SHAPES = {
    "dense": ((3136, 128), (0,)),
    "conv": ((3, 3, 256, 256), (0, 1, 2)),
    "whole_dense": ((3136, 128), (0, 1)),
}


def _cases(**params: float) -> list[Case]:
    return [
        Case(name, (real(*shape),), {"axes": axes, **params}, bench=shapes is _BENCH_SHAPES)
        for shapes in (_SHAPES, _BENCH_SHAPES)
        for name, (shape, axes) in shapes.items()
    ]


def _outputs(w: Spec, *, axes: tuple[int, ...], **params: Any) -> Spec:
    if not axes or sorted(set(axes)) != list(axes) or not 0 <= axes[0] <= axes[-1] < len(w.shape):
        raise ShapeError(
            f"axes {axes} do not fit a weight of shape {w.shape}: give rising numbers, 0 … {len(w.shape) - 1}"
        )
    return w


@op(outputs=_outputs, cases=_cases(max_value=0.75), prefer=("two_pass",), ulps=8, inplace=(0,))
def max_norm(w: Array, *, max_value: Limit, axes: tuple[int, ...]) -> Array:
    """Scale each slice to a norm of at most max_value.

    Srivastava et al., JMLR 15 (2014), section 5.1.

    w     any shape, changed in place
    axes  axes over which a norm is taken, in rising order
    →     w
    """
    norms = _norms(w, axes)
    w *= np.minimum(norms, max_value) / (EPSILON + norms)
    return w


@op(outputs=_outputs, cases=_cases(), prefer=("two_pass",), ulps=8, inplace=(0,))
def unit_norm(w: Array, *, axes: tuple[int, ...]) -> Array:
    """Scale each slice to a norm of 1.

    w     any shape, changed in place
    axes  axes over which a norm is taken, in rising order
    →     w
    """
    w /= EPSILON + _norms(w, axes)
    return w


@op(
    outputs=_outputs,
    cases=_cases(min_value=0.5, max_value=0.75, rate=0.25),
    prefer=("two_pass",),
    ulps=8,
    inplace=(0,),
)
def min_max_norm(w: Array, *, min_value: float, max_value: Limit, rate: Fraction, axes: tuple[int, ...]) -> Array:
    """Move the norm of each slice towards min_value … max_value, by the fraction `rate` of the way.

    w     any shape, changed in place
    axes  axes over which a norm is taken, in rising order
    →     w
    """
    norms = _norms(w, axes)
    w *= (rate * np.clip(norms, min_value, max_value) + (1 - rate) * norms) / (EPSILON + norms)
    return w


def _norms(w: Array, axes: tuple[int, ...]) -> Array:
    return np.sqrt(np.sum(np.square(w), axis=axes, keepdims=True))
