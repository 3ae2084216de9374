"""The inner loop of convolutions in small groups on the CPU: as in `tile_njit`, a tile of sums stays
in registers, but each row has a vector of the source, which meets that of the matrix lane by lane.

    sums[r, f] = bias[f] + Σ over steps s of source[offsets[r] + steps[s] + f] · matrix[s, f]

A step of a large tile is nine multiply-adds for ten loads.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gpucnn.devices.njit import njit

from .tile_njit import SIZE, VECTOR, WIDTH, by_names, first_lanes, load_some, multiply_add, rolled, store_some

ROWS = 9
"""Rows of a large tile: 3 × 3 taps."""

FEW = 3
"""Rows of a small tile, for what is left."""


@njit(forceinline=True)
def lane_products(large, lanes, source, origin, offsets, i, steps, bias, matrix, j, width, sums, to, places):
    """sums[to + places[i + r] + f] = bias[j + f] + Σ over steps s of

        source[origin + offsets[i + r] + steps[s] + f] · matrix[j + s · width + f]

    for `ROWS` r (`FEW` unless large) and f < lanes ≤ `WIDTH`. All arrays are one-dimensional and
    contiguous; offsets, steps and places are int64, the others float32. Indices are not checked.
    """
    count = steps.shape[0]
    whole = lanes == WIDTH
    if large and whole:
        _tile(
            ROWS, 1, 0, lanes, source, origin, offsets, i, steps, 0, count, bias, matrix, j, width, sums, to,
            places,
        )  # fmt: skip
    elif large:
        _tile(
            ROWS, 0, 0, lanes, source, origin, offsets, i, steps, 0, count, bias, matrix, j, width, sums, to,
            places,
        )  # fmt: skip
    elif whole:
        _tile(
            FEW, 1, 0, lanes, source, origin, offsets, i, steps, 0, count, bias, matrix, j, width, sums, to,
            places,
        )  # fmt: skip
    else:
        _tile(
            FEW, 0, 0, lanes, source, origin, offsets, i, steps, 0, count, bias, matrix, j, width, sums, to,
            places,
        )  # fmt: skip


@njit(forceinline=True)
def add_lane_products(large, lanes, source, origin, offsets, i, steps, first, last, matrix, j, width, sums, to, places):
    """The products of the steps first … last - 1, whose matrix starts at j, added to the sums that are there."""
    whole = lanes == WIDTH
    if large and whole:
        _tile(
            ROWS, 1, 1, lanes, source, origin, offsets, i, steps, first, last, sums, matrix, j, width, sums, to,
            places,
        )  # fmt: skip
    elif large:
        _tile(
            ROWS, 0, 1, lanes, source, origin, offsets, i, steps, first, last, sums, matrix, j, width, sums, to,
            places,
        )  # fmt: skip
    elif whole:
        _tile(
            FEW, 1, 1, lanes, source, origin, offsets, i, steps, first, last, sums, matrix, j, width, sums, to,
            places,
        )  # fmt: skip
    else:
        _tile(
            FEW, 0, 1, lanes, source, origin, offsets, i, steps, first, last, sums, matrix, j, width, sums, to,
            places,
        )  # fmt: skip


_NAMES = (
    *("rows", "whole", "add", "lanes", "source", "origin", "offsets", "i", "steps", "first", "last"),
    *("bias", "matrix", "j", "width", "sums", "to", "places"),
)
"""The parameters of `_tile`."""


@intrinsic(prefer_literal=True)
def _tile(
    typing, rows, whole, add, lanes, source, origin, offsets, i, steps, first, last, bias, matrix, j, width, sums, to,
    places
):  # fmt: skip
    """`lane_products`, or `add_lane_products`, for a number of rows, and with all lanes or with some;
    the first three are constants."""
    place = types.intp
    return types.void(
        *(rows, whole, add, place, source, place, offsets, place, steps, place, place),
        *(bias, matrix, place, place, sums, place, places),
    ), by_names(_NAMES, _emit)


def _emit(context: Any, builder: Any, kinds: dict[str, Any], values: dict[str, Any]) -> None:
    def address(array: str, index: str) -> Any:
        data = context.make_array(kinds[array])(context, builder, values[array]).data
        return builder.gep(data, [values[index]])

    rows, add = kinds["rows"].literal_value, kinds["add"].literal_value
    lanes = Lanes(builder, None if kinds["whole"].literal_value else values["lanes"])
    fma = multiply_add(builder)
    source, offsets = address("source", "origin"), address("offsets", "i")
    result, places = address("sums", "to"), address("places", "i")
    cells = [builder.gep(source, [builder.load(builder.gep(offsets, [SIZE(r)]))]) for r in range(rows)]
    targets = [builder.gep(result, [builder.load(builder.gep(places, [SIZE(r)]))]) for r in range(rows)]
    starts = list(map(lanes.load, targets)) if add else [lanes.load(address("bias", "j"))] * rows
    sums = [cgutils.alloca_once_value(builder, start) for start in starts]
    matrix = cgutils.alloca_once_value(builder, address("matrix", "j"))
    steps = context.make_array(kinds["steps"])(context, builder, values["steps"]).data
    with rolled(builder, values["first"], values["last"]) as s:
        step, here = builder.load(builder.gep(steps, [s])), builder.load(matrix)
        builder.store(builder.gep(here, [values["width"]]), matrix)
        weight = lanes.load(here)
        for cell, total in zip(cells, sums, strict=True):
            x = lanes.load(builder.gep(cell, [step]))
            builder.store(builder.call(fma, [x, weight, builder.load(total)]), total)
    for total, target in zip(sums, targets, strict=True):
        lanes.store(builder.load(total), target)


class Lanes:
    """Loads and stores of a vector, or of its first lanes: the others are 0 and stay as they are."""

    def __init__(self, builder: Any, count: Any) -> None:
        self.builder, self.mask = builder, None if count is None else first_lanes(builder, count)

    def load(self, address: Any) -> Any:
        """The vector at an address of floats."""
        pointer = self.builder.bitcast(address, VECTOR.as_pointer())
        if self.mask is None:
            return self.builder.load(pointer, align=4)
        return load_some(self.builder, pointer, self.mask)

    def store(self, vector: Any, address: Any) -> None:
        """Write the vector to an address of floats."""
        pointer = self.builder.bitcast(address, VECTOR.as_pointer())
        if self.mask is None:
            self.builder.store(vector, pointer, align=4)
        else:
            store_some(self.builder, vector, pointer, self.mask)
