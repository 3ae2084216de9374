"""Which axes matter when arrays are padded, cropped or transposed, for the kernels `reshaping/elementwise_…`.

An address costs a division per axis. Axes that stay together in memory act as one, and axes of extent 1 as none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpucnn.dispatch.case import Spec

MOST_AXES = 8
"""Axes that a kernel takes."""


def few_axes(x: Spec, **_: Any) -> bool:
    """Whether the kernels have numbers for all axes."""
    return len(x.shape) <= MOST_AXES


def eight(numbers: Sequence[int], absent: int) -> list[int]:
    """The numbers of the axes, those of the axes that lack before them."""
    return [absent] * (MOST_AXES - len(numbers)) + list(numbers)


def padded_axes(shape: Sequence[int], padding: Sequence[tuple[int, int]]) -> tuple[list[int], list[int], list[int]]:
    """Extents without and with padding, and the cells before; an axis without padding is joined to the one before."""
    inside, outside, before = [1], [1], [0]
    for extent, (first, last) in zip(shape, padding, strict=True):
        if first or last:
            inside.append(extent)
            outside.append(first + extent + last)
            before.append(first)
        else:
            inside[-1] *= extent
            outside[-1] *= extent
            before[-1] *= extent
    if len(inside) > 1 and outside[0] == 1:
        del inside[0], outside[0], before[0]
    return inside, outside, before


def transposed_axes(shape: Sequence[int], axes: Sequence[int]) -> tuple[list[int], list[int]]:
    """Extents of the result, and how far apart in x neighbours along each are; axes in one order in both are one."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    extents, steps = [1], [1]
    for axis in axes:
        if shape[axis] == 1:
            continue
        if extents[-1] == 1:
            extents[-1], steps[-1] = shape[axis], strides[axis]
        elif steps[-1] == strides[axis] * shape[axis]:
            extents[-1] *= shape[axis]
            steps[-1] = strides[axis]
        else:
            extents.append(shape[axis])
            steps.append(strides[axis])
    return extents, steps


def matrices(extents: Sequence[int], steps: Sequence[int]) -> tuple[int, int, int] | None:
    """(batch, M, N) if x is a batch of matrices (M, N) and the result has each of them transposed, else None."""
    if len(extents) not in (2, 3):
        return None
    batch = extents[0] if len(extents) == 3 else 1
    N, M = extents[-2:]
    right = list(steps[-2:]) == [1, N] and (len(extents) == 2 or steps[0] == M * N)
    return (batch, M, N) if right else None
