"""Arithmetic on float32 numbers and on vectors of them alike, of any number of lanes.

A function written with these, such as those of `vector_math_njit`, serves one number, a vector of
`simd_njit` in a register of a product's kernel, and a loop that the compiler turns into one over
vectors. Next to a vector, a number stands for one in every lane.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin

from .simd_njit import Vector

MAGIC = 12582912.0
"""1.5 · 2²³: added to a small number, it rounds it to a whole one, which is in the lower bits of
the sum."""

_MAGIC_BITS = 0x4B400000

_OF_512_BITS, _AS_EVER = 16, 4
"""Lanes of a vector that only AVX-512 has, and its number for the usual rounding."""


def _floats(kind: types.Type) -> bool:
    return kind == types.float32 or (isinstance(kind, Vector) and kind.name.startswith("float32"))


def _together(*kinds: types.Type) -> types.Type:
    """What numbers and vectors become side by side: the vector, if there is one."""
    return next((kind for kind in kinds if isinstance(kind, Vector)), types.float32)


def _lanes(kind: types.Type) -> int | None:
    return kind.llvm.count if isinstance(kind, Vector) else None


def _truth(kind: types.Type) -> types.Type:
    """What a comparison of such numbers yields."""
    lanes = _lanes(kind)
    return types.boolean if lanes is None else Vector(f"boolx{lanes}", ir.VectorType(ir.IntType(1), lanes))


def _llvm(element: ir.Type, lanes: int | None) -> ir.Type:
    return element if lanes is None else ir.VectorType(element, lanes)


def _constant(element: ir.Type, lanes: int | None, value: float) -> ir.Constant:
    return ir.Constant(element, value) if lanes is None else ir.Constant(ir.VectorType(element, lanes), [value] * lanes)


def _spread(builder: Any, value: Any, lanes: int | None) -> Any:
    """The value in every lane, unless it is a vector already."""
    if lanes is None or isinstance(value.type, ir.VectorType):
        return value
    kind = ir.VectorType(value.type, lanes)
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))


def _call(builder: Any, name: str, lanes: int | None, args: list[Any]) -> Any:
    """An intrinsic function of LLVM, such as llvm.sqrt."""
    kind = _llvm(ir.FloatType(), lanes)
    suffix = "f32" if lanes is None else f"v{lanes}f32"
    function = ir.FunctionType(kind, [kind] * len(args))
    return builder.call(cgutils.get_or_insert_function(builder.module, function, f"llvm.{name}.{suffix}"), args)


def _call_of_512_bits(builder: Any, name: str, args: list[Any], more: list[Any]) -> Any:
    """An instruction of AVX-512 for all lanes."""
    kind = args[0].type
    values = [*args, ir.Constant(kind, ir.Undefined), ir.Constant(ir.IntType(16), -1), *more]
    function = ir.FunctionType(kind, [value.type for value in values])
    return builder.call(
        cgutils.get_or_insert_function(builder.module, function, f"llvm.x86.avx512.{name}.ps.512"), values
    )


def _declare(function: Callable, emit: Callable[..., Any], compares: bool) -> None:
    """Let an operator take two vectors, or a vector and a number."""

    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and all(map(_floats, args)) and any(isinstance(a, Vector) for a in args):
                kind = _together(*args)
                return signature(_truth(kind) if compares else kind, *args)
            return None

    infer_global(function)(Template)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = _lanes(_together(*sig.args))
        return emit(builder, *(_spread(builder, arg, lanes) for arg in args))

    for pair in ((Vector, Vector), (Vector, types.Float), (types.Float, Vector)):
        lower_builtin(function, *pair)(lower)


def _declare_negative() -> None:
    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            return signature(args[0], args[0]) if len(args) == 1 and isinstance(args[0], Vector) else None

    infer_global(operator.neg)(Template)
    lower_builtin(operator.neg, Vector)(lambda context, builder, sig, args: builder.fneg(args[0]))


_declare_negative()
_declare(operator.add, lambda builder, a, b: builder.fadd(a, b), compares=False)
_declare(operator.sub, lambda builder, a, b: builder.fsub(a, b), compares=False)
_declare(operator.mul, lambda builder, a, b: builder.fmul(a, b), compares=False)
_declare(operator.truediv, lambda builder, a, b: builder.fdiv(a, b), compares=False)
_declare(operator.eq, lambda builder, a, b: builder.fcmp_ordered("==", a, b), compares=True)
_declare(operator.lt, lambda builder, a, b: builder.fcmp_ordered("<", a, b), compares=True)
_declare(operator.le, lambda builder, a, b: builder.fcmp_ordered("<=", a, b), compares=True)
_declare(operator.gt, lambda builder, a, b: builder.fcmp_ordered(">", a, b), compares=True)
_declare(operator.ge, lambda builder, a, b: builder.fcmp_ordered(">=", a, b), compares=True)


@intrinsic
def fma(typing, a, b, c):
    """a · b + c, rounded once where the processor has an instruction for it."""
    kind = _together(a, b, c)

    def emit(context, builder, sig, args):
        lanes = _lanes(kind)
        return _call(builder, "fmuladd", lanes, [_spread(builder, arg, lanes) for arg in args])

    return kind(a, b, c), emit


@intrinsic
def choose(typing, condition, a, b):
    """a where the condition holds, else b; both are computed."""
    kind = _together(a, b)
    if isinstance(condition, Vector) and kind == types.float32:
        kind = Vector(f"float32x{_lanes(condition)}", ir.VectorType(ir.FloatType(), _lanes(condition)))

    def emit(context, builder, sig, args):
        lanes = _lanes(kind)
        return builder.select(_spread(builder, args[0], lanes), *(_spread(builder, arg, lanes) for arg in args[1:]))

    return kind(condition, a, b), emit


@intrinsic
def magnitude(typing, a):
    """|a|."""

    def emit(context, builder, sig, args):
        return _call(builder, "fabs", _lanes(a), list(args))

    return a(a), emit


@intrinsic
def with_sign(typing, size, sign):
    """The size of the first with the sign of the second."""
    kind = _together(size, sign)

    def emit(context, builder, sig, args):
        lanes = _lanes(kind)
        return _call(builder, "copysign", lanes, [_spread(builder, arg, lanes) for arg in args])

    return kind(size, sign), emit


@intrinsic
def root(typing, a):
    """√a, rounded correctly."""

    def emit(context, builder, sig, args):
        return _call(builder, "sqrt", _lanes(a), list(args))

    return a(a), emit


@intrinsic
def scaled(typing, a, shifted):
    """a · 2ⁿ for shifted = MAGIC + n, -252 ≤ n ≤ 254, rounded once even where it is denormal: by an instruction of
    its own, or in two steps, each by a power of two that is a normal number."""

    def emit(context, builder, sig, args):
        lanes = _lanes(a)
        word = ir.IntType(32)
        if lanes == _OF_512_BITS:
            n = builder.fsub(args[1], _constant(ir.FloatType(), lanes, MAGIC))
            return _call_of_512_bits(builder, "mask.scalef", [args[0], n], [ir.Constant(word, _AS_EVER)])

        def constant(value):
            return _constant(word, lanes, value)

        def power(n):
            field = builder.shl(builder.add(n, constant(127)), constant(23))
            return builder.bitcast(field, _llvm(ir.FloatType(), lanes))

        n = builder.sub(builder.bitcast(args[1], _llvm(word, lanes)), constant(_MAGIC_BITS))
        half = builder.ashr(n, constant(1))
        return builder.fmul(builder.fmul(args[0], power(half)), power(builder.sub(n, half)))

    return a(a, shifted), emit


@intrinsic
def roughly_inverse(typing, a):
    """1 / a, within a 16,000th where the processor has an instruction for that, which takes a fraction of the time
    of a division."""

    def emit(context, builder, sig, args):
        lanes = _lanes(a)
        if lanes == _OF_512_BITS:
            return _call_of_512_bits(builder, "rcp14", list(args), [])
        return builder.fdiv(_constant(ir.FloatType(), lanes, 1.0), args[0])

    return a(a), emit


@intrinsic
def power_of_two(typing, shifted):
    """2ⁿ for shifted = MAGIC + n, -126 ≤ n ≤ 127."""

    def emit(context, builder, sig, args):
        lanes, word = _lanes(shifted), ir.IntType(32)
        bits = builder.bitcast(args[0], _llvm(word, lanes))
        field = builder.shl(builder.add(bits, _constant(word, lanes, 127)), _constant(word, lanes, 23))
        return builder.bitcast(field, _llvm(ir.FloatType(), lanes))

    return shifted(shifted), emit


@intrinsic
def mantissa_and_exponent(typing, a):
    """(m, e) with a = m · 2ᵉ and √½ ≤ m < √2, for a positive normal number."""

    def emit(context, builder, sig, args):
        lanes, word = _lanes(a), ir.IntType(32)
        bits = builder.bitcast(args[0], _llvm(word, lanes))
        exponent = builder.ashr(builder.sub(bits, _constant(word, lanes, 0x3F3504F3)), _constant(word, lanes, 23))
        mantissa = builder.sub(bits, builder.shl(exponent, _constant(word, lanes, 23)))
        floats = _llvm(ir.FloatType(), lanes)
        parts = [builder.bitcast(mantissa, floats), builder.sitofp(exponent, floats)]
        return context.make_tuple(builder, sig.return_type, parts)

    return types.UniTuple(a, 2)(a), emit
