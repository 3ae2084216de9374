"""The inner loop of the convolutions on the CPU: a tile of sums that stays in registers.

    result[r, f] = Σ over steps s of source[offsets[r] + steps[s]] · matrix[s, f]

Each step loads one or two vectors of the matrix and meets them with one value of the source for
each row of the tile. With eight rows that is sixteen multiply-adds for ten loads, which keeps both
multipliers of a core busy from the first-level cache: a loop of 27 steps reaches 98 % of the peak.

`WIDTH`, `ROWS` and `FILTERS` fit the registers of this machine: 32 of 512 bits, or 16 of 256.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from gpucnn.devices.njit import njit

_, _processor, _features = cpu_target.target_context.codegen().magic_tuple()
"""What Numba compiles for."""

HAS_512_BITS = "+avx512f" in _features.split(",")
"""Whether there are registers of 512 bits, those of AVX-512."""

WIDTH = 16 if HAS_512_BITS else 8
"""Floats in a vector: a register of 512 or 256 bits, or two of 128."""

PERMUTES = HAS_512_BITS or "+avx2" in _features.split(",")
"""Whether each lane can take its value from any lane of a vector."""

IS_ZEN = _processor.startswith("znver")
"""Whether this is an AMD processor of a Zen generation."""

ROWS = WIDTH // 2
"""Rows of a large tile."""

HALF = ROWS // 2
"""Rows of a small tile."""

FILTERS = 2 * WIDTH
"""Columns of a wide tile; a narrow one has `WIDTH`."""

LINE = 16
"""Floats in a line of the caches."""

SIZE, LANE = ir.IntType(64), ir.IntType(32)
VECTOR = ir.VectorType(ir.FloatType(), WIDTH)


@njit(forceinline=True)
def products(large, lanes, source, origin, offsets, i, steps, matrix, j, width, limit, result, to, places, p):
    """result[to + places[p + r] + f] = matrix[j + f] + Σ over steps s of

        source[origin + offsets[i + r] + steps[s]] · matrix[j + (1 + s) · width + f]

    for `ROWS` r (`HALF` unless large) and f < lanes ≤ `FILTERS`; 0 where that is at most the limit,
    which NaN turns off. The matrix has whole vectors. All arrays are one-dimensional and contiguous;
    offsets, steps and places are int64, the others float32. Indices are not checked.
    """
    count = steps.shape[0]
    if large and lanes > WIDTH:
        _tile(
            ROWS, 2, 0, lanes, source, origin, offsets, i, steps, 0, count, matrix, j, width, limit, result, to,
            places, p,
        )  # fmt: skip
    elif large:
        _tile(
            ROWS, 1, 0, lanes, source, origin, offsets, i, steps, 0, count, matrix, j, width, limit, result, to,
            places, p,
        )  # fmt: skip
    elif lanes > WIDTH:
        _tile(
            HALF, 2, 0, lanes, source, origin, offsets, i, steps, 0, count, matrix, j, width, limit, result, to,
            places, p,
        )  # fmt: skip
    else:
        _tile(
            HALF, 1, 0, lanes, source, origin, offsets, i, steps, 0, count, matrix, j, width, limit, result, to,
            places, p,
        )  # fmt: skip


@njit(forceinline=True)
def add_products(large, wide, source, origin, offsets, i, steps, first, last, matrix, j, width, result, to, places, p):
    """result[to + places[p + r] + f] += Σ for s = first … last - 1 of

        source[origin + offsets[i + r] + steps[s]] · matrix[j + (s - first) · width + f]

    for f < `FILTERS` (`WIDTH` unless wide); otherwise like `products`.
    """
    off = np.float32(np.nan)
    if large and wide:
        add_large(source, origin, offsets, i, steps, first, last, matrix, j, width, result, to, places, p)
    elif large:
        _tile(
            ROWS, 1, 1, WIDTH, source, origin, offsets, i, steps, first, last, matrix, j, width, off, result, to,
            places, p,
        )  # fmt: skip
    elif wide:
        _tile(
            HALF, 2, 1, FILTERS, source, origin, offsets, i, steps, first, last, matrix, j, width, off, result, to,
            places, p,
        )  # fmt: skip
    else:
        _tile(
            HALF, 1, 1, WIDTH, source, origin, offsets, i, steps, first, last, matrix, j, width, off, result, to,
            places, p,
        )  # fmt: skip


@njit(forceinline=True)
def add_large(source, origin, offsets, i, steps, first, last, matrix, j, width, result, to, places, p):
    """`add_products` for a large and wide tile."""
    _tile(
        ROWS, 2, 1, FILTERS, source, origin, offsets, i, steps, first, last, matrix, j, width, np.float32(np.nan),
        result, to, places, p,
    )  # fmt: skip


_NAMES = (
    *("rows", "vectors", "add", "lanes", "source", "origin", "offsets", "i", "steps", "first", "last"),
    *("matrix", "j", "width", "limit", "result", "to", "places", "p"),
)
"""The parameters of `_tile`."""


@intrinsic(prefer_literal=True)
def _tile(
    typing, rows, vectors, add, lanes, source, origin, offsets, i, steps, first, last, matrix, j, width, limit, result,
    to, places, p
):  # fmt: skip
    """`products`, or `add_products`, for a number of rows and vectors; these three are constants."""
    place = types.intp
    return types.void(
        *(rows, vectors, add, place, source, place, offsets, place, steps, place, place),
        *(matrix, place, place, types.float32, result, place, places, place),
    ), by_names(_NAMES, _emit)


def by_names(names: tuple[str, ...], emit: Callable[..., None]) -> Callable[..., Any]:
    """The code generator of an intrinsic without result: emit(context, builder, types, values), both by the names
    of its parameters."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit(context, builder, dict(zip(names, signature.args, strict=True)), dict(zip(names, args, strict=True)))
        return context.get_dummy_value()

    return generate


