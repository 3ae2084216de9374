"""The transforms of `winograd_njit`: of a square of vectors, with one channel or filter in each lane.

Each is a small function of its own, which the kernels call by its address for all channels or filters
of a tile. So a kernel is compiled once for all sizes of filters, and a transform once for all kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

from gpucnn.devices.njit import address_of, njit

from .tile_njit import VECTOR, WIDTH, first_lanes, load_some, store_some
from .winograd_matrices import Filtering


class Transform(Enum):
    """What is transformed, and by which matrix."""

    FILTER = "G"
    CELLS = "Bᵀ"
    RESULTS = "Aᵀ"
    GRADIENT = "A"
    FILTER_SUMS = "Gᵀ"

    def matrix(self, axis: Filtering | None) -> np.ndarray:
        """That of an axis."""
        if axis is None:
            return np.ones((1, 1))
        if self in (Transform.FILTER, Transform.FILTER_SUMS):
            matrix = axis.of_filter
        else:
            matrix = axis.of_cells if self is Transform.CELLS else axis.of_results
        return matrix.T if self in (Transform.GRADIENT, Transform.FILTER_SUMS) else matrix


_POINTER = types.CPointer(types.float32)


class _Kind(types.Type):
    """A transform as a type: code that takes it is compiled for it."""

    def __init__(self, transform: Transform, down: Filtering | None, across: Filtering | None) -> None:
        super().__init__(f"{transform.name} of {down} by {across}")
        self.down, self.across = transform.matrix(down), transform.matrix(across)
        outside = down is not None
        self.reads_some = outside and transform is Transform.GRADIENT
        self.writes_some = outside and transform in (Transform.RESULTS, Transform.FILTER_SUMS)


@register_model(_Kind)
class _KindModel(models.OpaqueModel):
    pass


def _combination(builder: Any, factors: Sequence[float], values: Sequence[Any]) -> Any:
    """The sum of factor · value, those with positive factors first."""
    terms = sorted((factor < 0, i) for i, factor in enumerate(factors) if factor)
    total = None
    for negative, i in terms:
        value = values[i]
        if abs(factors[i]) != 1:
            value = builder.fmul(value, ir.Constant(VECTOR, [abs(factors[i])] * WIDTH))
        total = value if total is None else (builder.fsub if negative else builder.fadd)(total, value)
    return total


@intrinsic
def _square(typing, kind, source, s, s_row, s_column, target, t, t_row, t_column, height, width, lanes):
    """Transform one square, as in `transform`."""
    place = types.intp

    def emit(context, builder, signature, args):
        _, source, s, s_row, s_column, target, t, t_row, t_column, *extents = args

        def square(array, first, row, column, rows, columns):
            start = builder.gep(array, [first])
            grid = []
            for _ in range(rows):
                cell, start = start, builder.gep(start, [row])
                for _ in range(columns):
                    grid.append(builder.bitcast(cell, VECTOR.as_pointer()))
                    cell = builder.gep(cell, [column])
            return grid

        def masks(rows, columns):
            below = [builder.icmp_signed(">", extents[0], extents[0].type(i)) for i in range(rows)]
            before = [builder.icmp_signed(">", extents[1], extents[1].type(j)) for j in range(columns)]
            nothing = extents[2].type(0)
            counts = [builder.select(builder.and_(i, j), extents[2], nothing) for i in below for j in before]
            return [first_lanes(builder, count) for count in counts]

        (to_rows, rows), (to_columns, columns) = kind.down.shape, kind.across.shape
        cells = square(source, s, s_row, s_column, rows, columns)
        if kind.reads_some:
            values = [load_some(builder, cell, mask) for cell, mask in zip(cells, masks(rows, columns), strict=True)]
        else:
            values = [builder.load(cell, align=4) for cell in cells]
        down = [[_combination(builder, row, values[j::columns]) for j in range(columns)] for row in kind.down]
        results = [_combination(builder, row, line) for line in down for row in kind.across]
        targets = square(target, t, t_row, t_column, to_rows, to_columns)

        def store_all():
            for value, cell in zip(results, targets, strict=True):
                builder.store(value, cell, align=4)

        if not kind.writes_some:
            store_all()
            return context.get_dummy_value()
        sizes = zip(extents, (to_rows, to_columns, WIDTH), strict=True)
        enough = [builder.icmp_signed(">=", extent, extent.type(size)) for extent, size in sizes]
        with builder.if_else(builder.and_(enough[0], builder.and_(*enough[1:]))) as (all_, some):
            with all_:
                store_all()  # what is read again at once, which processors delay behind a masked store
            with some:
                for value, cell, mask in zip(results, targets, masks(to_rows, to_columns), strict=True):
                    store_some(builder, value, cell, mask)
        return context.get_dummy_value()

    return types.void(kind, source, *[place] * 3, target, *[place] * 6), emit


@njit(nogil=True, cache=True, error_model="numpy", no_cpython_wrapper=True)
def _squares(kind, source, s_row, s_column, s_next, target, t_row, t_column, t_next, count, height, width, lanes):
    for i in range(count):
        for first in range(0, lanes, WIDTH):
            _square(
                kind, source, i * s_next + first, s_row, s_column, target, i * t_next + first, t_row, t_column, height,
                width, min(WIDTH, lanes - first),
            )  # fmt: skip


@cache
def address(transform: Transform, down: Filtering | None = None, across: Filtering | None = None) -> int:
    """Where the code is that transforms columns, rows, or both."""
    place = types.intp
    kinds = _Kind(transform, down, across), _POINTER, *[place] * 3, _POINTER, *[place] * 7
    return address_of(_squares, kinds)


@intrinsic
def transform(
    typing, address, source, s, s_row, s_column, s_next, target, t, t_row, t_column, t_next, count, height, width, lanes
):
    """Transform `count` squares, columns or rows of vectors, of which the first is at
    source[s + row · s_row + column · s_column], each with so many channels or filters.

    Columns or squares of a gradient have only `height` rows, `width` columns and these lanes in memory,
    and the rest is 0; those of results and sums of filters are written no further. The others read and
    write whole vectors of the whole square.
    """
    place = types.intp

    def emit(context, builder, signature, args):
        address, source, s, s_row, s_column, s_next, target, t, *others = args

        def start(kind, array, index):
            return builder.gep(context.make_array(kind)(context, builder, array).data, [index])

        opaque, floats = ir.IntType(8).as_pointer(), ir.FloatType().as_pointer()
        function = ir.FunctionType(ir.VoidType(), [opaque, floats, *[s.type] * 3, floats, *[s.type] * 7])
        first, to = start(signature.args[1], source, s), start(signature.args[6], target, t)
        values = ir.Constant(opaque, None), first, s_row, s_column, s_next, to, *others
        builder.call(builder.inttoptr(address, function.as_pointer()), values)
        return context.get_dummy_value()

    return types.void(place, source, *[place] * 4, target, *[place] * 8), emit
