"""How a convolution at stride 1 is laid out for `halo.cuh`: whole rows of windows to a block, with the
cells that they meet in shared memory."""

from __future__ import annotations

from functools import cache
from math import prod
from typing import NamedTuple

from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch import precision

from .gemm_launch import FLOAT32, Plan
from .tensor_launch import TensorTile, has_tensor_cores, tensor_plan, worthwhile

TILES = {
    precision.FLOAT32: (TensorTile(128, 64, 16, 128, 64, 3, 2), TensorTile(128, 32, 16, 64, 64, 3, 4)),
    precision.TF32: (TensorTile(128, 64, 16, 128, 64, 3, 3), TensorTile(128, 32, 16, 64, 64, 3, 6)),
    precision.BFLOAT16: (TensorTile(128, 64, 16, 128, 64, 3, 3), TensorTile(128, 32, 16, 64, 64, 3, 6)),
}
"""By precision, for many columns and for few."""

RATES = {precision.FLOAT32: 85_000, precision.TF32: 180_000, precision.BFLOAT16: 220_000}
"""Products that the tensor core of a scheduler adds up in a microsecond."""

CELL_BYTES = {precision.FLOAT32: 128, precision.TF32: 64, precision.BFLOAT16: 64}
"""Of the channels of a cell that are in shared memory at a time."""

SHARED_BYTES = 48 * 1024
"""Of a block, on every GPU."""

LEAST_CHANNELS = 16
"""With fewer, slabs would mostly hold zeros."""


class HaloPlan(NamedTuple):
    """The plan of the product, how many windows a tile has, and how many rows of cells they meet, which take
    `shared_bytes`."""

    product: Plan
    of_tile: int
    rows: int
    shared_bytes: int

    def geometry(self) -> tuple:
        """Grid, threads and dynamic shared memory."""
        return self.product.grid(), self.product.tile.THREADS, self.shared_bytes

    @property
    def numbers(self) -> tuple[int, int, int]:
        """What kernels take after the extents."""
        return self.of_tile, self.rows, self.product.length


def halo_plan(images, size, taps, dilation, depth, columns, *, pooled=False) -> HaloPlan | None:
    """The plan for `columns` filters of `taps` by `depth` channels, on windows of `size` in so many images;
    None if a block's cells do not fit into shared memory. `pooled`: rows come by twos."""
    return _halo_plan(images, *size, *taps, *dilation, depth, columns, pooled, precision.in_force())


@cache
def _halo_plan(images, P, Q, R, S, dilation_h, dilation_w, depth, columns, pooled, in_force) -> HaloPlan | None:
    wide, narrow = TILES[in_force]
    tile = narrow if columns <= narrow.TILE_N else wide
    span, width = (R - 1) * dilation_h, Q + (S - 1) * dilation_w
    room = SHARED_BYTES - 4 * tile.STAGES * (tile.TILE_N * tile.TILE_K + 32)
    most = min(tile.TILE_M // Q, images * P)
    layouts = []
    for high in range(1 + pooled, most + 1, 1 + pooled):
        rows = high + span * (1 + _borders(high, P))
        nbytes = rows * width * CELL_BYTES[in_force]
        if nbytes <= room:
            layouts.append((ceil_div(images * P, high), rows, high, nbytes))
    if not layouts:
        return None
    tiles, rows, high, nbytes = min(layouts)
    tiles *= ceil_div(columns, tile.TILE_N)
    slabs = ceil_div(depth, tile.TILE_K)
    lengths = sorted({ceil_div(slabs, parts) for parts in range(1, slabs + 1)}, reverse=True)
    plans = [Plan(tile, tiles, ceil_div(slabs, length), length * tile.TILE_K * R * S) for length in lengths]
    result = images * P * Q * columns
    best = min(plans, key=lambda plan: plan.microseconds(result, 1, RATES[in_force]))
    return HaloPlan(best._replace(length=best.length // (R * S)), high * Q, rows, nbytes)


def _borders(high: int, P: int) -> int:
    """How many borders between images of `P` rows each may lie among `high` rows, tile after tile."""
    if P % high == 0:
        return 0
    return high // P - 1 if high % P == 0 else (high - 2) // P + 1


def serves(dtype, depth, columns, *, strides) -> bool:
    """Whether the kernels compute with such arrays at such strides."""
    return dtype == FLOAT32 and depth % 4 == columns % 4 == 0 and strides == (1, 1) and has_tensor_cores()


def pays(plan: HaloPlan, windows: int, taps, depth: int, columns: int) -> bool:
    """Whether a plan is expected to be faster than that of `conv2d/tensor`, for the product of so many windows."""
    if depth < LEAST_CHANNELS or not worthwhile(windows, columns, prod(taps) * depth):
        return False
    ours = plan.product._replace(length=plan.product.length * prod(taps))
    theirs = tensor_plan(windows, columns, prod(taps) * depth)
    size = windows * columns
    from .tensor_launch import RATES as rates

    return ours.microseconds(size, 1, RATES[precision.in_force()]) < theirs.microseconds(
        size, 1, rates[precision.in_force()]
    )
