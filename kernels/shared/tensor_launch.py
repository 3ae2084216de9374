"""Which tiles a product on tensor cores is computed by, and which calls can be and are worth it.

`tensor.cuh` says what the numbers of a `TensorTile` mean.
"""

from __future__ import annotations

from typing import NamedTuple

from gpucnn.devices import choose
from gpucnn.dispatch import choice, precision

from .gemm_launch import ALONE, MULTIPROCESSORS, End, Plan, join, plan_of

SLOW = (86, 89, 120, 121)
"""Compute capabilities whose tensor cores multiply TF32 as fast as ordinary arithmetic does float32
(GeForce), or twice as fast: three products in the place of one are then slower."""

FACTOR_BITS = {precision.FLOAT32: 32, precision.TF32: 19, precision.BFLOAT16: 16}
"""Of a factor, by precision; as in `factors.cuh`."""

RATES = {precision.FLOAT32: 61_000, precision.TF32: 85_000, precision.BFLOAT16: 90_000}
"""Products that the tensor core of a scheduler adds up in a microsecond, as measured on an H100."""

LEAST_WORK = 100e6
"""Floating-point operations: a smaller product takes a GPU a few microseconds, which go into
starting and ending rather than into arithmetic."""

LEAST_COLUMNS = 16
"""Half of the narrowest tile: below, tensor cores would mostly multiply zeros."""


class TensorTile(NamedTuple):
    """What a block and a warp compute; the macros of `tensor.cuh`."""

    TILE_M: int
    TILE_N: int
    TILE_K: int
    THREADS: int
    WARP_M: int
    STAGES: int
    RESIDENT_BLOCKS: int

    @property
    def full(self) -> int:
        """Threads that fill a large GPU."""
        return MULTIPROCESSORS * self.RESIDENT_BLOCKS * self.THREADS

    @property
    def alone(self) -> float:
        """The time of a warp that has a scheduler to itself, as a multiple of its share among several."""
        return ALONE if self.WARP_M == 64 else 1.57


TILES = {
    precision.FLOAT32: (TensorTile(64, 64, 16, 128, 32, 3, 3), TensorTile(128, 32, 16, 64, 64, 3, 4)),
    precision.TF32: (TensorTile(128, 64, 16, 128, 64, 3, 2), TensorTile(128, 32, 16, 64, 64, 3, 4)),
    precision.BFLOAT16: (TensorTile(64, 64, 16, 128, 32, 3, 4), TensorTile(128, 32, 16, 64, 64, 3, 6)),
}
"""By precision, for many columns and for few: of three tiles of each kind (four in TF32 and bfloat16), those
that were fastest in steps of mlearning and cifar on an H100; in bfloat16 of mlearning alone."""

DEFAULT = {**TILES[precision.FLOAT32][0]._asdict(), "FACTOR_BITS": 32}


def tensor_plan(M: int, N: int, K: int, *, groups: int = 1, repeats: int = 1) -> Plan:
    """The plan for y (M, N) = a (M, K) · b (K, N) in the precision in force, as `product_plan` makes it
    for ordinary arithmetic."""
    (wide, narrow), rate = TILES[precision.in_force()], RATES[precision.in_force()]
    return plan_of(narrow if N <= narrow.TILE_N else wide, M, N, K, groups=groups, repeats=repeats, rate=rate)


def has_tensor_cores() -> bool:
    """Whether the device in use multiplies TF32."""
    return choose.current().cc is None or choose.current().cc >= choice.OLDEST_FACTORS


def worthwhile(M: int, N: int, K: int, *, groups: int = 1) -> bool:
    """Whether tensor cores are expected to compute a product faster than ordinary arithmetic."""
    fast = precision.in_force() != precision.FLOAT32 or choose.current().cc not in SLOW
    return fast and 2 * M * N * K * groups >= LEAST_WORK and min(M, N) >= LEAST_COLUMNS


def variant_of(plan: Plan) -> dict[str, int]:
    """The macros for a plan in the precision in force."""
    return {**plan.tile._asdict(), "FACTOR_BITS": FACTOR_BITS[precision.in_force()]}


def multiply(
    product, sum_parts, plan: Plan, result, parts, *arguments, end: End | None = None, groups: int = 1, **macros
):
    """Launch a product of two operands; where its sums are cut, into the parts, which are then added
    up. A kernel that finishes its sums takes the end's arguments after the operands."""
    variant = variant_of(plan) | macros | ({} if end is None else end.macros())
    written, ends = (result if parts is None else parts), (() if end is None else end.arguments(parts is None))
    operands, extents = arguments[:2], arguments[2:]
    launch = product.define(**variant)[plan.grid(groups), plan.tile.THREADS]
    launch(written, *operands, *ends, *extents, plan.length)
    join(sum_parts.define(**variant), plan, result, parts, end)
