"""Eight vectors at a time for njit kernels, of as many floats each as the type of an argument says: sums that stay in
registers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gpucnn.devices.njit import njit

from .simd_njit import Vector
from .tile_njit import in_every_lane

EIGHT = 8


@njit(forceinline=True)
def eight_of(offsets, i):
    """Eight offsets of an array from the i-th on."""
    return (
        offsets[i], offsets[i + 1], offsets[i + 2], offsets[i + 3], offsets[i + 4], offsets[i + 5], offsets[i + 6],
        offsets[i + 7],
    )  # fmt: skip


def _kind(lanes: Any) -> types.UniTuple:
    vector = ir.VectorType(ir.FloatType(), lanes.count)
    return types.UniTuple(Vector(f"float32x{lanes.count}", vector), EIGHT)


def _places(context: Any, builder: Any, kind: Any, array: Any, index: Any, offsets: Any, vector: ir.Type) -> Iterator:
    """The addresses of eight vectors: one behind the other, or each by its own offset."""
    first = builder.gep(context.make_array(kind)(context, builder, array).data, [index])
    if offsets is None:
        offsets = [ir.Constant(ir.IntType(64), i * vector.count) for i in range(EIGHT)]
    else:
        offsets = cgutils.unpack_tuple(builder, offsets)
    return (builder.bitcast(builder.gep(first, [offset]), vector.as_pointer()) for offset in offsets)


@intrinsic
def load_eight(typing, lanes, array, index, offsets):
    """The vectors that follow each other from array[index] on, or those at array[index + offset] for each of
    eight offsets; a vector has as many floats as `lanes`, a tuple, has elements."""
    result = _kind(lanes)

    def emit(context, builder, signature, args):
        _, array, index, offsets = args
        offsets = None if signature.args[3] is types.none else offsets
        places = _places(context, builder, signature.args[1], array, index, offsets, result.dtype.llvm)
        return context.make_tuple(builder, result, [builder.load(place, align=4) for place in places])

    return result(lanes, array, types.intp, offsets), emit


@intrinsic
def store_eight(typing, array, index, offsets, vectors):
    """The same way back, in the order of the offsets."""

    def emit(context, builder, signature, args):
        array, index, offsets, vectors = args
        offsets = None if signature.args[2] is types.none else offsets
        places = _places(context, builder, signature.args[0], array, index, offsets, signature.args[3].dtype.llvm)
        for place, vector in zip(places, cgutils.unpack_tuple(builder, vectors), strict=True):
            builder.store(vector, place, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, offsets, vectors), emit


@intrinsic
def add_products(typing, vectors, factor, array, index, offsets):
    """vectors + factor · those in memory, as in `load_eight`; rounded once where the processor can."""

    def emit(context, builder, signature, args):
        vectors, factor, array, index, offsets = args
        offsets, vector = None if signature.args[4] is types.none else offsets, signature.args[0].dtype.llvm
        factors = in_every_lane(builder, factor, vector.count)
        ternary, name = ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{vector.count}f32"
        fma = cgutils.get_or_insert_function(builder.module, ternary, name)
        places = _places(context, builder, signature.args[2], array, index, offsets, vector)
        sums = [
            builder.call(fma, [factors, builder.load(place, align=4), total])
            for place, total in zip(places, cgutils.unpack_tuple(builder, vectors), strict=True)
        ]
        return context.make_tuple(builder, signature.return_type, sums)

    return vectors(vectors, types.float32, array, types.intp, offsets), emit
