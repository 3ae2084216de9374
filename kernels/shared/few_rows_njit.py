"""Products of a few rows with a large matrix, such as a dense layer on one image.

    y[r, j] = Σ over k of x[r, k] · weight[k, j] + bias[j], and an activation

Each value of the matrix is used once for each row, so that reading it takes the time. It is read where
it lies, from the caches that it fits, and never packed, as a product of many rows packs it.

Work: 2 · rows · weight.size. Traffic: the matrix once for each row, by parts of the columns that stay in
the second-level cache. Which sums are added to which does not depend on the parts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gpucnn.devices.team import tasks

from .epilogue_njit import call
from .lane_tile_njit import Lanes
from .tile_njit import SIZE, VECTOR, WIDTH, in_every_lane, multiply_add, rolled

MOST_ROWS = 4
"""With more, packing the matrix pays."""

_VECTORS = 4
"""Vectors of columns whose sums are in registers at a time."""

_WAYS = WIDTH // 4
"""Sums of each column, over every so many rows of the matrix, so that additions do not wait for each
other."""

_BLOCK = _VECTORS * WIDTH

_PARTS = 1, 2, 4
_SMALLEST = 1 << 16
"""Products of a part: with fewer, a second thread costs more than it brings."""


def multiply(
    y: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    ended: np.ndarray | None = None,
    function: int = 0,
    alpha: float = 0.0,
) -> None:
    """y (M, N) = x (M, K) @ weight (K, N) + bias (N,). `ended` is the array of function(y), which
    `epilogue_njit.end` returns; by default y."""
    terms, columns = weight.shape
    blocks = -(-columns // _BLOCK)
    most = max(1, min(blocks, len(y) * weight.size // _SMALLEST))
    parts = max(count for count in _PARTS if count <= most)
    bounds = np.array([min(columns, blocks * i // parts * _BLOCK) for i in range(parts + 1)])
    target = y.reshape(-1)
    biases = np.zeros(columns, np.float32) if bias is None else bias
    _multiply(
        parts, target, target if ended is None else ended.reshape(-1), x.reshape(-1), weight.reshape(-1), biases,
        np.array([len(y), terms, columns]), function, np.float32(alpha), bounds,
    )  # fmt: skip


@tasks
def _multiply(part, y, ended, x, weight, bias, shape, function, alpha, bounds):
    """Some columns of the result."""
    rows, terms, columns = shape[0], shape[1], shape[2]
    first, last = bounds[part], bounds[part + 1]
    for row in range(rows):
        o, j = row * columns, first
        while j < last:
            if last - j >= _BLOCK:
                _sums(_VECTORS, 1, WIDTH, x, row * terms, terms, weight, j, columns, bias, y, o + j)
                j += _BLOCK
            elif last - j >= WIDTH:
                _sums(1, 1, WIDTH, x, row * terms, terms, weight, j, columns, bias, y, o + j)
                j += WIDTH
            else:
                _sums(1, 0, last - j, x, row * terms, terms, weight, j, columns, bias, y, o + j)
                j = last
        if function:
            call(function, ended, o + first, y, o + first, y, o + first, last - first, alpha)


_NAMES = "vectors", "whole", "lanes", "x", "start", "terms", "weight", "j", "width", "bias", "y", "to"
"""The parameters of `_sums`."""


@intrinsic(prefer_literal=True)
def _sums(typing, vectors, whole, lanes, x, start, terms, weight, j, width, bias, y, to):
    """y[to + f] = bias[j + f] + Σ over k < terms of x[start + k] · weight[k · width + j + f], for the
    lanes of so many vectors, or of one vector that is not whole; these two are constants."""
    place = types.intp

    def emit(context, builder, signature, args):
        kinds = dict(zip(_NAMES, signature.args, strict=True))
        _emit(context, builder, kinds, dict(zip(_NAMES, args, strict=True)))
        return context.get_dummy_value()

    return types.void(vectors, whole, place, x, place, place, weight, place, place, bias, y, place), emit


def _emit(context: Any, builder: Any, kinds: dict[str, Any], values: dict[str, Any]) -> None:
    def address(array: str, index: str) -> Any:
        data = context.make_array(kinds[array])(context, builder, values[array]).data
        return builder.gep(data, [values[index]])

    columns = [SIZE(v * WIDTH) for v in range(kinds["vectors"].literal_value)]
    lanes = Lanes(builder, None if kinds["whole"].literal_value else values["lanes"])
    fma, zero = multiply_add(builder), ir.Constant(VECTOR, [0.0] * WIDTH)
    biases, targets = address("bias", "j"), address("y", "to")
    cell = cgutils.alloca_once_value(builder, address("x", "start"))
    line = cgutils.alloca_once_value(builder, address("weight", "j"))
    starts = [lanes.load(builder.gep(biases, [column])) for column in columns]
    sums = [[cgutils.alloca_once_value(builder, zero if way else s) for s in starts] for way in range(_WAYS)]

    def add(ways: Any) -> None:
        for way in ways:
            here, value = builder.load(line), in_every_lane(builder, builder.load(builder.load(cell)))
            for column, total in zip(columns, way, strict=True):
                weight = lanes.load(builder.gep(here, [column]))
                builder.store(builder.call(fma, [value, weight, builder.load(total)]), total)
            builder.store(builder.gep(here, [values["width"]]), line)
            builder.store(builder.gep(builder.load(cell), [SIZE(1)]), cell)

    with rolled(builder, SIZE(0), builder.sdiv(values["terms"], SIZE(_WAYS))):
        add(sums)
    with rolled(builder, SIZE(0), builder.srem(values["terms"], SIZE(_WAYS))):
        add(sums[:1])
    for column, *ways in zip(columns, *sums, strict=True):
        totals = [builder.load(total) for total in ways]
        while len(totals) > 1:
            totals = [builder.fadd(a, b) for a, b in zip(totals[::2], totals[1::2], strict=True)]
        lanes.store(totals[0], builder.gep(targets, [column]))
