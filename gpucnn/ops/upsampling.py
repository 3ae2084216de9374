"""Enlarging of images by whole factors: each cell repeated, or values interpolated between cells."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arguments import Count
from ..dispatch.case import Array, Case, Spec, real
from ..dispatch.op import op
from ..errors import ShapeError
from .window import Pair

Triple = tuple[Count, Count, Count]
"""A number for the planes, one for the rows and one for the columns."""

_REPEATED: dict[str, tuple[tuple[int, ...], Triple]] = {
    "one_cell": ((1, 1, 1, 1, 1), (1, 1, 1)),
    "image": ((2, 1, 3, 4, 5), (1, 2, 3)),
    "sequence": ((3, 1, 1, 7, 2), (1, 1, 4)),
    "volume": ((2, 2, 3, 2, 3), (3, 1, 2)),
    "vector": ((3, 1, 1, 1, 37), (1, 1, 5)),
    "quads": ((2, 1, 5, 6, 8), (1, 2, 2)),
    "planes_alone": ((4, 3, 1, 1, 9), (2, 1, 1)),
}
_ENLARGED: dict[str, tuple[tuple[int, ...], Pair]] = {
    "one_cell": ((1, 1, 1, 1), (2, 3)),
    "unchanged": ((2, 3, 4, 2), (1, 1)),
    "twice": ((2, 4, 3, 5), (2, 2)),
    "odd": ((3, 3, 5, 2), (3, 5)),
    "rows_alone": ((2, 7, 2, 3), (4, 1)),
    "quads": ((2, 5, 6, 8), (2, 2)),
}


def _grown(name: str, x: Spec, size: tuple[int, ...]) -> Spec:
    if len(x.shape) != len(size) + 2:
        raise ShapeError(f"{name}: x needs {len(size) + 2} axes (N, …, C) for size={size} and has shape {x.shape}")
    return x.like(x.shape[0], *(extent * n for extent, n in zip(x.shape[1:-1], size, strict=True)), x.shape[-1])


def _shrunk(name: str, dy: Spec, size: tuple[int, ...]) -> Spec:
    if len(dy.shape) != len(size) + 2 or any(extent % n for extent, n in zip(dy.shape[1:-1], size, strict=True)):
        raise ShapeError(f"{name}: dy needs {len(size) + 2} axes with multiples of size={size} and has {dy.shape}")
    return dy.like(dy.shape[0], *(extent // n for extent, n in zip(dy.shape[1:-1], size, strict=True)), dy.shape[-1])


def _cases(settings: dict[str, Any], of_gradient: bool, bench: tuple[tuple[int, ...], tuple[int, ...]]) -> list[Case]:
    cases = []
    for name, (shape, size) in [*settings.items(), ("segmentation", bench)]:
        grown = (shape[0], *(e * n for e, n in zip(shape[1:-1], size, strict=True)), shape[-1])
        drawn = real(*(grown if of_gradient else shape))
        cases.append(Case(name, (drawn,), {"size": size}, bench=name == "segmentation"))
    return cases


_REPEATED_BENCH = ((64, 1, 16, 16, 64), (1, 2, 2))
_ENLARGED_BENCH = ((64, 16, 16, 64), (2, 2))


@op(
    outputs=lambda x, *, size: _grown("repeat", x, size),
    cases=_cases(_REPEATED, False, _REPEATED_BENCH),
    prefer=("elementwise",),
    flops=lambda x, **_: 0,
    ulps=0,
)
def repeat(x: Array, *, size: Triple) -> Array:
    """Each cell again and again along three axes.

    x     (N, D, H, W, C)
    size  how often along D, H and W
    →     (N, D · size[0], H · size[1], W · size[2], C)
    """
    for axis, count in enumerate(size, 1):
        x = np.repeat(x, count, axis)
    return x


@op(
    gradient_of=repeat,
    outputs=lambda dy, *, size: _shrunk("repeat_grad", dy, size),
    cases=_cases(_REPEATED, True, _REPEATED_BENCH),
    prefer=("elementwise",),
    flops=lambda dy, **_: math.prod(dy.shape),
    terms=lambda dy, *, size: math.prod(size),
)
def repeat_grad(dy: Array, *, size: Triple) -> Array:
    """The gradient of `repeat`: the sum over the copies of each cell.

    dy    (N, D · size[0], H · size[1], W · size[2], C)
    size  as in `repeat`
    →     (N, D, H, W, C)
    """
    n, d, h, w, c = _shrunk("repeat_grad", Spec(dy.shape, dy.dtype), size).shape
    return dy.reshape(n, d, size[0], h, size[1], w, size[2], c).sum(axis=(2, 4, 6))


@op(
    outputs=lambda x, *, size: _grown("enlarge", x, size),
    cases=_cases(_ENLARGED, False, _ENLARGED_BENCH),
    prefer=("elementwise",),
    flops=lambda x, *, size: 8 * math.prod(x.shape) * math.prod(size),
)
def enlarge(x: Array, *, size: Pair) -> Array:
    """Bilinear interpolation between the centres of cells; beyond the outermost centres the edge goes on.

    Cell o of the result lies at (o + 1/2) / size - 1/2 of x.

    x     (N, H, W, C)
    size  factors of H and W
    →     (N, H · size[0], W · size[1], C)
    """
    for axis, factor in enumerate(size, 1):
        low, high, share = between(x.shape[axis], factor)
        share = share.astype(x.dtype).reshape(-1, *(1,) * (3 - axis))
        x = x.take(low, axis) * (1 - share) + x.take(high, axis) * share
    return x


@op(
    gradient_of=enlarge,
    outputs=lambda dy, *, size: _shrunk("enlarge_grad", dy, size),
    cases=_cases(_ENLARGED, True, _ENLARGED_BENCH),
    prefer=("elementwise",),
    flops=lambda dy, **_: 8 * math.prod(dy.shape),
    ulps=32,
)
def enlarge_grad(dy: Array, *, size: Pair) -> Array:
    """The gradient of `enlarge`: each cell sums the values that it had a share in.

    dy    (N, H · size[0], W · size[1], C)
    size  as in `enlarge`
    →     (N, H, W, C)
    """
    for axis, factor in enumerate(size, 1):
        extent = dy.shape[axis] // factor
        low, high, share = between(extent, factor)
        weights = np.zeros((extent, dy.shape[axis]))
        np.add.at(weights, (low, np.arange(len(low))), 1 - share)
        np.add.at(weights, (high, np.arange(len(high))), share)
        dy = np.moveaxis(np.tensordot(weights.astype(dy.dtype), dy, (1, axis)), 0, axis)
    return np.ascontiguousarray(dy)


def between(extent: int, factor: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each cell of an enlarged axis the two cells that it lies between, and the share of the second,
    a fraction of 2 · factor."""
    halves = 2 * np.arange(extent * factor) + 1 - factor
    low = halves // (2 * factor)
    share = (halves - low * 2 * factor) / (2 * factor)
    return low.clip(0, extent - 1), (low + 1).clip(0, extent - 1), share
