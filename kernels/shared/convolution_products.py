"""A convolution over two axes and its gradients as matrix products: how large they are, and the
numbers that their kernels take."""

from __future__ import annotations

from math import gcd, prod
from typing import NamedTuple

import numpy as np

from gpucnn.devices.launch import ceil_div


def forward(x, weight, *, groups):
    """(M, N, K) of y: pixels by filters, over the taps of the group. `x` stands for any array with
    the pixels of y."""
    return prod(x[:-1]), weight[-1] // groups, prod(weight[:-1])


def grad_input(dy, weight, *, size, strides, dilation, groups):
    """(M, N, K) of dx for the largest remainder of its cells by the strides: its cells by channels,
    over the taps that reach them and the filters of the group."""
    cells = dy[0] * prod(map(ceil_div, size, strides))
    taps = prod(ceil_div(t, s // gcd(s, d)) for t, s, d in zip(weight[:2], strides, dilation, strict=True))
    return cells, weight[2], taps * dy[-1] // groups


def executed_grad_input(plan, dy, weight, *, size, strides, padding, dilation, groups) -> tuple[float, float]:
    """FLOPs of dx, and of the block with most of them, in a kernel that sums each tile of a plan over
    the taps that reach dy from there (`input_gradient.cuh`)."""
    tile, filters, tiles_n = plan.tile, dy[-1] // groups, ceil_div(weight[2], plan.tile.TILE_N)
    slabs, most = 0, 0
    for _, terms in live_terms(plan.tile.TILE_M, dy, weight[:2], size, strides, padding, dilation):
        of_tiles = ceil_div(terms * filters, tile.TILE_K)
        slabs += int(of_tiles.sum())
        most = max(most, int(of_tiles.max(initial=0)))
    of_slab = 2 * tile.TILE_M * tile.TILE_N * tile.TILE_K
    return float(of_slab * slabs * tiles_n * groups), float(of_slab * ceil_div(most, plan.parts))


def live_terms(tile_m, dy, taps, size, strides, padding, dilation):
    """For each remainder of the cells by the strides, how many rows each tile of `tile_m` rows (i, j, n)
    has, and how many taps reach dy from one of them."""
    N, P, Q, _ = dy
    axes = [
        [_remainder(first, *numbers) for first in range(min(numbers[3], numbers[0]))]
        for numbers in zip(size, (P, Q), taps, strides, (before for before, _ in padding), dilation, strict=True)
    ]
    for rows in axes[0]:
        for columns in axes[1]:
            cells = N * rows.cells * columns.cells
            m = np.arange(0, cells, tile_m)
            first, last = m // N, (np.minimum(m + tile_m, cells) - 1) // N
            top, bottom = first // columns.cells, last // columns.cells
            left = np.where(top == bottom, first % columns.cells, 0)
            right = np.where(top == bottom, last % columns.cells, columns.cells - 1)
            yield np.minimum(cells - m, tile_m), rows.live(top, bottom) * columns.live(left, right)


class _Remainder(NamedTuple):
    """`Remainder` of `windows.cuh`, the windows along its axis, and the dilation in windows."""

    cells: int
    taps: int
    origin: int
    windows: int
    dilation: int

    def live(self, low, high):
        """`LiveTaps` of `input_gradient.cuh`."""
        first = np.maximum(ceil_div(self.origin + low - self.windows + 1, self.dilation), 0)
        end = np.minimum((self.origin + high) // self.dilation + 1, self.taps)
        return np.maximum(end - first, 0)


def _remainder(number, size, windows, taps, stride, before, dilation):
    step = stride // gcd(stride, dilation)
    first = next((r for r in range(step) if (number + before - r * dilation) % stride == 0), taps)
    count = ceil_div(taps - first, step) if first < taps else 0
    origin = (number + before - first * dilation) // stride
    return _Remainder(ceil_div(size - number, stride), count, origin, windows, dilation // gcd(stride, dilation))


def padded(padding) -> dict[str, int]:
    """The macro of `windows.cuh` that says whether windows reach beyond an image."""
    return {"PADDED": int(any(map(any, padding)))}


def remainders(size, strides):
    """How many remainders the cells of dx leave by the strides, along each axis."""
    return tuple(map(min, strides, size))


def grad_weight(dy, x, *, kernel_size, groups):
    """(M, N, K) of dweight: taps by filters, over all pixels."""
    return prod(kernel_size) * x[-1] // groups, dy[-1] // groups, prod(dy[:-1])


def window_numbers(strides, padding, dilation):
    """The numbers of windows that kernels take, in their order."""
    (top, _), (left, _) = padding
    return *strides, top, left, *dilation


def extents(x, weight, y, strides, padding, dilation, groups):
    """The numbers that the three kernels take, in their order; `weight` is (R, S, C / groups)."""
    N, H, W, C = x
    R, S, channels = weight
    P, Q, K = y[1:]
    return N, H, W, C, P, Q, K, R, S, channels, K // groups, *window_numbers(strides, padding, dilation)
