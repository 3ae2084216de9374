"""Products by NumPy's BLAS (OpenBLAS), called by compiled tasks: one thread for each part of the longer
side of the result. What follows a product comes while its part is in cache.

BLAS is loaded already, and its function is called by its address. Each part is one call on one BLAS
thread, so that the bits do not depend on how many threads there are.
"""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gpucnn.devices import threads
from gpucnn.devices.njit import inner
from gpucnn.devices.team import tasks, whole

from .epilogue_njit import call
from .simd_njit import add, load, load_some, store, store_some

_NAMES = {"scipy_cblas_sgemm64_": 64, "cblas_sgemm64_": 64, "scipy_cblas_sgemm": 32, "cblas_sgemm": 32}
"""The function in builds of OpenBLAS, and the bits of its integers."""

_PARTS = 1, 2, 4
"""More parts would read the other matrix too often."""
_SMALLEST = 64
"""Rows or columns of a part; with fewer, BLAS packs longer than it multiplies."""
_SMALL = 1 << 21
"""Floating-point operations of a part: with fewer, the same."""

_ROW_MAJOR, _PLAIN, _TRANSPOSED = 101, 111, 112
_NO_BIAS = np.empty(0, np.float32)


@cache
def sgemm() -> tuple[int, int]:
    """The address of BLAS' product, and the bits of its integers; (0, 0) if NumPy's BLAS is not
    OpenBLAS."""
    for library in threads.blas_libraries():
        if library.internal_api == "openblas" and "numpy" in library.filepath:
            for name, bits in _NAMES.items():
                if function := getattr(library.dynlib, name, None):
                    return ctypes.cast(function, ctypes.c_void_p).value or 0, bits
    return 0, 0


def _call_sgemm(bits: int):
    """The call with integers of so many bits."""

    @intrinsic
    def call_sgemm(typing, address, order, flip_a, flip_b, m, n, k, a, at_a, lda, b, at_b, ldb, c, at_c, ldc):
        def emit(context, builder, signature, args):
            enum, number, real = ir.IntType(32), ir.IntType(bits), ir.FloatType()
            pointer = real.as_pointer()
            kind = ir.FunctionType(
                ir.VoidType(), [enum] * 3 + [number] * 3 + [real] + [pointer, number] * 2 + [real, pointer, number]
            )
            numbers = {i: builder.trunc(args[i], number) if bits < 64 else args[i] for i in (4, 5, 6, 9, 12, 15)}

            def place(i):
                array = context.make_array(signature.args[i])(context, builder, args[i])
                return builder.gep(array.data, [args[i + 1]])

            one, zero = ir.Constant(real, 1.0), ir.Constant(real, 0.0)
            enums = [builder.trunc(value, enum) for value in args[1:4]]
            sizes, factors = [numbers[4], numbers[5], numbers[6]], [place(7), numbers[9], place(10), numbers[12]]
            function = builder.inttoptr(args[0], kind.as_pointer())
            builder.call(function, [*enums, *sizes, one, *factors, zero, place(13), numbers[15]])
            return context.get_dummy_value()

        whole = types.intp
        return types.void(*[whole] * 7, a, whole, whole, b, whole, whole, c, whole, whole), emit

    return call_sgemm


_call_with_64, _call_with_32 = _call_sgemm(64), _call_sgemm(32)


def multiply(
    y: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    transpose_a: bool = False,
    transpose_b: bool = False,
    *,
    bias: np.ndarray = _NO_BIAS,
    ended: np.ndarray | None = None,
    function: int = 0,
    alpha: float = 0.0,
) -> None:
    """y (M, N) = a (M, K) @ b (K, N), each of which may be stored as its transpose, + bias (N,) if there
    is any. `ended` is the array of function(y), which `epilogue_njit.end` returns; by default y."""
    rows, columns = y.shape
    longer, terms = max(rows, columns), a.shape[0] if transpose_a else a.shape[1]
    work = 2 * rows * columns * terms
    parts = max(count for count in _PARTS if count == 1 or count * max(_SMALLEST, longer * _SMALL // work) <= longer)
    bounds = np.array([longer * i // parts for i in range(parts + 1)])
    flat = y.reshape(-1)
    _multiply(
        parts, flat, flat if ended is None else ended.reshape(-1), a.reshape(-1), b.reshape(-1), bias, *sgemm(), rows,
        columns, terms, transpose_a, transpose_b, function, np.float32(alpha), bounds,
    )  # fmt: skip


@tasks
def _multiply(
    i, y, ended, a, b, bias, sgemm, bits, rows, columns, terms, transpose_a, transpose_b, function, alpha, bounds
):  # fmt: skip
    """A part of the rows, or of the columns if these are more."""
    top, bottom, left, right = 0, rows, 0, columns
    if rows >= columns:
        top, bottom = bounds[i], bounds[i + 1]
    else:
        left, right = bounds[i], bounds[i + 1]
    width_a, width_b = rows if transpose_a else terms, terms if transpose_b else columns
    at_a, at_b = top if transpose_a else top * width_a, left * width_b if transpose_b else left
    flip_a, flip_b = _TRANSPOSED if transpose_a else _PLAIN, _TRANSPOSED if transpose_b else _PLAIN
    m, n, at_y = bottom - top, right - left, top * columns + left
    if bits == 64:
        _call_with_64(
            sgemm, _ROW_MAJOR, flip_a, flip_b, m, n, terms, a, at_a, width_a, b, at_b, width_b, y, at_y, columns
        )
    else:
        _call_with_32(
            sgemm, _ROW_MAJOR, flip_a, flip_b, m, n, terms, a, at_a, width_a, b, at_b, width_b, y, at_y, columns
        )
    if bias.shape[0]:
        _finish(y, ended, bias, function, alpha, top, bottom, left, right)


@whole
def finish(y, ended, bias, function, alpha, rows):
    """The end of whole rows."""
    _finish(y, ended, bias, function, alpha, 0, rows, 0, bias.shape[0])


@inner
def _finish(y, ended, bias, function, alpha, top, bottom, left, right):
    """Row by row: the bias, then the function."""
    whole = left + (right - left) // 8 * 8
    for row in range(top, bottom):
        o = row * bias.shape[0]
        for k in range(left, whole, 8):
            store(y, o + k, add(load(y, o + k), load(bias, k)))
        if whole < right:
            few = right - whole
            store_some(y, o + whole, few, add(load_some(y, o + whole, few), load_some(bias, whole, few)))
        if function:
            call(function, ended, o + left, y, o + left, y, o + left, right - left, alpha)
