"""Padding of arrays with zeros, cropping, and reordering of axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dispatch.case import Array, Case, Spec, real
from ..dispatch.op import op
from ..errors import ArgumentError, ShapeError

Padding = tuple[tuple[int, int], ...]

_SETTINGS: dict[str, tuple[tuple[int, ...], Padding]] = {
    "nothing": ((2, 3), ((0, 0), (0, 0))),
    "one_cell": ((1, 1, 1, 1), ((0, 0), (1, 1), (1, 1), (0, 0))),
    "image": ((3, 4, 5, 2), ((0, 0), (1, 1), (1, 1), (0, 0))),
    "asymmetric": ((2, 3, 5, 3), ((0, 0), (2, 0), (1, 3), (0, 0))),
    "sequence": ((2, 7, 3), ((0, 0), (4, 1), (0, 0))),
    "volume": ((2, 3, 2, 4, 1), ((0, 0), (1, 0), (0, 1), (2, 2), (0, 0))),
}
_BENCH = ("cifar", (512, 32, 32, 3), ((0, 0), (4, 4), (4, 4), (0, 0)))


def _cases(cropped: bool) -> list[Case]:
    cases = []
    for name, shape, padding in [*((n, *setting) for n, setting in _SETTINGS.items()), _BENCH]:
        drawn = _grown(shape, padding) if cropped else shape
        cases.append(Case(name, (real(*drawn),), {"padding": padding}, bench=name == _BENCH[0]))
    return cases


def _grown(shape: tuple[int, ...], padding: Padding) -> tuple[int, ...]:
    return tuple(extent + before + after for extent, (before, after) in zip(shape, padding, strict=True))


def _check(name: str, x: Spec, padding: Padding) -> None:
    if not x.shape:
        raise ShapeError(f"{name}: x has no axes: give an array of at least one")
    if len(padding) != len(x.shape):
        raise ShapeError(f"{name}: x = {x.shape} has {len(x.shape)} axes but padding={padding} has {len(padding)}")
    if min(map(min, padding), default=0) < 0:
        raise ArgumentError(f"{name}: padding={padding} must not be negative")


def _pad_outputs(x: Spec, *, padding: Padding) -> Spec:
    _check("pad", x, padding)
    return x.like(*_grown(x.shape, padding))


def _crop_outputs(x: Spec, *, padding: Padding) -> Spec:
    _check("crop", x, padding)
    left = tuple(extent - before - after for extent, (before, after) in zip(x.shape, padding, strict=True))
    if min(left, default=1) < 1:
        raise ShapeError(f"crop: nothing is left of x = {x.shape} without {padding}")
    return x.like(*left)


def _transpose_outputs(x: Spec, *, axes: tuple[int, ...]) -> Spec:
    if not x.shape or sorted(axes) != list(range(len(x.shape))):
        raise ShapeError(f"transpose: axes={axes} does not name each axis of x = {x.shape} once")
    return x.like(*(x.shape[axis] for axis in axes))


def _no_work(*_: Spec, **__: Any) -> int:
    return 0


@op(outputs=_pad_outputs, cases=_cases(cropped=False), prefer=("elementwise",), flops=_no_work, ulps=0)
def pad(x: Array, *, padding: Padding) -> Array:
    """Add zeros around x. Its gradient is `crop`.

    x        any shape
    padding  ((before, after), …), a pair for each axis
    →        each axis longer by its pair
    """
    return np.pad(x, padding)


@op(outputs=_crop_outputs, cases=_cases(cropped=True), prefer=("elementwise",), flops=_no_work, ulps=0)
def crop(x: Array, *, padding: Padding) -> Array:
    """Remove the cells that `pad` added. Its gradient is `pad`.

    x        any shape
    padding  ((before, after), …), a pair for each axis
    →        each axis shorter by its pair
    """
    inside = tuple(slice(before, extent - after) for extent, (before, after) in zip(x.shape, padding, strict=True))
    return np.ascontiguousarray(x[inside])


@op(
    outputs=_transpose_outputs,
    cases=[
        Case("matrix", (real(5, 7),), {"axes": (1, 0)}),
        Case("channels_last", (real(2, 3, 4, 5),), {"axes": (0, 2, 3, 1)}),
        Case("images", (real(2, 3, 4, 5),), {"axes": (0, 2, 1, 3)}),
        Case("unchanged", (real(2, 3, 4),), {"axes": (0, 1, 2)}),
        Case("wide_matrix", (real(45, 67),), {"axes": (1, 0)}),
        Case("wide_matrices", (real(3, 33, 20, 4),), {"axes": (0, 2, 3, 1)}),
        Case("reversed", (real(7, 8, 9, 5),), {"axes": (3, 2, 1, 0)}),
        Case("cifar", (real(512, 3, 32, 32),), {"axes": (0, 2, 3, 1)}, bench=True),
    ],
    prefer=("elementwise",),
    flops=_no_work,
    ulps=0,
)
def transpose(x: Array, *, axes: tuple[int, ...]) -> Array:
    """Put the axes of x into another order. Its gradient is `transpose` with the inverse order.

    x     any shape
    axes  numbers of the axes of x that become axis 0, 1, …
    →     the extents of x in that order
    """
    return np.ascontiguousarray(x.transpose(axes))
