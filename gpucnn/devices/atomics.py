"""What threads of compiled code need and Numba lacks: numbers that several threads read and write, a
pause, and the clock."""

from __future__ import annotations

import platform
import time
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_X86, _ARM = ("llvm.x86.sse2.pause", ()), ("llvm.aarch64.isb", (15,))
_PAUSE = {"x86_64": _X86, "AMD64": _X86, "aarch64": _ARM, "arm64": _ARM}.get(platform.machine())
"""The instruction of this processor that waits for some cycles, with its operands."""


def _element(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    if isinstance(kind, types.CPointer):
        return builder.gep(array, [index])
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


@intrinsic
def read(typing, array, index):
    """array[index], and all that the thread which wrote it had written before."""

    def emit(context, builder, signature, args):
        return builder.load_atomic(_element(context, builder, signature.args[0], *args), "acquire", 8)

    return types.int64(array, types.intp), emit


@intrinsic
def write(typing, array, index, value):
    """array[index] = value, visible after all that this thread wrote before."""

    def emit(context, builder, signature, args):
        builder.store_atomic(args[2], _element(context, builder, signature.args[0], *args[:2]), "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), emit


def _in_one_step(operation: str, array: Any) -> tuple[Any, Any]:
    """What an intrinsic returns that reads a number and writes another one."""

    def emit(context, builder, signature, args):
        address = _element(context, builder, signature.args[0], *args[:2])
        return builder.atomic_rmw(operation, address, args[2], "acq_rel")

    return types.int64(array, types.intp, types.int64), emit


@intrinsic
def add(typing, array, index, value):
    """array[index] += value in one step; returns the old value."""
    return _in_one_step("add", array)


@intrinsic
def exchange(typing, array, index, value):
    """array[index] = value in one step; returns the old value."""
    return _in_one_step("xchg", array)


@intrinsic
def pause(typing):
    """Wait for some cycles without disturbing the other thread of the core."""

    def emit(context, builder, signature, args):
        if _PAUSE is not None:
            name, operands = _PAUSE
            numbers = [ir.Constant(ir.IntType(32), operand) for operand in operands]
            kind = ir.FunctionType(ir.VoidType(), [number.type for number in numbers])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), numbers)
        return context.get_dummy_value()

    return types.void(), emit


CLOCK: int | None = getattr(time, "CLOCK_MONOTONIC", None)
"""The clock of `now`; Windows has no such function, and kernels are always shared there."""


@intrinsic
def now(typing):
    """What the clock shows, in ns; 0 without one."""

    def emit(context, builder, signature, args):
        number, enum = ir.IntType(64), ir.IntType(32)
        if CLOCK is None:
            return number(0)
        moment = cgutils.alloca_once(builder, number, size=2)
        kind = ir.FunctionType(enum, [enum, number.as_pointer()])
        read = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
        builder.call(read, [enum(CLOCK), moment])
        seconds, rest = (builder.load(builder.gep(moment, [number(i)])) for i in range(2))
        return builder.add(builder.mul(seconds, number(1_000_000_000)), rest)

    return types.int64(), emit
