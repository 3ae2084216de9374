"""Vectors of eight floats for njit kernels, and of as many as a register holds: what a register file
needs and Numba's types lack.

LLVM maps a vector to the registers at hand: one with AVX, two with NEON or SSE. A kernel that names
its accumulators (`a0 = fma(s, w0, a0)`) therefore keeps them in registers, which loops over arrays
never guarantee. Arrays are float32 (uint8 for `load_wide_bytes` and `store_bytes`), one-dimensional and contiguous,
or pointers; indices are not checked and must not be negative.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from .tile_njit import HAS_512_BITS, VECTOR, WIDTH, in_every_lane

LANES = 8
"""Floats in a vector."""


_INT = ir.IntType(32)
_FLOATS = ir.VectorType(ir.FloatType(), LANES)


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


def _truths(vector: Vector) -> Vector:
    """What a comparison of such vectors yields."""
    lanes = vector.llvm.count
    return Vector(f"boolx{lanes}", ir.VectorType(ir.IntType(1), lanes))


_wide = Vector(f"float32x{WIDTH}", VECTOR)


def _address(context: Any, builder: Any, kind: Any, array: Any, index: Any, target: ir.Type) -> Any:
    """The address of an element of an array, or behind a pointer."""
    first = array if isinstance(kind, types.CPointer) else context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(first, [index]), target.as_pointer())


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
def loaded(typing, vector):
    """The vector, loaded whether a comparison chooses it or not. LLVM makes one load of both with AVX-512, which
    waits for what is compared: where that comes from memory, too, one miss of the caches follows the other."""

    def emit(context, builder, signature, args):
        kind = args[0].type
        return builder.asm(ir.FunctionType(kind, [kind]), "", "=v,0", args, False) if HAS_512_BITS else args[0]

    return vector(vector), emit


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
    mask = builder.icmp_signed("<", numbers, in_every_lane(builder, builder.trunc(count, _INT), lanes))
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
    """The same for a vector that fills a register, of `WIDTH` floats."""
    return _wide(array, types.intp, types.intp), _load_some(_wide)


@intrinsic
def store_wide(typing, array, index, count, vector):
    """The same way back."""
    return types.void(array, types.intp, types.intp, _wide), _store_some(_wide)


@intrinsic
def store_bytes(typing, array, index, vector):
    """Whole numbers of 0 … 127, a vector of any length, into an array of uint8."""
    lanes = vector.llvm.count

    def emit(context, builder, signature, args):
        kind = ir.VectorType(ir.IntType(8), lanes)
        whole = builder.trunc(builder.fptosi(args[2], ir.VectorType(_INT, lanes)), kind)
        builder.store(whole, _address(context, builder, signature.args[0], *args[:2], kind), align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), emit


@intrinsic
def load_wide_bytes(typing, array, index):
    """array[index : index + WIDTH] of an array of uint8, as floats."""

    def emit(context, builder, signature, args):
        kind = ir.VectorType(ir.IntType(8), WIDTH)
        whole = builder.load(_address(context, builder, signature.args[0], *args, kind), align=1)
        return builder.uitofp(whole, VECTOR)

    return _wide(array, types.intp), emit


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
def clear(typing, array, start, count):
    """array[start : start + count] = 0."""

    def emit(context, builder, signature, args):
        element = context.get_value_type(array.dtype)
        there = _address(context, builder, signature.args[0], *args[:2], element)
        size = builder.mul(args[2], args[2].type(context.get_abi_sizeof(element)))
        cgutils.memset(builder, there, size, 0)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), emit


@intrinsic
def turn(typing, target, to, width, source, start, pitch):
    """target[to + width · i + k] = source[start + pitch · k + i] for i, k < `WIDTH`: a square of numbers is turned
    in registers, where its halves, quarters and so on change places."""
    place = types.intp

    def emit(context, builder, signature, args):
        def line(array: int, first: int, each: int, number: int) -> Any:
            index = builder.add(args[first], builder.mul(args[each], ir.Constant(args[each].type, number)))
            return _address(context, builder, signature.args[array], args[array], index, VECTOR)

        lines = [builder.load(line(3, 4, 5, k), align=4) for k in range(WIDTH)]
        half = WIDTH // 2
        while half:
            low = [lane if not lane & half else WIDTH + lane - half for lane in range(WIDTH)]
            high = [lane + half if not lane & half else WIDTH + lane for lane in range(WIDTH)]
            order = [ir.Constant(ir.VectorType(_INT, WIDTH), lanes) for lanes in (low, high)]
            for k in range(WIDTH):
                if not k & half:
                    pair = lines[k], lines[k + half]
                    lines[k], lines[k + half] = (builder.shuffle_vector(*pair, lanes) for lanes in order)
            half //= 2
        for i, vector in enumerate(lines):
            builder.store(vector, line(0, 1, 2, i), align=4)
        return context.get_dummy_value()

    return types.void(target, place, place, source, place, place), emit


@intrinsic
def spread(typing, array, index):
    """array[index] in every lane."""

    def emit(context, builder, signature, args):
        value = builder.load(_address(context, builder, signature.args[0], *args, ir.FloatType()))
        return in_every_lane(builder, value, LANES)

    return _floats(array, types.intp), emit


@intrinsic
def splat(typing, value):
    """One float in every lane."""

    def emit(context, builder, signature, args):
        return in_every_lane(builder, args[0], LANES)

    return _floats(types.float32), emit


@intrinsic
def lane(typing, vector, index):
    """One float of a vector."""

    def emit(context, builder, signature, args):
        return builder.extract_element(*args)

    return types.float32(vector, types.intp), emit


@intrinsic
def lanes_of(typing, vector):
    """The number of its floats."""

    def emit(context, builder, signature, args):
        return ir.Constant(context.get_value_type(types.intp), vector.llvm.count)

    return types.intp(vector), emit


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

    return _truths(a)(a, b), emit


@intrinsic
def not_positive(typing, a):
    """Where a ≤ 0; not where a is NaN."""

    def emit(context, builder, signature, args):
        return builder.fcmp_ordered("<=", args[0], ir.Constant(a.llvm, [0.0] * a.llvm.count))

    return _truths(a)(a), emit


@intrinsic
def select(typing, condition, a, b):
    """a where the condition holds, else b."""

    def emit(context, builder, signature, args):
        return builder.select(*args)

    return a(condition, a, b), emit
