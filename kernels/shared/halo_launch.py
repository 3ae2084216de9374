"""How a convolution at stride 1 is laid out for `halo.cuh`: whole rows of windows to a block, with the cells that they
meet in shared memory.

For the second convolution of cifar, forward or its gradient by x, an H100 takes 108 to 129 µs in TF32 and bfloat16
by `tensor`, and 80 to 101 µs so: see `pays` for where it loses.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch import precision
from gpucnn.ops.conv2d import conv2d

from .convolution_products import window_numbers
from .gemm_launch import FLOAT32, MULTIPROCESSORS
from .tensor_launch import FACTOR_BITS, TensorTile, has_tensor_cores

TILES = {
    precision.FLOAT32: TensorTile(128, 32, 16, 64, 64, 3, 4),
    precision.TF32: TensorTile(128, 32, 16, 64, 64, 3, 6),
    precision.BFLOAT16: TensorTile(128, 32, 16, 64, 64, 3, 6),
}
"""By precision."""

CELL_BYTES = {precision.FLOAT32: 128, precision.TF32: 64, precision.BFLOAT16: 64}
"""Of the channels of a cell that are in shared memory at a time."""

SHARED_BYTES = 48 * 1024
"""Of a block, on every GPU."""

LEAST_TILES = 4 * MULTIPROCESSORS
"""So many blocks run side by side."""


class HaloPlan(NamedTuple):
    """How many tiles there are, how many windows a tile has, and how many rows of cells they meet at most, which take
    `shared_bytes`."""

    tile: TensorTile
    tiles: int
    of_tile: int
    rows: int
    shared_bytes: int

    @property
    def geometry(self) -> tuple[int, int, int]:
        """Grid, threads and dynamic shared memory."""
        return self.tiles, self.tile.THREADS, self.shared_bytes

    def variant(self) -> dict[str, int]:
        """The macros in the precision in force."""
        return {**self.tile._asdict(), "FACTOR_BITS": FACTOR_BITS[precision.in_force()]}


def halo_plan(images, size, taps, dilation, columns, *, together: int = 1) -> HaloPlan | None:
    """The plan for `columns` filters of so many taps, on windows of `size` in so many images, whose rows come
    `together`; None if a block's cells do not fit into shared memory."""
    return _halo_plan(images, *size, *taps, *dilation, columns, together, precision.in_force())


@cache
def _halo_plan(images, P, Q, R, S, dilation_h, dilation_w, columns, together, in_force) -> HaloPlan | None:
    tile = TILES[in_force]
    span, width = (R - 1) * dilation_h, Q + (S - 1) * dilation_w
    room = SHARED_BYTES - 4 * tile.STAGES * (tile.TILE_N * tile.TILE_K + 32)
    layouts = []
    for high in range(together, min(tile.TILE_M // Q, images * P) + 1, together):
        rows = high + span * (1 + _borders(high, P))
        nbytes = rows * width * CELL_BYTES[in_force]
        if nbytes <= room:
            layouts.append((ceil_div(images * P, high), rows, high, nbytes))
    if not layouts:
        return None
    tiles, rows, high, nbytes = min(layouts)
    return HaloPlan(tile, tiles * ceil_div(columns, tile.TILE_N), high * Q, rows, nbytes)


def _borders(high: int, P: int) -> int:
    """How many borders between images of `P` rows each may lie among `high` rows, tile after tile."""
    if P % high == 0:
        return 0
    return high // P - 1 if high % P == 0 else (high - 2) // P + 1


def serves(dtype, depth, columns, *, strides) -> bool:
    """Whether the kernels compute with such arrays at such strides."""
    return dtype == FLOAT32 and depth % 4 == columns % 4 == 0 and strides == (1, 1) and has_tensor_cores()


def of_y(x, weight, *, strides, padding, dilation, groups=1) -> HaloPlan | None:
    """The plan of a convolution's result, or None if it is not served."""
    *taps, C, K = weight.shape
    if groups != 1 or not serves(x.dtype, C, K, strides=strides):
        return None
    (y,) = conv2d.specs(x, weight, strides=strides, padding=padding, dilation=dilation, groups=1)
    return halo_plan(y.shape[0], y.shape[1:3], taps, dilation, K)


def numbers(plan: HaloPlan, x, weight, y, padding, dilation) -> tuple[int, ...]:
    """What kernels take after their arrays: extents of (N, H, W, C), (N, P, Q, K) and (R, S, C, K), the window's
    numbers, and those of the plan."""
    no_strides = window_numbers((1, 1), padding, dilation)[2:]
    return *x.shape, *y.shape[1:], *weight.shape[:2], *no_strides, plan.of_tile, plan.rows


def pays(plan: HaloPlan, depth: int, columns: int) -> bool:
    """Whether a plan is expected to be faster than `conv2d/tensor`: with few columns, where there the copies bind.
    In float32, where tensor cores compute three products for each, both take as long (172 and 160 µs, 107 and 111 µs
    on an H100); with 64 columns `tensor` takes a fifth less; and blocks that are alone on a multiprocessor wait for
    their cells."""
    if precision.in_force() == precision.FLOAT32:
        return False
    return depth >= plan.tile.TILE_K and columns <= plan.tile.TILE_N and plan.tiles >= LEAST_TILES
