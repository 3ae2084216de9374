"""Padding, cropping and transposing value by value: 8 bytes moved for each, in the order of memory
where possible.

Axes that stay together are merged first (`shared/axes_launch.py`). That leaves one division for
each axis that matters, and runs of neighbours so long that four values mostly move as one.
Matrices, alone or in a batch, are transposed in tiles.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import blocks_1d, ceil_div

from ..shared.axes_launch import ROWS, TILE, eight, register

THREADS = 256

CONSTANTS = {"TILE": TILE, "ROWS": ROWS}

pad_elementwise = cuda_function(__file__, "pad_elementwise", **CONSTANTS)
transpose_elementwise = cuda_function(__file__, "transpose_elementwise", **CONSTANTS)
transpose_matrices = cuda_function(__file__, "transpose_matrices", **CONSTANTS, VALUE="float")


def _shifted(y, x, extents_x, extents_y, before):
    values = 4 if all(numbers[-1] % 4 == 0 for numbers in (extents_x, extents_y, before)) else 1
    for numbers in (extents_x, extents_y, before):
        numbers[-1] //= values
    count = y.size // values
    function = pad_elementwise.define(VALUE="float4" if values == 4 else "float")
    lists = *eight(extents_x, 1), *eight(extents_y, 1), *eight(before, 0)
    function[blocks_1d(count, THREADS), THREADS](y, x, count, len(before), *lists)


def _transposed(y, x, extents, steps):
    values = 4 if steps[-1] == 1 and extents[-1] % 4 == 0 else 1
    if values == 4:
        extents[-1] //= 4
        steps = [*(step // 4 for step in steps[:-1]), 1]
    function = transpose_elementwise.define(VALUE="float4" if values == 4 else "float")
    count = y.size // values
    function[blocks_1d(count, THREADS), THREADS](y, x, count, len(extents), *eight(extents, 1), *eight(steps, 0))


def _transposed_in_tiles(y, x, batch, M, N):
    transpose_matrices[batch * ceil_div(M, TILE) * ceil_div(N, TILE), (TILE, ROWS)](y, x, M, N)


register(__file__, "cuda", _shifted, _transposed, _transposed_in_tiles)
