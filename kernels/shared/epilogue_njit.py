"""The end of a product on the CPU: an activation or its gradient as a small function of its own,
which a kernel calls by its address for each stretch of values while they are in the first-level
cache.

So a kernel is compiled once for all activations, and an activation once for all kernels. A call
costs a few nanoseconds and comes once for some hundred values.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, overload, register_model

from gpucnn.devices.njit import address_of, njit
from gpucnn.devices.team import whole
from gpucnn.ops.epilogue import LINEAR, keeps_input

from .activations_njit import SLOPES, VALUES
from .simd_njit import load_wide, loaded, store_wide
from .slopes_of_results_njit import OF_RESULTS
from .tile_njit import WIDTH
from .vector_operators_njit import choose

_POINTER = types.CPointer(types.float32)
_ZERO = np.float32(0)
_TABLES = {"value": VALUES, "slope": SLOPES, "slope at the result": OF_RESULTS}


@njit(forceinline=True)
def _masked(dy, y, a):
    """The gradient of relu: 0 where the result is 0, whatever dy is."""
    return choose(y <= _ZERO, _ZERO, loaded(dy))


class _Function(types.Type):
    """A function of a table as a type: code that takes it is compiled for it."""

    def __init__(self, table: str, name: str) -> None:
        super().__init__(f"{table} of {name}")
        self.body = _TABLES[table].get(name)


@register_model(_Function)
class _FunctionModel(models.OpaqueModel):
    pass


def _value(function: Any, x: Any, alpha: Any) -> Any:
    """f(x)."""
    raise NotImplementedError("compiled code alone calls it")


def _gradient(function: Any, dy: Any, kept: Any, alpha: Any) -> Any:
    """dy · f'."""
    raise NotImplementedError("compiled code alone calls it")


@overload(_value, inline="always")
def _value_of(function, x, alpha):
    body = function.body
    return lambda function, x, alpha: body(x, alpha)


@overload(_gradient, inline="always")
def _gradient_of(function, dy, kept, alpha):
    body = function.body
    if body is None:
        return lambda function, dy, kept, alpha: _masked(dy, kept, alpha)
    return lambda function, dy, kept, alpha: dy * body(kept, alpha)


@njit(nogil=True, cache=True, error_model="numpy", no_cpython_wrapper=True)
def _finish(function, y, z, _, count, alpha):
    """y = f(z), for `count` values."""
    whole = count // WIDTH * WIDTH
    for i in range(0, whole, WIDTH):
        store_wide(y, i, WIDTH, _value(function, load_wide(z, i, WIDTH), alpha))
    if whole < count:
        store_wide(y, whole, count - whole, _value(function, load_wide(z, whole, count - whole), alpha))


@njit(nogil=True, cache=True, error_model="numpy", no_cpython_wrapper=True)
def _slope(function, dz, dy, kept, count, alpha):
    """dz = dy · f'."""
    whole = count // WIDTH * WIDTH
    for i in range(0, whole, WIDTH):
        store_wide(dz, i, WIDTH, _gradient(function, load_wide(dy, i, WIDTH), load_wide(kept, i, WIDTH), alpha))
    if whole < count:
        few = count - whole
        store_wide(dz, whole, few, _gradient(function, load_wide(dy, whole, few), load_wide(kept, whole, few), alpha))


@cache
def _compiled(kernel: Any, table: str, name: str) -> int:
    return address_of(kernel, (_Function(table, name), *[_POINTER] * 3, types.intp, types.float32))


def end(function: str) -> int:
    """The address of y = f(z), or 0 for the function that changes nothing."""
    return 0 if function == LINEAR else _compiled(_finish, "value", function)


def slope(function: str, alpha: float) -> int:
    """The address of dz = dy · f', from the sums z or the result y as `keeps_input` says."""
    return _compiled(_slope, "slope" if keeps_input(function, alpha) else "slope at the result", function)


def slope_at(function: str) -> int:
    """The address of dz = dy · f', from the sums z; 0 for the function that changes nothing."""
    if function == LINEAR:
        return 0
    return _compiled(_slope, "slope at the result" if function == "relu" else "slope", function)


@intrinsic
def call(typing, address, out, o, a, i, b, j, count, alpha):
    """Call what `end` or `slope` returns, for `count` values from out[o], a[i] and b[j] on."""

    def emit(context, builder, signature, args):
        address, out, o, a, i, b, j, count, alpha = args
        floats = ir.FloatType().as_pointer()

        def place(kind, array, index):
            return builder.gep(context.make_array(kind)(context, builder, array).data, [index])

        kinds = signature.args
        pointers = [place(kinds[1], out, o), place(kinds[3], a, i), place(kinds[5], b, j)]
        opaque = ir.IntType(8).as_pointer()
        function = ir.FunctionType(ir.VoidType(), [opaque, floats, floats, floats, count.type, ir.FloatType()])
        nothing = ir.Constant(opaque, None)
        builder.call(builder.inttoptr(address, function.as_pointer()), [nothing, *pointers, count, alpha])
        return context.get_dummy_value()

    array = types.intp
    return types.void(types.intp, out, array, a, array, b, array, array, types.float32), emit


def run(address: int, out: np.ndarray, a: np.ndarray, b: np.ndarray, alpha: float) -> None:
    """Call it for whole arrays, which are flat and of one size."""
    _run(address, out, a, b, np.float32(alpha))


@whole
def _run(address, out, a, b, alpha):
    call(address, out, 0, a, 0, b, 0, out.size, alpha)