class Tile:
    """What is emitted for a tile of constant size, by the names of an intrinsic's parameters.

    rows, vectors  the size of the tile
    """

    def __init__(self, context: Any, builder: Any, kinds: dict[str, Any], values: dict[str, Any]) -> None:
        self.context, self.builder, self.kinds, self.values = context, builder, kinds, values
        self.rows, self.vectors = (kinds[name].literal_value for name in ("rows", "vectors"))
        self.matrix = cgutils.alloca_once_value(builder, builder.gep(self.data("matrix"), [values["j"]]))

    def data(self, array: str) -> Any:
        """The address of the first element."""
        return self.context.make_array(self.kinds[array])(self.context, self.builder, self.values[array]).data

    def length(self, array: str) -> Any:
        """The number of elements."""
        return self.context.make_array(self.kinds[array])(self.context, self.builder, self.values[array]).nitems

    def offsets(self, table: str, index: str) -> list[Any]:
        """Those of the rows."""
        builder = self.builder
        first = builder.gep(self.data(table), [self.values[index]])
        return [builder.load(builder.gep(first, [SIZE(r)])) for r in range(self.rows)]

    def next_line(self) -> list[Any]:
        """The vectors of the next row of the matrix."""
        here = self.builder.load(self.matrix)
        self.builder.store(self.builder.gep(here, [self.values["width"]]), self.matrix)
        return [self.builder.load(v, align=4) for v in vectors_at(self.builder, here, self.vectors)]

    def sums(self, starts: list[list[Any]], first: Any, last: Any) -> list[list[Any]]:
        """The rows of vectors, from these on, after the steps."""
        builder, fma = self.builder, multiply_add(self.builder)
        source, steps = builder.gep(self.data("source"), [self.values["origin"]]), self.data("steps")
        cells = [builder.gep(source, [o]) for o in self.offsets("offsets", "i")]
        sums = [[cgutils.alloca_once_value(builder, start) for start in line] for line in starts]
        with rolled(builder, first, last) as s:
            step, weights = builder.load(builder.gep(steps, [s])), self.next_line()
            for cell, line in zip(cells, sums, strict=True):
                x = in_every_lane(builder, builder.load(builder.gep(cell, [step])))
                for total, weight in zip(line, weights, strict=True):
                    builder.store(builder.call(fma, [x, weight, builder.load(total)]), total)
        return [[builder.load(total) for total in line] for line in sums]

    def store(self, lines: list[list[Any]], places: list[list[Any]], align: int = 4) -> None:
        """Write the vectors of each line, but of the last one only the lanes that there are."""
        builder = self.builder
        is_whole = builder.icmp_signed("==", self.values["lanes"], SIZE(self.vectors * WIDTH))
        with builder.if_else(is_whole) as (whole, part):
            with whole:
                for line, where in zip(lines, places, strict=True):
                    for vector, place in zip(line, where, strict=True):
                        builder.store(vector, place, align=align)
            with part:
                last = builder.sub(self.values["lanes"], SIZE((self.vectors - 1) * WIDTH))
                mask = first_lanes(builder, last)
                for line, where in zip(lines, places, strict=True):
                    for vector, place in zip(line[:-1], where[:-1], strict=True):
                        builder.store(vector, place, align=align)
                    store_some(builder, line[-1], where[-1], mask, align)


