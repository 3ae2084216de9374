"""The launches of `conv2d/direct_cuda` and `conv3d/direct_cuda`, whose device code is
`include/direct.cuh`.

One plan serves convolutions over any number of axes: each axis adds six numbers to a launch.
"""

from __future__ import annotations

import math
from itertools import chain

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import blocks_1d, ceil_div
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import Op, kernel

from .column_sums_launch import join

THREADS = 128

WINDOWS = 4
"""Positions of a thread along the last axis, and its rows of dweight, as in `direct.cuh`."""

RESIDENT_THREADS = 1 << 17
"""Threads that keep a large GPU busy: half of what the 132 multiprocessors of an H100 hold at a
time."""

MOST_SLICES = 1024
"""Slices beyond which adding them up would cost more than they save."""

SHORTEST_SLICE = 16
"""Positions below which a thread would spend more on finding its place than on summing."""


def register(file: str, conv: Op, conv_grad_input: Op, conv_grad_weight: Op) -> None:
    """Register the kernels of one family: `file` is its kernel file, next to a .cu with a kernel
    for each op."""
    names = (
        *(f"{op.name}_direct" for op in (conv, conv_grad_input, conv_grad_weight)),
        "exchange_filters",
        "join_slices",
    )
    of_y, of_dx, of_dweight, exchange, join_slices = (cuda_function(file, name, THREADS=THREADS) for name in names)

    @kernel(conv, "direct", "cuda", file=file)
    def launch(y, x, weight, **window):
        forward(of_y, y, x, weight, **window)

    @kernel(conv_grad_input, "direct", "cuda", file=file, workspace=exchanged_filters)
    def launch_grad_input(dx, dy, weight, exchanged, *, size, **window):
        grad_input(of_dx, exchange, dx, dy, weight, exchanged, **window)

    @kernel(conv_grad_weight, "direct", "cuda", file=file, workspace=partial_sums)
    def launch_grad_weight(dweight, dy, x, partial, *, kernel_size, **window):
        grad_weight(of_dweight, join_slices, dweight, dy, x, partial, **window)


def forward(function, y, x, weight, *, groups, **window):
    """y = conv(x, weight)."""
    values = _values(weight.shape[-1] // groups)
    tiles = math.prod(y.shape[:-2]) * ceil_div(y.shape[-2], WINDOWS)
    grid = blocks_1d(tiles * (y.shape[-1] // values), THREADS)
    extents = _extents(x.shape, weight.shape[:-2], y.shape, groups, **window)
    function.define(VALUES=values)[grid, THREADS](y, x, weight, *extents)


def exchanged_filters(dy: Spec, weight: Spec, *, groups, **_) -> Spec:
    """(…, K / groups, C): the weights with channels last, for `grad_input`."""
    *taps, C, K = weight.shape
    return weight.like(*taps, K // groups, C * groups)


def grad_input(function, exchange, dx, dy, weight, exchanged, *, groups, strides, **window):
    """dx = conv_grad_input(dy, weight)."""
    *taps, C, K = weight.shape
    values = _values(C)
    exchange = exchange.define(VALUES=values)
    exchange[blocks_1d(weight.size, THREADS), THREADS](exchanged, weight, math.prod(taps), C * groups, K, groups)

    remainders = min(strides[-1], dx.shape[-2])
    tiles = math.prod(dx.shape[:-2]) * remainders * ceil_div(ceil_div(dx.shape[-2], remainders), WINDOWS)
    grid = blocks_1d(tiles * (dx.shape[-1] // values), THREADS)
    extents = _extents(dx.shape, taps, dy.shape, groups, strides=strides, **window)
    function.define(VALUES=values)[grid, THREADS](dx, dy, exchanged, *extents)


def partial_sums(dy: Spec, x: Spec, *, kernel_size, groups, **_) -> Spec:
    """(slices, …, C / groups, K): dweight, summed over a slice of the positions of dy."""
    rows, K = math.prod(kernel_size) * (x.shape[-1] // groups), dy.shape[-1]
    threads = ceil_div(rows, WINDOWS) * (K // _values(K // groups))
    slices = min(MOST_SLICES, ceil_div(RESIDENT_THREADS, threads), ceil_div(math.prod(dy.shape[:-1]), SHORTEST_SLICE))
    return x.like(slices, *kernel_size, x.shape[-1] // groups, K)


def grad_weight(function, join_slices, dweight, dy, x, partial, *, groups, **window):
    """dweight = conv_grad_weight(dy, x)."""
    (slices, *taps, C, K), values = partial.shape, _values(dweight.shape[-1] // groups)
    grid = blocks_1d(slices * ceil_div(math.prod(taps) * C, WINDOWS) * (K // values), THREADS)
    extents = _extents(x.shape, taps, dy.shape, groups, **window)
    function.define(VALUES=values)[grid, THREADS](partial, dy, x, slices, *extents)
    join(join_slices.define(VALUES=values), dweight.reshape(-1), partial.reshape(slices, -1))


def _values(neighbours):
    """How many neighbouring filters or channels of one group a thread takes: what one load of 16
    bytes brings."""
    return 4 if neighbours % 4 == 0 else 1


def _extents(x, taps, y, groups, *, strides, padding, dilation):
    """N, C, K, groups; then of each axis the cells, taps, windows, stride, dilation, and cells of
    padding before it."""
    axes = zip(x[1:-1], taps, y[1:-1], strides, dilation, (before for before, _ in padding), strict=True)
    return x[0], x[-1], y[-1], groups, *chain.from_iterable(axes)
