"""Which axes matter when arrays are padded, cropped or transposed, for the kernels
`reshaping/elementwise_…`.

An address costs a division per axis. Axes that stay together in memory act as one, and axes of
extent 1 as none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.reshaping import crop, pad, transpose

MOST_AXES = 8
"""Axes that a kernel takes."""

TILE, ROWS = 32, 8
"""Rows and columns of a tile of a matrix; rows of threads that carry it."""

NARROW = 8
"""Matrices of fewer rows or columns fill too little of a tile; caches serve them well without
one."""


def register(file: str, backend: str, shift: Callable, transpose_values: Callable, transpose_tiles: Callable) -> None:
    """Register the kernels in `file`.

    shift             launches (y, x, extents of x, extents of y, cells of y before x)
    transpose_values  launches (y, x, extents of y, steps in x)
    transpose_tiles   launches (y, x, batch, M, N)
    """
    options: dict[str, Any] = {"supports": few_axes, "file": file}

    @kernel(pad, "elementwise", backend, **options)
    def launch_pad(y: Any, x: Any, *, padding: Any) -> None:
        shift(y, x, *padded_axes(x.shape, padding))

    @kernel(crop, "elementwise", backend, **options)
    def launch_crop(y: Any, x: Any, *, padding: Any) -> None:
        extents_y, extents_x, before = padded_axes(y.shape, padding)
        shift(y, x, extents_x, extents_y, [-cells for cells in before])

    @kernel(transpose, "elementwise", backend, **options)
    def launch_transpose(y: Any, x: Any, *, axes: Any) -> None:
        extents, steps = transposed_axes(x.shape, axes)
        batch = matrices(extents, steps)
        if batch and min(batch[1:]) >= NARROW:
            transpose_tiles(y, x, *batch)
        else:
            transpose_values(y, x, extents, steps)


def few_axes(x: Spec, **_: Any) -> bool:
    """Whether the kernels have numbers for all axes."""
    return len(x.shape) <= MOST_AXES


def eight(numbers: Sequence[int], absent: int) -> list[int]:
    """The numbers of the axes, those of the axes that lack before them."""
    return [absent] * (MOST_AXES - len(numbers)) + list(numbers)


def padded_axes(shape: Sequence[int], padding: Sequence[tuple[int, int]]) -> tuple[list[int], list[int], list[int]]:
    """Extents without and with padding, and the cells before; an axis without padding is joined to
    the one before."""
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
    """Extents of the result, and how far apart in x neighbours along each are; axes in one order in
    both are one."""
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
    """(batch, M, N) if x is a batch of matrices (M, N) and the result has each of them transposed,
    else None."""
    if len(extents) not in (2, 3):
        return None
    batch = extents[0] if len(extents) == 3 else 1
    N, M = extents[-2:]
    right = list(steps[-2:]) == [1, N] and (len(extents) == 2 or steps[0] == M * N)
    return (batch, M, N) if right else None
