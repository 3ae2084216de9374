"""Vectors of eight floats for njit kernels, and tiles of vectors as wide as registers are: what a
register file needs and Numba's types lack.

LLVM maps a vector to the registers at hand: one with AVX, two with NEON or SSE. A kernel that names
its accumulators (`a0 = fma(s, w0, a0)`) therefore keeps them in registers, which loops over arrays
never guarantee. Arrays are float32 (uint8 for `store_bytes`), one-dimensional and contiguous,
or pointers; indices are not checked and must not be negative.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 8
"""Floats in a vector."""


def _has_wide_registers() -> bool:
    """Whether code is compiled for registers of sixteen floats (AVX-512)."""
    chosen = config.CPU_FEATURES  # type: ignore[attr-defined]
    if chosen is not None:
        return "+avx512f" in chosen.split(",")
    return bool(binding.get_host_cpu_features().get("avx512f"))


COLUMNS = 2 * LANES
"""Columns of a tile: two vectors of eight, or one of sixteen where a register holds so many."""

ROWS = 8 if _has_wide_registers() else 4
"""Rows of a tile, such that it fills eight registers: as many sums are under way as keep two
multipliers busy."""

PAIRS = ROWS == 8
"""Whether there are registers for two tiles side by side, which share the values of their rows."""

_INT = ir.IntType(32)
_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INTS = ir.VectorType(_INT, LANES)
_BOOLS = ir.VectorType(ir.IntType(1), LANES)
_BYTES = ir.VectorType(ir.IntType(8), LANES)


class Vector(types.Type):
    """Numba's view of a vector: of floats, or of the truth values that a comparison yields."""

    def __init__(self, name: str, llvm: ir.Type) -> None:
        super().__init__(name)
        self.llvm = llvm


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, vector.llvm)


_floats = Vector(f"float32x{LANES}", _FLOATS)
_bools = Vector(f"boolx{LANES}", _BOOLS)

WIDE = ROWS * COLUMNS // 8
"""Floats in a register."""

_WIDE_FLOATS = ir.VectorType(ir.FloatType(), WIDE)
_wide = Vector(f"float32x{WIDE}", _WIDE_FLOATS)
_tile = types.UniTuple(_wide, 8)
_two_tiles = types.UniTuple(_wide, 16)
_eight = types.UniTuple(_floats, 8)
_places = types.UniTuple(types.intp, ROWS)


def _address(context: Any, builder: Any, kind: Any, array: Any, index: Any, target: ir.Type) -> Any:
    """The address of an element of an array, or behind a pointer."""
    first = array if isinstance(kind, types.CPointer) else context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(first, [index]), target.as_pointer())


