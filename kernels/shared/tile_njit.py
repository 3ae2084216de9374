"""The inner loop of the convolutions on the CPU: a tile of sums that stays in registers.

    sums[r, f] = Σ over steps s of source[offsets[r] + steps[s]] · matrix[s, f]

Each step loads one or two vectors of the matrix and meets them with one value of the source for
each row of the tile. With eight rows that is sixteen multiply-adds for ten loads, which keeps both
multipliers of a core busy from the first-level cache: a loop of 27 steps reaches 98 % of the peak.

`WIDTH`, `ROWS` and `FILTERS` fit the registers of this machine: 32 of 512 bits, or 16 of 256.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from gpucnn.devices.njit import njit


def _width() -> int:
    """Floats in a register of the processor that Numba compiles for."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return 16 if "+avx512f" in features.split(",") else 8


WIDTH = _width()
"""Floats in a vector: a register of 512 or 256 bits, or two of 128."""

ROWS = WIDTH // 2
"""Rows of a large tile."""

HALF = ROWS // 2
"""Rows of a small tile."""

FILTERS = 2 * WIDTH
"""Columns of a wide tile; a narrow one has `WIDTH`."""

SIZE, LANE = ir.IntType(64), ir.IntType(32)
VECTOR = ir.VectorType(ir.FloatType(), WIDTH)


@njit()
def products(large, wide, source, origin, offsets, i, steps, first, last, matrix, j, width, sums, to, pitch):
    """sums[to + r · pitch + f] = Σ for s = first … last - 1 of

        source[origin + offsets[i + r] + steps[s]] · matrix[j + (s - first) · width + f]

    for `ROWS` r (`HALF` unless large) and `FILTERS` f (`WIDTH` unless wide). All arrays are
    one-dimensional and contiguous; offsets and steps are int64, the others float32. Indices are not
    checked.
    """
    if large and wide:
        _tile(ROWS, 2, 0, source, origin, offsets, i, steps, first, last, matrix, j, width, sums, to, pitch)
    elif large:
        _tile(ROWS, 1, 0, source, origin, offsets, i, steps, first, last, matrix, j, width, sums, to, pitch)
    elif wide:
        _tile(HALF, 2, 0, source, origin, offsets, i, steps, first, last, matrix, j, width, sums, to, pitch)
    else:
        _tile(HALF, 1, 0, source, origin, offsets, i, steps, first, last, matrix, j, width, sums, to, pitch)


@njit()
def add_products(large, wide, source, origin, offsets, i, steps, first, last, matrix, j, width, sums, to, pitch):
    """The same products added to the sums that are there."""
    if large and wide:
        _tile(ROWS, 2, 1, source, origin, offsets, i, steps, first, last, matrix, j, width, sums, to, pitch)
    elif large:
        _tile(ROWS, 1, 1, source, origin, offsets, i, steps, first, last, matrix, j, width, sums, to, pitch)
    elif wide:
        _tile(HALF, 2, 1, source, origin, offsets, i, steps, first, last, matrix, j, width, sums, to, pitch)
    else:
        _tile(HALF, 1, 1, source, origin, offsets, i, steps, first, last, matrix, j, width, sums, to, pitch)


_NAMES = (
    *("rows", "vectors", "add", "source", "origin", "offsets", "i", "steps", "first", "last"),
    *("matrix", "j", "width", "sums", "to", "pitch"),
)
"""The parameters of `_tile`."""


@intrinsic(prefer_literal=True)
def _tile(
    typing, rows, vectors, add, source, origin, offsets, i, steps, first, last, matrix, j, width, sums, to, pitch
):
    """`products`, or `add_products`, for a number of rows and vectors; these three are constants."""
    place = types.intp

    def emit(context, builder, signature, args):
        kinds = dict(zip(_NAMES, signature.args, strict=True))
        _emit(context, builder, kinds, dict(zip(_NAMES, args, strict=True)))
        return context.get_dummy_value()

    return types.void(
        rows, vectors, add, source, place, offsets, place, steps, place, place, matrix, place, place, sums, place, place
    ), emit


def _emit(context: Any, builder: Any, kinds: dict[str, Any], values: dict[str, Any]) -> None:
    def data(array: str) -> Any:
        return context.make_array(kinds[array])(context, builder, values[array]).data

    rows, vectors = kinds["rows"].literal_value, kinds["vectors"].literal_value
    fma = multiply_add(builder)
    source, offsets = builder.gep(data("source"), [values["origin"]]), builder.gep(data("offsets"), [values["i"]])
    cells = [builder.gep(source, [builder.load(builder.gep(offsets, [SIZE(r)]))]) for r in range(rows)]
    places, line = [], builder.gep(data("sums"), [values["to"]])
    for _ in range(rows):
        places += _vectors(builder, line, vectors)
        line = builder.gep(line, [values["pitch"]])
    nothing = ir.Constant(VECTOR, [0.0] * WIDTH)
    add = kinds["add"].literal_value
    sums = [cgutils.alloca_once_value(builder, builder.load(p, align=4) if add else nothing) for p in places]
    steps = data("steps")
    matrix = cgutils.alloca_once_value(builder, builder.gep(data("matrix"), [values["j"]]))
    with cgutils.for_range_slice(builder, values["first"], values["last"], SIZE(1), inc=True) as (s, _):
        step, here = builder.load(builder.gep(steps, [s])), builder.load(matrix)
        builder.store(builder.gep(here, [values["width"]]), matrix)
        weights = [builder.load(p, align=4) for p in _vectors(builder, here, vectors)]
        for r, cell in enumerate(cells):
            x = _in_every_lane(builder, builder.load(builder.gep(cell, [step])))
            for total, weight in zip(sums[r * vectors :], weights, strict=False):
                builder.store(builder.call(fma, [x, weight, builder.load(total)]), total)
    for total, p in zip(sums, places, strict=True):
        builder.store(builder.load(total), p, align=4)


def multiply_add(builder: Any) -> Any:
    """LLVM's a · b + c of three vectors, rounded once where the processor can."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{WIDTH}f32")


def _vectors(builder: Any, address: Any, count: int) -> list[Any]:
    """The addresses of so many vectors that follow each other."""
    first = builder.bitcast(address, VECTOR.as_pointer())
    return [builder.gep(first, [SIZE(v)]) for v in range(count)]


def _in_every_lane(builder: Any, value: Any) -> Any:
    undefined = ir.Constant(VECTOR, ir.Undefined)
    one_lane = builder.insert_element(undefined, value, LANE(0))
    return builder.shuffle_vector(one_lane, undefined, ir.Constant(ir.VectorType(LANE, WIDTH), [0] * WIDTH))
