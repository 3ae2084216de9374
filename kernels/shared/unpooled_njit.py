"""The inner loop of the gradient of a weight through a 2×2 max pool: sums for a few taps that stay in registers.

    sums[t, f] += Σ over windows of patch[cell, t] · dy[f], where f's largest was found in that cell of the window

The values of a tap in all four cells lie in two rows of an image, often within one vector each. Then one permutation
of these gives each lane, a filter, the value in the cell that it has won. Nothing is unpooled in memory, and what has
lost is not multiplied, even if it is not finite.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .tile_njit import (
    HAS_512_BITS,
    LANE,
    PERMUTES,
    SIZE,
    VECTOR,
    WIDTH,
    by_names,
    in_every_lane,
    multiply_add,
    rolled,
    vectors_at,
)

MOST_TAPS, MOST_VECTORS = (10, 2) if HAS_512_BITS else (8, 1)
"""Taps and vectors of filters at a time: their sums fill two thirds of the registers."""

_CELLS = 4
_PLACES = ir.VectorType(ir.IntType(8), WIDTH)
_NUMBERS = ir.VectorType(LANE, WIDTH)

_NAMES = (
    *("vectors", "runs", "step", "sums", "j", "width", "bias", "b", "image", "starts", "r", "pixels", "first", "last"),
    *("dy", "index", "o", "filters"),
)
"""The parameters of `add_unpooled`."""


def can_permute(step: int, taps: int) -> bool:
    """Whether so many taps may be permuted, of windows whose right cells are so many values behind the left."""
    return PERMUTES and step + taps <= WIDTH


@intrinsic
def add_unpooled(
    typing, vectors, runs, step, sums, j, width, bias, b, image, starts, r, pixels, first, last, dy, index, o, filters
):  # fmt: skip
    """sums[j + (i · taps + t) · width + f] += Σ for windows m = first … last - 1, and cells c = 0 … 3, of

        image[pixels[4 · m + c] + starts[r + i] + t] · dy[p + f]    where index[p + f] == c and dy[p + f] != 0

    for i < runs, t < taps, and f < vectors · `WIDTH`, where p = o + (m - first) · filters, and bias[b + f] += Σ of
    the same dy. Of the tuples `vectors` and `runs`, only the shape counts: an element for each vector; for each run a
    tuple with an element for each tap. A vector is read of each row of a window, whose right cells are `step` values
    behind the left (`can_permute`). All arrays are one-dimensional and contiguous; starts and pixels are int64, index
    is uint8, the others are float32. Indices are not checked.
    """
    place = types.intp
    return types.void(
        *(vectors, runs, place, sums, place, place, bias, place, image, starts, place, pixels, place, place),
        *(dy, index, place, place),
    ), by_names(_NAMES, _emit)


def _emit(context: Any, builder: Any, kinds: dict[str, Any], values: dict[str, Any]) -> None:
    def data(array: str) -> Any:
        return context.make_array(kinds[array])(context, builder, values[array]).data

    def pixel(m: Any, cell: int) -> Any:
        number = builder.add(builder.mul(m, SIZE(_CELLS)), SIZE(cell))
        return builder.gep(image, [builder.load(builder.gep(pixels, [number]))])

    vectors, runs, run = kinds["vectors"].count, kinds["runs"].count, kinds["runs"].dtype.count
    taps, image, pixels, sums = runs * run, data("image"), data("pixels"), data("sums")
    first_start = builder.gep(data("starts"), [values["r"]])
    starts = [builder.load(builder.gep(first_start, [SIZE(i)])) for i in range(runs)]
    rows = [builder.add(values["j"], builder.mul(values["width"], SIZE(t))) for t in range(taps)]
    lines = [vectors_at(builder, builder.gep(sums, [row]), vectors) for row in rows]
    of_bias = vectors_at(builder, builder.gep(data("bias"), [values["b"]]), vectors)
    totals, bias = [_Sums(builder, line) for line in lines], _Sums(builder, of_bias)
    with rolled(builder, values["first"], values["last"]) as m:
        at = builder.add(values["o"], builder.mul(builder.sub(m, values["first"]), values["filters"]))
        gradients = _loaded(builder, vectors_at(builder, builder.gep(data("dy"), [at]), vectors))
        index = _loaded(builder, vectors_at(builder, builder.gep(data("index"), [at]), vectors, _PLACES), 1)
        index = [builder.zext(i, _NUMBERS) for i in index]
        zero, cells = ir.Constant(VECTOR, [0.0] * WIDTH), ir.Constant(_NUMBERS, [_CELLS] * WIDTH)
        counts = [
            builder.and_(builder.fcmp_unordered("!=", g, zero), builder.icmp_unsigned("<", i, cells))
            for g, i in zip(gradients, index, strict=True)
        ]
        bias.add([ir.Constant(VECTOR, [1.0] * WIDTH)] * vectors, gradients, counts)
        corners = pixel(m, 0), pixel(m, 2)
        numbers = [_first_numbers(builder, i, values["step"]) for i in index]
        for t, total in enumerate(totals):
            if t % run == 0:
                places = [vectors_at(builder, builder.gep(c, [starts[t // run]]), 1)[0] for c in corners]
                upper, lower = _loaded(builder, places)
            behind = ir.Constant(_NUMBERS, [t % run] * WIDTH)
            x = [_permuted(builder, upper, builder.add(n, behind), lower) for n in numbers]
            total.add(x, gradients, counts)
    for total in [*totals, bias]:
        total.store()


class _Sums:
    """Vectors of sums that lie one behind the other in memory, in registers meanwhile."""

    def __init__(self, builder: Any, places: list[Any]) -> None:
        self._builder, self._places = builder, places
        self._totals = [cgutils.alloca_once_value(builder, value) for value in _loaded(builder, places)]

    def add(self, x: list[Any], gradients: list[Any], where: list[Any]) -> None:
        """Add the products of vectors in the lanes where a condition holds."""
        builder, fma = self._builder, multiply_add(self._builder)
        for total, value, gradient, condition in zip(self._totals, x, gradients, where, strict=True):
            before = builder.load(total)
            builder.store(builder.select(condition, builder.call(fma, [value, gradient, before]), before), total)

    def store(self) -> None:
        """Write them back."""
        for total, place in zip(self._totals, self._places, strict=True):
            self._builder.store(self._builder.load(total), place, align=4)


def _loaded(builder: Any, places: list[Any], align: int = 4) -> list[Any]:
    return [builder.load(place, align=align) for place in places]


def _first_numbers(builder: Any, index: Any, step: Any) -> Any:
    """Where the first tap of the cell that each lane has won lies in the two vectors of a window."""
    one = ir.Constant(_NUMBERS, [1] * WIDTH)
    right, lower = builder.and_(index, one), builder.lshr(index, one)
    steps = in_every_lane(builder, builder.trunc(step, LANE))
    return builder.add(builder.mul(right, steps), builder.mul(lower, ir.Constant(_NUMBERS, [WIDTH] * WIDTH)))


def _permuted(builder: Any, first: Any, numbers: Any, second: Any) -> Any:
    """In each lane the value of this number among those of both vectors."""
    if HAS_512_BITS:
        return _call(builder, "avx512.vpermi2var.ps.512", first, numbers, second)
    in_first = builder.icmp_unsigned("<", numbers, ir.Constant(_NUMBERS, [WIDTH] * WIDTH))
    return builder.select(in_first, *(_call(builder, "avx2.permps", vector, numbers) for vector in (first, second)))


def _call(builder: Any, name: str, *args: Any) -> Any:
    """An instruction of x86."""
    kind = ir.FunctionType(VECTOR, [value.type for value in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), args)
