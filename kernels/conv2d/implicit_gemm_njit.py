"""Implicit GEMM: patches times filters from offset tables, in register tiles, with no im2col copy.

The forward pass multiplies the patches of x by the filters. The gradient of x is the same product: patches of dy by the
filters turned around. The gradient of the weight is the transposed product, patches of x times dy: a tile of four taps
by sixteen filters stays in registers while the pixels of some rows run by; each slice of the batch has a sum of its own,
and the sums are added in order.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gpucnn import workers
from gpucnn.op import Spec
from gpucnn.ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight
from gpucnn.registry import kernel

from ..include.implicit_gemm import FILTERS, FLOAT32, NONE, SMALL, product, workspace
from ..include.patches import TILE, patches, transposed_patches
from ..include.simd import copy, fma, load, spread, store

_BLOCK = 4096
"""Values of dy that stay in the first-level cache while all tiles meet them."""


def _supports(one: Spec, other: Spec, *, groups: int, **_: object) -> bool:
    return groups == 1 and one.dtype == FLOAT32


def _forward_patches(x: Spec, weight: Spec, strides, padding, dilation):
    return patches(x.shape[1:-1], x.shape[-1], weight.shape[:-2], strides, padding, dilation)


def _workspace(x: Spec, weight: Spec, *, strides, padding, dilation, groups) -> tuple[Spec, ...]:
    return workspace(x.shape[0], weight.shape[-1], _forward_patches(x, weight, strides, padding, dilation))


@kernel(conv2d, "implicit_gemm", "njit", supports=_supports, workspace=_workspace)
def launch(y, x, weight, panels, scratch, *, strides, padding, dilation, groups):
    """y = patches of x times weight."""
    table = _forward_patches(x, weight, strides, padding, dilation)
    product(y, _NO_INDEX, x, weight.reshape(-1, weight.shape[-1]), None, table, NONE, panels, scratch)


_NO_INDEX = np.empty(1, np.uint8)


def _backward_patches(dy: Spec, weight: Spec, size, strides, padding, dilation):
    return transposed_patches(
        size, dy.shape[1:-1], weight.shape[-1], weight.shape[:-2], strides, padding, dilation
    )


def _grad_input_workspace(dy: Spec, weight: Spec, *, size, strides, padding, dilation, groups) -> tuple[Spec, ...]:
    tables = _backward_patches(dy, weight, size, strides, padding, dilation)
    return workspace(dy.shape[0], weight.shape[-2], *(table for table, _ in tables))


@kernel(conv2d_grad_input, "implicit_gemm", "njit", supports=_supports, workspace=_grad_input_workspace)
def launch_grad_input(dx, dy, weight, panels, scratch, *, size, strides, padding, dilation, groups):
    """dx = patches of dy times the filters, for each remainder of the cells by the stride."""
    for table, taps in _backward_patches(dy, weight, size, strides, padding, dilation):
        filters = weight[np.ix_(*taps)].swapaxes(-1, -2).reshape(-1, weight.shape[-2])
        product(dx, _NO_INDEX, dy, filters, None, table, NONE, panels, scratch)


def _grad_weight_workspace(dy: Spec, x: Spec, *, kernel_size, strides, padding, dilation, groups) -> tuple[Spec, ...]:
    table = patches(x.shape[1:-1], x.shape[-1], kernel_size, strides, padding, dilation)
    slices, tiles, panels = len(workers.slices(x.shape[0])), -(-len(table.taps) // TILE), -(-dy.shape[-1] // FILTERS)
    size = table.size * table.padded
    aligned = dy.shape[-1] % FILTERS == 0
    return (
        Spec((slices, tiles, panels, TILE, FILTERS), FLOAT32),
        Spec((slices, size), FLOAT32),
        Spec((slices, 0 if aligned else table.count * panels * FILTERS), FLOAT32),
    )


@kernel(conv2d_grad_weight, "implicit_gemm", "njit", supports=_supports, workspace=_grad_weight_workspace)
def launch_grad_weight(dweight, dy, x, sums, images, filled, *, kernel_size, strides, padding, dilation, groups):
    """dweight = transposed patches of x times dy, one sum for each slice of the batch."""
    table = patches(x.shape[1:-1], x.shape[-1], kernel_size, strides, padding, dilation)
    filters = dy.shape[-1]
    taps = np.concatenate([table.taps, np.repeat(table.taps[-1:], -len(table.taps) % TILE)])
    shape = np.array([table.line, table.padded, table.count, filters, max(TILE, _BLOCK // filters)])
    slices = workers.slices(len(x))
    flat_dy, flat_x = dy.reshape(-1), x.reshape(-1)

    def task(i: int) -> None:
        sums[i] = 0
        _transposed_tiles(
            sums[i].reshape(-1), flat_dy, flat_x, images[i], filled[i], table.rows, table.pixels, taps, shape,
            slices[i].start, slices[i].stop,
        )  # fmt: skip

    workers.run(task, len(slices), parallel=2 * dy.size * len(table.taps) > SMALL)
    total = np.add.reduce(sums, axis=0).swapaxes(1, 2).reshape(len(taps), -1)
    dweight.reshape(-1, filters)[...] = total[: len(table.taps), :filters]


@njit(nogil=True, cache=True, error_model="numpy")
def _transposed_tiles(sums, dy, x, image, filled, rows, pixels, taps, shape, first, last):
    """Add the images first … last - 1 to sums (tiles of taps, panels, 4, 16)."""
    line, padded, count, filters, block = shape[0], shape[1], shape[2], shape[3], shape[4]
    panels = (filters + 15) // 16
    width = filters
    source, factors = x, dy
    if padded:
        source = image
        image[:] = np.float32(0)
    if filled.shape[0]:
        factors = filled
        filled[:] = np.float32(0)
        width = 16 * panels
    for n in range(first, last):
        origin = 0
        start = 0
        if padded:
            for h in range(rows.shape[0]):
                copy(image, rows[h], x, (n * rows.shape[0] + h) * line, line)
        else:
            origin = n * rows.shape[0] * line
        if filled.shape[0]:
            for i in range(count):
                copy(filled, i * width, dy, (n * count + i) * filters, filters)
        else:
            start = n * count * filters
        for part in range((count + block - 1) // block):
            end = min(count, (part + 1) * block)
            for tile in range(taps.shape[0] // 4):
                t0, t1, t2, t3 = taps[4 * tile], taps[4 * tile + 1], taps[4 * tile + 2], taps[4 * tile + 3]
                for panel in range(panels):
                    j = 64 * (tile * panels + panel)
                    a0, b0 = load(sums, j), load(sums, j + 8)
                    a1, b1 = load(sums, j + 16), load(sums, j + 24)
                    a2, b2 = load(sums, j + 32), load(sums, j + 40)
                    a3, b3 = load(sums, j + 48), load(sums, j + 56)
                    k = start + 16 * panel + part * block * width
                    for i in range(part * block, end):
                        p = origin + pixels[i]
                        g0, g1 = load(factors, k), load(factors, k + 8)
                        k += width
                        s = spread(source, p + t0)
                        a0, b0 = fma(s, g0, a0), fma(s, g1, b0)
                        s = spread(source, p + t1)
                        a1, b1 = fma(s, g0, a1), fma(s, g1, b1)
                        s = spread(source, p + t2)
                        a2, b2 = fma(s, g0, a2), fma(s, g1, b2)
                        s = spread(source, p + t3)
                        a3, b3 = fma(s, g0, a3), fma(s, g1, b3)
                    store(sums, j, a0)
                    store(sums, j + 8, b0)
                    store(sums, j + 16, a1)
                    store(sums, j + 24, b1)
                    store(sums, j + 32, a2)
                    store(sums, j + 40, b2)
                    store(sums, j + 48, a3)
                    store(sums, j + 56, b3)
