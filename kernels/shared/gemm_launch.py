"""Which tiles a product is computed by, and into how many parts its sums are cut: a static function
of the shape.

`gemm.cuh` says what the numbers of a `Tile` mean. A large tile reads each value seldom; a small one
wastes less at the edges of a narrow result and gives more blocks. Each `Tile` is one compilation,
so there are few of them.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch.case import Spec
from gpucnn.ops.dropout import scale, threshold

from .activations_launch import DEFINES, NUMBERS

FLOAT32 = np.dtype(np.float32)

MULTIPROCESSORS = 132
SCHEDULERS = 4
"""Of a large GPU (H100), and the warp schedulers of each multiprocessor."""

SHORTEST = 64
"""Parts of a sum are at least this long: a block starts as it multiplies two slabs."""

RATE = 39_000
"""Multiply-adds of a scheduler in a microsecond. This and the next four are fitted to profiles of
training steps on an H100."""

ALONE = 1.26
"""The time of a warp that has a scheduler to itself, as a multiple of its share among several."""

START = 2
"""Slabs that a block could have multiplied while it starts and ends."""

BYTES = 3e6
"""That global memory moves in a microsecond."""

JOIN = 2.5
"""Microseconds of one more kernel in a step, besides the bytes that it moves."""

SUM_THREADS, SUM_ROWS, SUM_LOADS = 256, 64, 8
"""Of a block that adds up parts: its threads, at most how many of them share the parts of a value,
and the loads that a thread has under way; as in `split.cuh`."""


class Tile(NamedTuple):
    """What a block, a warp and a thread compute; the macros of `gemm.cuh`."""

    TILE_M: int
    TILE_N: int
    TILE_K: int
    THREADS: int
    THREAD_N: int
    LANES_M: int
    RESIDENT_BLOCKS: int
    SLICES: int = 1

    @property
    def full(self) -> int:
        """Threads that fill a large GPU: 8 warps for each multiprocessor, enough where a thread has 32 sums
        under way."""
        return MULTIPROCESSORS * 256

    @property
    def alone(self) -> float:
        """`ALONE`."""
        return ALONE

    @property
    def flops_per_global_byte(self) -> float:
        """FLOPs for each byte that a block reads from global memory (or the L2 cache) in its main
        loop."""
        return self.TILE_M * self.TILE_N / (2 * (self.TILE_M + self.TILE_N))

    @property
    def flops_per_shared_byte(self) -> float:
        """FLOPs for each byte that a thread reads from shared memory."""
        return 8 * self.THREAD_N / (2 * (8 + self.THREAD_N))

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block: two slabs of each operand, each with 32 floats of shift."""
        return 2 * 4 * (self.TILE_K * (self.TILE_M + self.TILE_N) + 64)


LARGE = Tile(128, 128, 8, 256, 8, 4, 2)
SQUARE = Tile(64, 64, 8, 64, 8, 4, 6)
NARROW = Tile(64, 32, 16, 64, 4, 4, 6)
SKINNY = Tile(64, 16, 8, 32, 4, 8, 12)
SLICED = Tile(32, 64, 32, 128, 8, 4, 3, SLICES=4)
SLICED_NARROW = Tile(32, 32, 32, 128, 4, 4, 4, SLICES=4)
SLICED_SKINNY = Tile(64, 16, 32, 128, 4, 8, 3, SLICES=4)


def tiles_for(M: int, N: int, K: int) -> tuple[Tile, ...]:
    """The tiles for y (M, N) = a (M, K) · b (K, N) that may be best: narrow for a narrow y, large where
    132 large ones have work; and one whose sums several warps share, for a y of few tiles."""
    if N <= 16:
        return SKINNY, SLICED_SKINNY
    if N <= 32:
        return NARROW, SLICED_NARROW
    if min(M, N) > 64 and M * N * K >= 132 * LARGE.TILE_M * LARGE.TILE_N * 128:
        return (LARGE,)
    return SQUARE, SLICED


