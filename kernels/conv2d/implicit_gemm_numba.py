"""Implicit GEMM: the product of `im2col`, register-tiled, whose left matrix is never written.

    y (N P Q, K) = patches of x (N P Q, R S C) · weight (R S C, K)

`im2col` copies every patch to memory and reads it back. Here the threads of a block fetch their
tile of that matrix straight from the images into shared memory. The rest is the product of
`matmul/register_tiled`: 8 × 4 values of y in the registers of each thread.

A thread fetches the same k = (r, s, c) of eight patches. So it needs one place in the filter, which
it moves forward from tile to tile without a division, and for each patch where its first cell lies.

grid: one block for each tile of y, counted row by row. Filters in groups would need a product for
each group; such calls are left to the direct kernel. The gradients are those of `im2col`.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.launch import ceil_div
from gpucnn.devices.numba_cuda import cuda, numba_device, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.conv2d import conv2d

from ..shared.register_tiles_numba import (
    COLUMNS,
    PITCH_A,
    PITCH_B,
    ROWS,
    THREADS,
    TILE_K,
    TILE_M,
    TILE_N,
    fetch,
    k_of,
    locate,
    multiply,
    row_of,
    write,
)


@numba_device
def locate_patches(at, h, w, first, extents, window):
    """For each of the thread's rows: its patch's first cell (h, w), and where that lies in x. The cell
    may be in the padding, before the start of x."""
    M, H, W, C, P, Q = extents
    stride_h, stride_w, top, left = window
    for i in range(ROWS):
        row = min(first + row_of(i, True, TILE_M), M - 1)
        n, p, q = row // (Q * P), row // Q % P, row % Q
        h[i] = p * stride_h - top
        w[i] = q * stride_w - left
        at[i] = ((n * H + h[i]) * W + w[i]) * C


@numba_device
def fetch_patches(tile, x, at, h, w, down, right, offset, H, W):
    """Fetch one tap, `down` and `right` of the first cell, of each of the thread's patches; zeros in the
    padding. (Sums of int32 are int64 in Numba, and comparing those takes twice as many instructions; a
    negative cell is a very large one without its sign.)"""
    for i in range(ROWS):
        inside = np.uint32(h[i] + down) < np.uint32(H) and np.uint32(w[i] + right) < np.uint32(W)
        tile[k_of(i, True, TILE_M), row_of(i, True, TILE_M)] = x[np.uint32(at[i] + offset)] if inside else np.float32(0)


@numba_function
def conv2d_implicit_gemm(y, x, weight, H, W, C, P, Q, R, S, stride_h, stride_w, top, left, dilation_h, dilation_w):
    """The block owns a tile of y (N P Q, K); x and weight are flat."""
    x_tile = cuda.shared.array((TILE_K, PITCH_A), np.float32)
    weight_tile = cuda.shared.array((TILE_K, PITCH_B), np.float32)
    sums = cuda.local.array((ROWS, COLUMNS), np.float32)
    at = cuda.local.array(ROWS, np.int32)
    h = cuda.local.array(ROWS, np.int32)
    w = cuda.local.array(ROWS, np.int32)
    at_weight = cuda.local.array(COLUMNS, np.uint32)
    for i in range(ROWS):
        for j in range(COLUMNS):
            sums[i, j] = np.float32(0)

    M, K = y.shape
    tiles_in_row = (K + TILE_N - 1) // TILE_N
    m = cuda.blockIdx.x // tiles_in_row * TILE_M
    n = cuda.blockIdx.x % tiles_in_row * TILE_N
    locate_patches(at, h, w, m, (M, H, W, C, P, Q), (stride_h, stride_w, top, left))
    locate(at_weight, n, K, K, False, TILE_N)
    r, s, c = 0, 0, k_of(0, True, TILE_M)
    for k in range(0, R * S * C, TILE_K):
        while c >= C:  # on to the next tap
            c -= C
            s += 1
            if s == S:
                r, s = r + 1, 0
        down, right = (r * dilation_h if r < R else H + top), s * dilation_w  # outside beyond the last tap
        offset = (down * W + right) * C + c
        fetch_patches(x_tile, x, at, h, w, down, right, offset, H, W)
        fetch(weight_tile, weight, at_weight, k, R * S * C, K, False, TILE_N)
        cuda.syncthreads()  # waits until both tiles are full
        multiply(sums, x_tile, weight_tile)
        cuda.syncthreads()  # waits until nobody reads the tiles any more: the next turn overwrites them
        c += TILE_K
    write(y, sums, m, n)


def ungrouped(*_, groups, **__) -> bool:
    """Only filters that see all channels."""
    return groups == 1


@kernel(conv2d, "implicit_gemm", "numba", supports=ungrouped)
def launch(y, x, weight, *, strides, padding, dilation, groups):
    """y = patches of x · weight."""
    (_, H, W, C), (_, P, Q, K), (R, S, _, _) = x.shape, y.shape, weight.shape
    (top, _), (left, _) = padding
    rows = y.size // K
    conv2d_implicit_gemm[ceil_div(rows, TILE_M) * ceil_div(K, TILE_N), THREADS](
        y.reshape(rows, K), x.reshape(-1), weight.reshape(-1), H, W, C, P, Q, R, S, *strides, top, left, *dilation
    )
