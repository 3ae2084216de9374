"""Where the slices of a weight lie in memory, for the kernels `constraint/…`.

Neighbouring axes that are all reduced, or all kept, act as one. An element's place is then that of
its slice plus that within the slice, and each of the two is an index over at most two such runs of
axes:

    place(i) = i // inner · outer_stride + i % inner · inner_stride
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import NamedTuple

from gpucnn.dispatch.case import Spec

Place = tuple[int, int, int]
"""inner, outer_stride, inner_stride"""


class Slices(NamedTuple):
    """How many slices of how many elements, and where both lie."""

    count: int
    length: int
    slice: Place
    element: Place
    across: bool
    """Whether neighbours in memory belong to different slices, as in a dense weight with a norm for
    each unit."""


def supports(w: Spec, *, axes: tuple[int, ...], **_: object) -> bool:
    """Whether two runs of reduced axes and two of kept ones are enough: always, up to four axes."""
    return len(_runs(w.shape, axes, True)) <= 2 and len(_runs(w.shape, axes, False)) <= 2


def slices(shape: tuple[int, ...], axes: tuple[int, ...]) -> Slices:
    """The slices of a weight of this shape, each spanning `axes`."""
    kept, reduced = _runs(shape, axes, False), _runs(shape, axes, True)
    across = bool(kept) and kept[-1][1] == 1
    return Slices(
        math.prod(extent for extent, _ in kept),
        math.prod(extent for extent, _ in reduced),
        _place(kept),
        _place(reduced),
        across,
    )


def _runs(shape: tuple[int, ...], axes: tuple[int, ...], reduced: bool) -> list[tuple[int, int]]:
    """(extent, stride) of each run of neighbouring axes that are reduced (or kept); axes of extent
    1 are none."""
    long = [axis for axis, extent in enumerate(shape) if extent > 1]
    runs = []
    for is_reduced, group in groupby(long, key=lambda axis: axis in axes):
        if is_reduced is reduced:
            run = list(group)
            runs.append((math.prod(shape[axis] for axis in run), math.prod(shape[run[-1] + 1 :])))
    return runs


def _place(runs: list[tuple[int, int]]) -> Place:
    (_, outer_stride), (inner, inner_stride) = [(1, 0), (1, 0), *runs][-2:]
    return inner, outer_stride, inner_stride
