"""The transforms of Winograd's F(2×2, 3×3), of a square of vectors at a time: one channel or filter in
each lane. `winograd_njit` says what they are for.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .tile_njit import VECTOR, WIDTH, first_lanes, load_some, store_some

OF_FILTER, OF_CELLS, OF_SUMS, OF_GRADIENT, OF_FILTER_SUMS = range(5)
"""The transforms: G, Bᵀ, Aᵀ, A and Gᵀ, from both sides."""


def _half(b: Any, x: Any) -> Any:
    return b.fmul(x, ir.Constant(VECTOR, [0.5] * WIDTH))


def _of_filter(b: Any, x: Any, y: Any, z: Any) -> list[Any]:
    ends = b.fadd(x, z)
    return [x, _half(b, b.fadd(ends, y)), _half(b, b.fsub(ends, y)), z]


def _of_cells(b: Any, x: Any, y: Any, z: Any, w: Any) -> list[Any]:
    return [b.fsub(x, z), b.fadd(y, z), b.fsub(z, y), b.fsub(y, w)]


def _of_sums(b: Any, x: Any, y: Any, z: Any, w: Any) -> list[Any]:
    return [b.fadd(x, b.fadd(y, z)), b.fsub(b.fsub(y, z), w)]


def _of_gradient(b: Any, x: Any, y: Any) -> list[Any]:
    return [x, b.fadd(x, y), b.fsub(x, y), b.fsub(ir.Constant(VECTOR, [0.0] * WIDTH), y)]


def _of_filter_sums(b: Any, x: Any, y: Any, z: Any, w: Any) -> list[Any]:
    both = _half(b, b.fadd(y, z))
    return [b.fadd(x, both), _half(b, b.fsub(y, z)), b.fadd(both, w)]


_TRANSFORMS = {
    OF_FILTER: (3, _of_filter),
    OF_CELLS: (4, _of_cells),
    OF_SUMS: (4, _of_sums),
    OF_GRADIENT: (2, _of_gradient),
    OF_FILTER_SUMS: (4, _of_filter_sums),
}
"""How many values each takes, and the function."""


@intrinsic(prefer_literal=True)
def transform(typing, which, source, s, s_row, s_column, target, t, t_row, t_column, height, width, lanes):
    """Transform a square of vectors, source[s + row · s_row + column · s_column], to a square in
    target. `which` is a constant. Of a gradient only `height` rows, `width` columns and some lanes
    are read, and the rest is 0; of the results of the last two only those are written."""
    place, (size, function) = types.intp, _TRANSFORMS[which.literal_value]
    reads_some, writes_some = which.literal_value == OF_GRADIENT, which.literal_value in (OF_SUMS, OF_FILTER_SUMS)

    def emit(context, builder, signature, args):
        _, source, s, s_row, s_column, target, t, t_row, t_column, *extents = args

        def square(kind, array, first, row, column, size):
            start = builder.gep(context.make_array(kind)(context, builder, array).data, [first])
            grid = []
            for _ in range(size):
                cell, start = start, builder.gep(start, [row])
                for _ in range(size):
                    grid.append(builder.bitcast(cell, VECTOR.as_pointer()))
                    cell = builder.gep(cell, [column])
            return grid

        def masks(size):
            inside = [[builder.icmp_signed(">", extent, extent.type(i)) for i in range(size)] for extent in extents[:2]]
            nothing = extents[2].type(0)
            some = [
                builder.select(builder.and_(inside[0][i], inside[1][j]), extents[2], nothing)
                for i in range(size)
                for j in range(size)
            ]
            return [first_lanes(builder, count) for count in some]

        cells = square(signature.args[1], source, s, s_row, s_column, size)
        if reads_some:
            values = [load_some(builder, cell, mask) for cell, mask in zip(cells, masks(size), strict=True)]
        else:
            values = [builder.load(cell, align=4) for cell in cells]
        down = [function(builder, *values[column::size]) for column in range(size)]
        results = [function(builder, *row) for row in zip(*down, strict=True)]
        flat = [value for row in results for value in row]
        targets = square(signature.args[5], target, t, t_row, t_column, len(results))
        if writes_some:
            for value, cell, mask in zip(flat, targets, masks(len(results)), strict=True):
                store_some(builder, value, cell, mask)
        else:
            for value, cell in zip(flat, targets, strict=True):
                builder.store(value, cell, align=4)
        return context.get_dummy_value()

    return types.void(which, source, *[place] * 3, target, *[place] * 6), emit