def sum_block(parts: int, each: int = 1) -> tuple[int, int]:
    """The block of `sum_parts`: quads of values by threads that share the parts of each. A thread of a
    kernel that picks one of several values adds up the parts of `each`."""
    rows = min(1 << (ceil_div(parts, SUM_LOADS // each) - 1).bit_length(), SUM_ROWS)
    return SUM_THREADS // rows, rows


class Plan(NamedTuple):
    """How a product is laid out: its tile, how many tiles, and into how many parts of which length
    K is cut."""

    tile: Any
    tiles: int
    parts: int
    length: int

    def grid(self, groups: int = 1) -> tuple[int, int, int]:
        """Tiles, parts of K, groups."""
        return self.tiles, self.parts, groups

    def microseconds(self, size: int, groups: int, rate: float) -> float:
        """An estimate of how long a product of `size` values takes:

        arithmetic   the slabs of the multiprocessor with most blocks, each warp's at `rate`
        memory       the result, written; with parts, these written and read again as well
        parts        one more kernel, `JOIN`
        """
        warps = self.tile.THREADS // 32
        blocks = ceil_div(self.tiles * self.parts * groups, MULTIPROCESSORS)
        slab = self.tile.TILE_M * self.tile.TILE_N * self.tile.TILE_K / warps / rate
        slabs = START + self.length // self.tile.TILE_K
        arithmetic = slabs * slab * max(ceil_div(blocks * warps, SCHEDULERS), self.tile.alone)
        if self.parts == 1:
            return arithmetic + 4 * size / BYTES
        return arithmetic + 4 * size * (2 * self.parts + 1) / BYTES + JOIN

    def macros_with_more_registers(self) -> dict[str, int]:
        """The macros for a kernel whose addresses take registers too: one resident block for a
        large tile."""
        return (self.tile._replace(RESIDENT_BLOCKS=1) if self.tile == LARGE else self.tile)._asdict()

    def macros_with_most_registers(self) -> dict[str, int]:
        """The same for a kernel that also picks the values it loads: a third fewer resident blocks, which
        leaves two warps to a scheduler."""
        return self.tile._replace(RESIDENT_BLOCKS=self.tile.RESIDENT_BLOCKS * 2 // 3)._asdict()

    def workspace(self, size: int) -> tuple[Spec, ...]:
        """The parts of a result of `size` values, if there are several."""
        return (Spec((self.parts, size), FLOAT32),) if self.parts > 1 else ()


class Drop(NamedTuple):
    """Dropout, as `dropping.cuh` takes it."""

    step: Any
    rate: float
    seed: int
    stream: int
    counter: int

    def numbers(self) -> tuple[Any, int, float, int, int, int]:
        """The arguments of a kernel."""
        words = self.stream & 0xFFFFFFFF, self.counter & 0xFFFFFFFF
        return self.step, threshold(self.rate), scale(self.rate), self.seed, *words


NO_DROP = None, 0, 0.0, 0, 0, 0
"""The arguments of a kernel that drops nothing."""


class End(NamedTuple):
    """How kernels that include `bias_activation.cuh` finish their sums."""

    bias: Any
    function: str
    alpha: float
    drop: Drop | None = None

    def macros(self) -> dict[str, int]:
        """The macros of the function and of dropout."""
        return {**DEFINES, "FUNCTION": NUMBERS[self.function], "DROPS": int(self.drop is not None)}

    def arguments(self, finishes: bool) -> tuple[Any, ...]:
        """The bias, or None in a kernel that leaves parts of a sum as they are, alpha, and those of dropout."""
        return self.bias if finishes else None, self.alpha, *(self.drop.numbers() if self.drop else NO_DROP)


def product_plan(M: int, N: int, K: int, *, groups: int = 1, repeats: int = 1, most_parts: int | None = None) -> Plan:
    """The plan for y (M, N) = a (M, K) · b (K, N), once for each group; tiles come in `repeats`
    sets.

    The tile and the number of parts of K are those that take least time (`Plan.microseconds`): parts
    let more multiprocessors work, and each of them is written and read again.
    """
    plans = [
        plan_of(one, M, N, K, groups=groups, repeats=repeats, rate=RATE, most_parts=most_parts)
        for one in tiles_for(M, N, K)
    ]
    return min(plans, key=lambda plan: plan.microseconds(M * N * repeats * groups, groups, RATE))


@cache
def plan_of(
    shape: Any, M: int, N: int, K: int, *, groups: int, repeats: int, rate: float, most_parts: int | None = None
) -> Plan:
    """The same with tiles of a given shape, at a given `RATE`."""
    tiles = ceil_div(M, shape.TILE_M) * ceil_div(N, shape.TILE_N) * repeats
    most = max(1, min(shape.full // (tiles * groups * shape.THREADS), K // SHORTEST, most_parts or K))
    lengths = {ceil_div(ceil_div(K, parts), shape.TILE_K) * shape.TILE_K for parts in range(1, most + 1)}
    plans = (Plan(shape, tiles, max(ceil_div(K, length), 1), length) for length in sorted(lengths, reverse=True))
    return min(plans, key=lambda plan: plan.microseconds(M * N * repeats * groups, groups, rate))


def join(sum_parts, plan: Plan, result, parts, end: End | None = None):
    """Add up the parts of a result, if there are several, and finish them if there is an end."""
    if parts is not None:
        extents = (result.size, plan.parts) if end is None else (result.size, plan.parts, end.bias.size)
        quads, rows = sum_block(plan.parts)
        ends = () if end is None else end.arguments(True)
        sum_parts[ceil_div(result.size, 4 * quads), (quads, rows)](result, parts, *ends, *extents)


def join_both(sum_parts_of_both, dweight, db, parts):
    """Add up the parts of a gradient of the weight and of one of the bias, a row of `parts` for each part of
    both."""
    count, size = parts.shape
    quads, rows = sum_block(count)
    sum_parts_of_both[ceil_div(size, 4 * quads), (quads, rows)](dweight, db, parts, dweight.size, db.size, count)
