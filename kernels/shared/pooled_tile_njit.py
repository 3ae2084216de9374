"""The largest of four pixels and which it was, a vector of filters at a time, and tiles of products (`tile_njit`) that
are pooled so in registers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gpucnn.devices.njit import njit

from .tile_njit import (
    LANE,
    ROWS,
    SIZE,
    VECTOR,
    WIDTH,
    Tile,
    by_names,
    first_lanes,
    in_every_lane,
    store_some,
    vectors_at,
)

WINDOW = 4
"""Pixels of which one is the largest."""

_NUMBERS, _PLACES = ir.VectorType(LANE, WIDTH), ir.VectorType(ir.IntType(8), WIDTH)

_NAMES = (
    *("rows", "vectors", "lanes", "relu", "source", "origin", "offsets", "i", "steps", "matrix", "j", "width"),
    *("y", "index", "o", "filters"),
)
"""The parameters of `_tile`."""


@njit(forceinline=True)
def pooled_products(large, lanes, relu, source, origin, offsets, i, steps, matrix, j, width, y, index, o, filters):
    """Each `WINDOW` rows of the tile that `products` computes are pooled:

        y[o + window · filters + f]      the largest, a NaN before all numbers
        index[o + window · filters + f]  which row of the window it was, 0 … 3

    With relu, they are 0 and 4 where the largest is not positive. y is float32, index uint8.
    """
    if large and lanes > WIDTH:
        _tile(ROWS, 2, lanes, relu, source, origin, offsets, i, steps, matrix, j, width, y, index, o, filters)
    elif large:
        _tile(ROWS, 1, lanes, relu, source, origin, offsets, i, steps, matrix, j, width, y, index, o, filters)
    elif lanes > WIDTH:
        _tile(WINDOW, 2, lanes, relu, source, origin, offsets, i, steps, matrix, j, width, y, index, o, filters)
    else:
        _tile(WINDOW, 1, lanes, relu, source, origin, offsets, i, steps, matrix, j, width, y, index, o, filters)


@intrinsic(prefer_literal=True)
def _tile(
    typing, rows, vectors, lanes, relu, source, origin, offsets, i, steps, matrix, j, width, y, index, o, filters
):  # fmt: skip
    """`pooled_products` for a number of rows and vectors; these two are constants."""
    place = types.intp
    return types.void(
        *(rows, vectors, place, types.boolean, source, place, offsets, place, steps, matrix, place, place),
        *(y, index, place, place),
    ), by_names(_NAMES, _emit)


def _emit(context: Any, builder: Any, kinds: dict[str, Any], values: dict[str, Any]) -> None:
    tile = Tile(context, builder, kinds, values)
    rows = tile.sums([tile.next_line()] * tile.rows, SIZE(0), tile.length("steps"))
    largest, winners, y, index = [], [], [], []
    for window in range(tile.rows // WINDOW):
        four = rows[WINDOW * window : WINDOW * (window + 1)]
        pooled = [_largest(builder, column, values["relu"]) for column in zip(*four, strict=True)]
        largest.append([value for value, _ in pooled])
        winners.append([place for _, place in pooled])
        at = builder.add(values["o"], builder.mul(values["filters"], SIZE(window)))
        y.append(vectors_at(builder, builder.gep(tile.data("y"), [at]), tile.vectors))
        index.append(vectors_at(builder, builder.gep(tile.data("index"), [at]), tile.vectors, _PLACES))
    tile.store(largest, y)
    tile.store(winners, index, 1)


@intrinsic
def pool_four(typing, lanes, relu, source, i, down, across, y, index, o):
    """y[o + f] and index[o + f] as of `pooled_products`, for f < lanes ≤ `WIDTH`, of four pixels in `source`: from i
    on, `across` and `down` behind that, and both."""
    place = types.intp

    def emit(context, builder, signature, args):
        data = {a: context.make_array(signature.args[a])(context, builder, args[a]).data for a in (2, 6, 7)}
        lanes, relu, _, i, down, across, _, _, o = args
        places = [i, builder.add(i, across), builder.add(i, down), builder.add(builder.add(i, down), across)]
        cells = [vectors_at(builder, builder.gep(data[2], [at]), 1)[0] for at in places]
        value, winner = _largest(builder, [builder.load(cell, align=4) for cell in cells], relu)
        mask = first_lanes(builder, lanes)
        store_some(builder, value, vectors_at(builder, builder.gep(data[6], [o]), 1)[0], mask)
        store_some(builder, winner, vectors_at(builder, builder.gep(data[7], [o]), 1, _PLACES)[0], mask, 1)
        return context.get_dummy_value()

    return types.void(place, types.boolean, source, place, place, place, y, index, place), emit


def _largest(builder: Any, four: Any, relu: Any) -> tuple[Any, Any]:
    """(the largest of four vectors in each lane, which it was); a NaN wins for good."""
    best, place = four[0], ir.Constant(_NUMBERS, [0] * WIDTH)
    for other, value in enumerate(four[1:], 1):
        is_nan = builder.fcmp_unordered("uno", value, value)
        better = builder.or_(builder.fcmp_ordered(">", value, best), is_nan)
        best = builder.select(better, value, best)
        place = builder.select(better, ir.Constant(_NUMBERS, [other] * WIDTH), place)
    zero, closed = ir.Constant(VECTOR, [0.0] * WIDTH), ir.Constant(_NUMBERS, [WINDOW] * WIDTH)
    dead = builder.and_(in_every_lane(builder, relu), builder.fcmp_ordered("<=", best, zero))
    best, place = builder.select(dead, zero, best), builder.select(dead, closed, place)
    return best, builder.trunc(place, _PLACES)