def _in_every_lane(builder: Any, value: Any, lanes: int = LANES) -> Any:
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    one_lane = builder.insert_element(undefined, value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(one_lane, undefined, ir.Constant(ir.VectorType(_INT, lanes), [0] * lanes))


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    ternary = ir.FunctionType(a.type, [a.type] * 3)
    name = f"llvm.fmuladd.v{a.type.count}f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, ternary, name), [a, b, c])


@intrinsic
def load(typing, array, index):
    """array[index : index + 8]."""

    def emit(context, builder, signature, args):
        return builder.load(_address(context, builder, signature.args[0], *args, _FLOATS), align=4)

    return _floats(array, types.intp), emit


@intrinsic
def store(typing, array, index, vector):
    """array[index : index + 8] = vector."""

    def emit(context, builder, signature, args):
        builder.store(args[2], _address(context, builder, signature.args[0], *args[:2], _FLOATS), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, _floats), emit


def _masked(builder: Any, name: str, count: Any, lanes: int) -> tuple[Any, Any]:
    """A masked load or store of LLVM, and the mask of the first `count` lanes."""
    floats, bools = (ir.VectorType(element, lanes) for element in (ir.FloatType(), ir.IntType(1)))
    numbers = ir.Constant(ir.VectorType(_INT, lanes), list(range(lanes)))
    mask = builder.icmp_signed("<", numbers, _in_every_lane(builder, builder.trunc(count, _INT), lanes))
    if name == "load":
        function = ir.FunctionType(floats, [floats.as_pointer(), _INT, bools, floats])
    else:
        function = ir.FunctionType(ir.VoidType(), [floats, floats.as_pointer(), _INT, bools])
    symbol = f"llvm.masked.{name}.v{lanes}f32.p0v{lanes}f32"
    return cgutils.get_or_insert_function(builder.module, function, symbol), mask


def _load_some(kind: Vector) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function, mask = _masked(builder, "load", args[2], kind.llvm.count)
        address = _address(context, builder, signature.args[0], *args[:2], kind.llvm)
        zeros = ir.Constant(kind.llvm, [0.0] * kind.llvm.count)
        return builder.call(function, [address, ir.Constant(_INT, 4), mask, zeros])

    return emit


def _store_some(kind: Vector) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function, mask = _masked(builder, "store", args[2], kind.llvm.count)
        address = _address(context, builder, signature.args[0], *args[:2], kind.llvm)
        builder.call(function, [args[3], address, ir.Constant(_INT, 4), mask])
        return context.get_dummy_value()

    return emit


@intrinsic
def load_some(typing, array, index, count):
    """array[index : index + count] for count ≤ 8, and zeros in the other lanes."""
    return _floats(array, types.intp, types.intp), _load_some(_floats)


@intrinsic
def store_some(typing, array, index, count, vector):
    """array[index : index + count] = the first lanes of the vector, for count ≤ 8."""
    return types.void(array, types.intp, types.intp, _floats), _store_some(_floats)


@intrinsic
def load_wide(typing, array, index, count):
    """The same for a vector that fills a register, of `WIDE` floats."""
    return _wide(array, types.intp, types.intp), _load_some(_wide)


@intrinsic
def store_wide(typing, array, index, count, vector):
    """The same way back."""
    return types.void(array, types.intp, types.intp, _wide), _store_some(_wide)


@intrinsic
def load_eight(typing, array, index):
    """Eight vectors that follow each other from array[index] on, as a tuple."""

    def emit(context, builder, signature, args):
        first = _address(context, builder, signature.args[0], *args, _FLOATS)
        places = (builder.gep(first, [ir.Constant(_INT, i)]) for i in range(8))
        return context.make_tuple(builder, signature.return_type, [builder.load(place, align=4) for place in places])

    return _eight(array, types.intp), emit


@intrinsic
def store_eight(typing, array, index, vectors):
    """The same way back: a tuple of eight vectors, one after the other."""

    def emit(context, builder, signature, args):
        first = _address(context, builder, signature.args[0], *args[:2], _FLOATS)
        for i, vector in enumerate(cgutils.unpack_tuple(builder, args[2])):
            builder.store(vector, builder.gep(first, [ir.Constant(_INT, i)]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, _eight), emit


def _empty(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    zeros = [ir.Constant(_WIDE_FLOATS, [0.0] * WIDE)] * signature.return_type.count
    return context.make_tuple(builder, signature.return_type, zeros)


def _load_tiles(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    first = _address(context, builder, signature.args[0], *args, _WIDE_FLOATS)
    places = (builder.gep(first, [ir.Constant(_INT, i)]) for i in range(signature.return_type.count))
    return context.make_tuple(builder, signature.return_type, [builder.load(place, align=4) for place in places])


@intrinsic
def empty_tile(typing):
    """The sums of a tile, all 0."""
    return _tile(), _empty


@intrinsic
def two_empty_tiles(typing):
    """The sums of two tiles, all 0."""
    return _two_tiles(), _empty


@intrinsic
def load_tile(typing, array, index):
    """A tile that lies in an array row by row from array[index] on."""
    return _tile(array, types.intp), _load_tiles


@intrinsic
def load_two_tiles(typing, array, index):
    """Two tiles, one after the other."""
    return _two_tiles(array, types.intp), _load_tiles


@intrinsic
def store_tiles(typing, array, index, tiles):
    """The same way back, for one or two."""

    def emit(context, builder, signature, args):
        first = _address(context, builder, signature.args[0], *args[:2], _WIDE_FLOATS)
        for i, vector in enumerate(cgutils.unpack_tuple(builder, args[2])):
            builder.store(vector, builder.gep(first, [ir.Constant(_INT, i)]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, tiles), emit


@intrinsic
def places(typing, table, index):
    """The next numbers of a table, one for each row of a tile."""

    def emit(context, builder, signature, args):
        first = _address(context, builder, signature.args[0], *args, args[1].type)
        numbers = [builder.load(builder.gep(first, [ir.Constant(_INT, i)])) for i in range(ROWS)]
        return context.make_tuple(builder, signature.return_type, numbers)

    return _places(table, types.intp), emit


@intrinsic
def with_products(typing, tiles, left, rows, shift, right, index, distance):
    """A tile with left[row + shift] · right[index : index + COLUMNS] added to each of its rows: eight
    multiply-adds in registers. Of two tiles, the second takes its columns `distance` further on."""

    def emit(context, builder, signature, args):
        tiles, left, rows, shift, right, index, distance = args
        kinds = signature.args
        vectors = COLUMNS // WIDE
        columns = []
        for tile in range(kinds[0].count // 8):
            place = builder.add(index, distance) if tile else index
            first = _address(context, builder, kinds[4], right, place, _WIDE_FLOATS)
            columns.append([builder.load(builder.gep(first, [ir.Constant(_INT, i)]), align=4) for i in range(vectors)])
        sums = cgutils.unpack_tuple(builder, tiles)
        results = list(sums)
        for i, row in enumerate(cgutils.unpack_tuple(builder, rows)):
            place = _address(context, builder, kinds[1], left, row, ir.FloatType())  # the same in a whole loop
            value = _in_every_lane(builder, builder.load(builder.gep(place, [shift])), WIDE)
            for tile, parts in enumerate(columns):
                for j, column in enumerate(parts):
                    number = 8 * tile + i * vectors + j
                    results[number] = _fma(builder, value, column, sums[number])
        return context.make_tuple(builder, signature.return_type, results)

    return tiles(tiles, left, rows, types.intp, right, types.intp, types.intp), emit


@intrinsic
def store_bytes(typing, array, index, vector):
    """The same for whole numbers of 0 … 127 into an array of uint8."""

    def emit(context, builder, signature, args):
        whole = builder.trunc(builder.fptosi(args[2], _INTS), _BYTES)
        builder.store(whole, _address(context, builder, signature.args[0], *args[:2], _BYTES), align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, _floats), emit


@intrinsic
def at(typing, array, index):
    """array[index] of an array of any dtype, without Numba's care for negative indices."""

    def emit(context, builder, signature, args):
        element = context.get_value_type(array.dtype)
        return builder.load(_address(context, builder, signature.args[0], *args, element))

    return array.dtype(array, types.intp), emit


@intrinsic
def put(typing, array, index, value):
    """array[index] = value, likewise."""

    def emit(context, builder, signature, args):
        element = context.get_value_type(array.dtype)
        builder.store(args[2], _address(context, builder, signature.args[0], *args[:2], element))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), emit


@intrinsic
def copy(typing, target, to, source, start, count):
    """target[to : to + count] = source[start : start + count] of two arrays of one dtype that do
    not overlap."""

    def emit(context, builder, signature, args):
        element = context.get_value_type(target.dtype)
        size = context.get_abi_sizeof(element)
        there = _address(context, builder, signature.args[0], *args[:2], element)
        here = _address(context, builder, signature.args[2], *args[2:4], element)
        cgutils.raw_memcpy(builder, there, here, args[4], size)
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp, types.intp), emit


@intrinsic
def spread(typing, array, index):
    """array[index] in every lane."""

    def emit(context, builder, signature, args):
        return _in_every_lane(
            builder, builder.load(_address(context, builder, signature.args[0], *args, ir.FloatType()))
        )

    return _floats(array, types.intp), emit


@intrinsic
def splat(typing, value):
    """One float in every lane."""

    def emit(context, builder, signature, args):
        return _in_every_lane(builder, args[0])

    return _floats(types.float32), emit


@intrinsic
def lane(typing, vector, index):
    """One float of a vector."""

    def emit(context, builder, signature, args):
        return builder.extract_element(*args)

    return types.float32(_floats, types.intp), emit


@intrinsic
def fma(typing, a, b, c):
    """a · b + c, rounded once where the processor has an instruction for it."""

    def emit(context, builder, signature, args):
        return _fma(builder, *args)

    return _floats(_floats, _floats, _floats), emit


@intrinsic
def multiply(typing, a, b):
    """a · b."""

    def emit(context, builder, signature, args):
        return builder.fmul(*args)

    return _floats(_floats, _floats), emit


@intrinsic
def add(typing, a, b):
    """a + b."""

    def emit(context, builder, signature, args):
        return builder.fadd(*args)

    return _floats(_floats, _floats), emit


@intrinsic
def beats(typing, a, b):
    """Where a > b or a is NaN: the lanes in which a maximum moves on to a, so that a NaN wins for
    good."""

    def emit(context, builder, signature, args):
        a, b = args
        return builder.or_(builder.fcmp_ordered(">", a, b), builder.fcmp_unordered("uno", a, a))

    return _bools(_floats, _floats), emit


@intrinsic
def not_positive(typing, a):
    """Where a ≤ 0; not where a is NaN."""

    def emit(context, builder, signature, args):
        return builder.fcmp_ordered("<=", args[0], ir.Constant(_FLOATS, [0.0] * LANES))

    return _bools(_floats), emit


@intrinsic
def select(typing, condition, a, b):
    """a where the condition holds, else b."""

    def emit(context, builder, signature, args):
        return builder.select(*args)

    return _floats(_bools, _floats, _floats), emit