def _emit(context: Any, builder: Any, kinds: dict[str, Any], values: dict[str, Any]) -> None:
    tile = Tile(context, builder, kinds, values)
    target = builder.gep(tile.data("result"), [values["to"]])
    lines = [vectors_at(builder, builder.gep(target, [o]), tile.vectors) for o in tile.offsets("places", "p")]
    if kinds["add"].literal_value:
        starts = [[builder.load(v, align=4) for v in line] for line in lines]
        tile.store(tile.sums(starts, values["first"], values["last"]), lines)
        return
    results = tile.sums([tile.next_line()] * tile.rows, values["first"], values["last"])
    limit, zero = in_every_lane(builder, values["limit"]), ir.Constant(VECTOR, [0.0] * WIDTH)
    results = [[builder.select(builder.fcmp_ordered("<=", x, limit), zero, x) for x in line] for line in results]
    tile.store(results, lines)


@intrinsic
def prefetch(typing, array, index):
    """Start to load the line of array[index], of float32, into the second-level cache."""

    def emit(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        line = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [line.type, LANE, LANE, LANE])
        start = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(start, [line, LANE(0), LANE(2), LANE(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


@contextmanager
def rolled(builder: Any, first: Any, last: Any) -> Iterator[Any]:
    """A loop from first to last - 1 that LLVM leaves as it is: unrolled, a tile that fills the
    registers would spill."""
    entry, test, body, behind = builder.block, *(builder.append_basic_block(n) for n in ("test", "body", "behind"))
    builder.branch(test)
    with builder.goto_block(test):
        index = builder.phi(SIZE)
        index.add_incoming(first, entry)
        builder.cbranch(builder.icmp_signed("<", index, last), body, behind)
    builder.position_at_end(body)
    yield index
    index.add_incoming(builder.add(index, SIZE(1)), builder.block)
    name = builder.module.add_metadata([ir.MetaDataString(builder.module, "llvm.loop.unroll.disable")])
    loop = builder.module.add_metadata([name])
    loop.operands = (loop, name)
    builder.branch(test).set_metadata("llvm.loop", loop)
    builder.position_at_end(behind)


def multiply_add(builder: Any) -> Any:
    """LLVM's a · b + c of three vectors, rounded once where the processor can."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{WIDTH}f32")


def vectors_at(builder: Any, address: Any, count: int, kind: ir.Type = VECTOR) -> list[Any]:
    """The addresses of so many vectors that follow each other."""
    first = builder.bitcast(address, kind.as_pointer())
    return [builder.gep(first, [SIZE(v)]) for v in range(count)]


def in_every_lane(builder: Any, value: Any, lanes: int = WIDTH) -> Any:
    """A vector of one number."""
    kind = ir.VectorType(value.type, lanes)
    one_lane = builder.insert_element(ir.Constant(kind, ir.Undefined), value, LANE(0))
    return builder.shuffle_vector(one_lane, one_lane, ir.Constant(ir.VectorType(LANE, lanes), [0] * lanes))


def first_lanes(builder: Any, count: Any) -> Any:
    """A mask of the lanes below a count."""
    numbers = ir.Constant(ir.VectorType(count.type, WIDTH), list(range(WIDTH)))
    return builder.icmp_signed("<", numbers, in_every_lane(builder, count))


def load_some(builder: Any, pointer: Any, mask: Any) -> Any:
    """The lanes of a vector in memory for which the mask holds; the others are 0."""
    kind = ir.FunctionType(VECTOR, [pointer.type, LANE, mask.type, VECTOR])
    load = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.load.v{WIDTH}f32.p0")
    return builder.call(load, [pointer, LANE(4), mask, ir.Constant(VECTOR, [0.0] * WIDTH)])


def store_some(builder: Any, vector: Any, pointer: Any, mask: Any, align: int = 4) -> None:
    """Write the lanes for which the mask holds."""
    kind = ir.FunctionType(ir.VoidType(), [vector.type, pointer.type, LANE, mask.type])
    element = "i8" if vector.type.element == ir.IntType(8) else "f32"
    name = f"llvm.masked.store.v{WIDTH}{element}.p0"
    builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [vector, pointer, LANE(align), mask])
