"""The gradient of the weight of a convolution at stride 1 on tensor cores, with each cell of the images in
shared memory once.

`tensor` brings a cell to shared memory for each tap that meets it, and multiplies 384 rows where the taps of 32
channels are 288. Here a block has all taps of 32 channels and 32 filters; it goes through rows of
windows, whose cells it brings to shared memory once, already as factors.

A filter has at most 3 columns in float32, else 6: a warp has their sums in registers.
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import NamedTuple

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch import precision
from gpucnn.dispatch.op import kernel
from gpucnn.dispatch.precision import PRECISIONS
from gpucnn.ops.conv2d import conv2d_grad_weight

from ..shared.convolution_products import window_numbers
from ..shared.gemm_launch import MULTIPROCESSORS, Plan, join
from ..shared.halo_launch import serves
from ..shared.tensor_launch import FACTOR_BITS

BLOCK, SLAB = 32, 16
"""Channels and filters of a block, and windows that it multiplies at once; as in `halo_weight_cuda.cu`."""

CELL = BLOCK + 8
"""Words between cells."""

MOST_COLUMNS, MOST_ROWS = {precision.FLOAT32: 3, precision.TF32: 6, precision.BFLOAT16: 6}, 7
"""Of a filter, by precision, and in each."""

SHARED_BYTES = 96 * 1024
"""Of a block, on GPUs with tensor cores that multiply TF32."""

ALL_SHARED_BYTES, BLOCK_SHARED_BYTES = 227 * 1024, 1024
"""Of a multiprocessor of a large GPU, and what each block takes besides its own."""

ALL_REGISTERS = 65536
"""Of a multiprocessor."""

LEAST_WINDOWS = 65536
"""With fewer, blocks spend their time in starting and ending."""

DEFAULT = {"FACTOR_BITS": 32, "THREADS": 192, "TAPS": 3, "WARP_C": 32, "SLICES": 2, "RESIDENT_BLOCKS": 2}

conv2d_grad_weight_halo = cuda_function(__file__, "conv2d_grad_weight_halo", **DEFAULT)
sum_parts = cuda_function(__file__, "sum_parts", **DEFAULT)


class WeightPlan(NamedTuple):
    """The macros, how many rows of windows are a tile, how many tiles a part has, the grid, and the shared memory
    of a block."""

    macros: dict[str, int]
    high: int
    of_part: int
    blocks: int
    parts: int
    shared_bytes: int


@cache
def plan_of(images, P, Q, R, S, dilation_h, dilation_w, C, K, in_force) -> WeightPlan | None:
    """None if a row of windows does not fit."""
    arrays = 2 if in_force == precision.FLOAT32 else 1
    channels = BLOCK if S <= 3 and arrays == 1 else BLOCK // 2
    warps = R * BLOCK // channels
    slices = max(1, 6 // warps)
    threads = 32 * warps * slices
    columns, span = Q + (S - 1) * dilation_w, (R - 1) * dilation_h
    sums = 0 if slices == 1 else 4 * warps * 32 * S * channels
    layouts = []
    for tiles in range(1, P + 1):
        high = ceil_div(P, tiles)
        windows = ceil_div(high * columns, SLAB * slices) * SLAB * slices
        cells = ceil_div(high * columns, SLAB) * SLAB + span * columns + (S - 1) * dilation_w
        nbytes = max(4 * arrays * (cells * CELL + ceil_div(high * columns, SLAB) * SLAB * BLOCK), sums)
        if nbytes <= SHARED_BYTES:
            layouts.append((ceil_div(P, high) * (2 * windows + cells), high, nbytes))
    if not layouts or threads > 1024:
        return None
    _, high, nbytes = min(layouts)
    registers = 128 if S * channels <= 64 else 168
    fitting = min(ALL_SHARED_BYTES // (nbytes + BLOCK_SHARED_BYTES), ALL_REGISTERS // (threads * registers))
    resident = max(1, fitting)
    blocks, tiles = ceil_div(C, BLOCK) * ceil_div(K, BLOCK), images * ceil_div(P, high)
    of_part = ceil_div(tiles, max(1, resident * MULTIPROCESSORS // blocks))
    macros = {
        "FACTOR_BITS": FACTOR_BITS[in_force],
        "THREADS": threads,
        "TAPS": S,
        "WARP_C": channels,
        "SLICES": slices,
        "RESIDENT_BLOCKS": resident,
    }
    return WeightPlan(macros, high, of_part, blocks, ceil_div(tiles, of_part), nbytes)


def planned(dy, x, *, kernel_size, dilation, **_) -> WeightPlan | None:
    """The plan of dweight."""
    images, P, Q, K = dy.shape
    return plan_of(images, P, Q, *kernel_size, *dilation, x.shape[-1], K, precision.in_force())


def supports(dy, x, *, kernel_size, strides, groups, **window):
    """Float32, quads of channels and of filters, stride 1, filters of few columns, rows that fit."""
    R, S = kernel_size
    if groups != 1 or R > MOST_ROWS or MOST_COLUMNS[precision.in_force()] < S:
        return False
    served = serves(dy.dtype, x.shape[-1], dy.shape[-1], strides=strides)
    return served and planned(dy, x, kernel_size=kernel_size, **window) is not None


def pays(dy, x, **_):
    """Where `tensor` was measured to take longer: one block of channels and filters, whose windows keep all
    multiprocessors busy. On an H100, cifar's takes 178 µs instead of 227, and 105 instead of 209 in TF32; two
    blocks take as long as `tensor`, four a quarter longer."""
    return x.shape[-1] == dy.shape[-1] == BLOCK and prod(dy.shape[:3]) >= LEAST_WINDOWS


def product_of(plan: WeightPlan) -> Plan:
    """As those that add up parts take it."""
    return Plan(None, plan.blocks, plan.parts, plan.of_part)


def workspace(dy, x, *, kernel_size, **window):
    """The parts of dweight."""
    plan = planned(dy, x, kernel_size=kernel_size, **window)
    return product_of(plan).workspace(prod(kernel_size) * x.shape[-1] * dy.shape[-1])


@kernel(
    conv2d_grad_weight,
    "halo",
    "cuda",
    supports=supports,
    pays=pays,
    workspace=workspace,
    precisions=PRECISIONS,
)
def launch(dweight, dy, x, parts=None, *, kernel_size, strides, padding, dilation, groups):
    """dweight = transposed patches of x · dy."""
    plan = planned(dy, x, kernel_size=kernel_size, dilation=dilation)
    numbers = window_numbers(strides, padding, dilation)[2:]
    conv2d_grad_weight_halo.define(**plan.macros)[(plan.blocks, plan.parts), plan.macros["THREADS"], plan.shared_bytes](
        dweight if parts is None else parts,
        dy,
        x,
        *x.shape,
        *dy.shape[1:],
        kernel_size[0],
        *numbers,
        plan.high,
        plan.of_part,
    )
    join(sum_parts.define(**plan.macros), product_of(plan), dweight, parts)
