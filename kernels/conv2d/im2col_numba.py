"""im2col: copy every patch of x into a row of a matrix; then a convolution is a matrix product, and
products are fast.

    y (N P Q, K)            = columns (N P Q, R S C) · weight (R S C, K)    with  columns = im2col(x)
    dcolumns (N P Q, R S C) = dy (N P Q, K) · weightᵀ (K, R S C)            then  dx = col2im(dcolumns)
    dweight (R S C, K)      = columnsᵀ (R S C, N P Q) · dy (N P Q, K)

A patch holds its values in the order (r, s, c), the order of the weight, so neither is ever
rearranged. The FLOPs are those of the direct kernel, 2 · N P Q K · R S C, but now 16 × 16 values
share what they fetch. The price is memory: columns are about R · S times as large as x (at stride
1), written once and read K / 16 times. The kernels named `implicit_gemm` build the same tiles
without that copy.

A large batch is worked off a few images at a time, so that the columns stay within COLUMNS. Filters
in groups would need a product for each group; such calls are left to the direct kernel.
"""

from __future__ import annotations

import math

import numpy as np

from gpucnn.devices.launch import blocks_1d, ceil_div
from gpucnn.devices.numba_cuda import cuda, numba_function
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight

from ..shared.slices_numba import count_of_slices, join
from ..shared.tiles_numba import TILE, tile_sum
from ..shared.windows_numba import window_at

THREADS = 256

COLUMNS = 1 << 23
"""Values of the columns at a time, 32 MiB: they are read soon after they are written, best while in
the L2 cache. A single image may need more."""


@numba_function
def im2col(columns, x, stride_h, stride_w, top, left, dilation_h, dilation_w):
    """A thread copies one value. Neighbours differ in c, then s: they read and write neighbouring
    places."""
    i = cuda.grid(1)
    if i >= columns.size:
        return
    _, P, Q, R, S, C = columns.shape
    _, H, W, _ = x.shape
    r, s, c = i // (C * S) % R, i // C % S, i % C
    pixel = i // (C * S * R)
    n, p, q = pixel // (Q * P), pixel // Q % P, pixel % Q
    h = p * stride_h + r * dilation_h - top
    w = q * stride_w + s * dilation_w - left
    inside = 0 <= h < H and 0 <= w < W
    columns[n, p, q, r, s, c] = x[n, h, w, c] if inside else np.float32(0)


@numba_function
def col2im(dx, columns, stride_h, stride_w, top, left, dilation_h, dilation_w):
    """The adjoint of im2col: a thread owns one value of dx and gathers it from every patch that
    holds a copy."""
    i = cuda.grid(1)
    if i >= dx.size:
        return
    _, H, W, C = dx.shape
    _, P, Q, R, S, _ = columns.shape
    n, h, w, c = i // (C * W * H), i // (C * W) % H, i // C % W, i % C
    total = np.float32(0)
    for r in range(R):
        p = window_at(h + top - r * dilation_h, stride_h, P)
        if p >= 0:
            for s in range(S):
                q = window_at(w + left - s * dilation_w, stride_w, Q)
                if q >= 0:
                    total += columns[n, p, q, r, s, c]
    dx[n, h, w, c] = total


@numba_function
def product(y, a, b, transpose_a, transpose_b):
    """y[piece] = a · b, summed over one slice of K: y (slices, M, N). One block for each tile of
    y."""
    slices, M, N = y.shape
    K = a.shape[0 if transpose_a else 1]
    tiles_in_row, tiles_in_column = (N + TILE - 1) // TILE, (M + TILE - 1) // TILE
    tile = cuda.blockIdx.x
    n = tile % tiles_in_row * TILE + cuda.threadIdx.x
    m = tile // tiles_in_row % tiles_in_column * TILE + cuda.threadIdx.y
    piece = tile // (tiles_in_row * tiles_in_column)
    # No early return: threads beyond the edge of y help to fetch, and all threads must meet at the
    # barriers.
    total = tile_sum(a, b, m, n, K * piece // slices, K * (piece + 1) // slices, transpose_a, transpose_b)
    if m < M and n < N:
        y[piece, m, n] = total


def _window(strides, padding, dilation):
    """The parameters in the order in which im2col and col2im take them."""
    (top, _), (left, _) = padding
    return *strides, top, left, *dilation


def _multiply(y, a, b, transpose_a=False, transpose_b=False):
    """y = a · b; y is (slices, M, N)."""
    slices, M, N = y.shape
    product[slices * ceil_div(M, TILE) * ceil_div(N, TILE), (TILE, TILE)](y, a, b, transpose_a, transpose_b)


def _few_images(N, columns):
    """The batch, as many images at a time as the columns have room for: (slice of the batch,
    columns for it)."""
    room = columns.shape[0]
    for first in range(0, N, room):
        images = slice(first, min(first + room, N))
        yield images, columns[: images.stop - first]


def ungrouped(*_, groups, **__) -> bool:
    """Only filters that see all channels."""
    return groups == 1


def columns_spec(y: Spec, kernel_size, channels) -> Spec:
    """(images, P, Q, R, S, C) for as many images as fit into COLUMNS, but at least one."""
    N, P, Q, _ = y.shape
    image = P * Q * math.prod(kernel_size) * channels
    return y.like(min(N, max(1, COLUMNS // image)), P, Q, *kernel_size, channels)


def forward_workspace(x: Spec, weight: Spec, **window) -> Spec:
    """The columns of x."""
    return columns_spec(conv2d.outputs(x, weight, **window), weight.shape[:2], weight.shape[2])


@kernel(conv2d, "im2col", "numba", supports=ungrouped, workspace=forward_workspace)
def launch(y, x, weight, columns, *, strides, padding, dilation, groups):
    """y = im2col(x) · weight."""
    K = weight.shape[3]
    patch = weight.size // K  # R S C
    for images, part in _few_images(x.shape[0], columns):
        im2col[blocks_1d(part.size, THREADS), THREADS](part, x[images], *_window(strides, padding, dilation))
        _multiply(y[images].reshape(1, -1, K), part.reshape(-1, patch), weight.reshape(patch, K))


def grad_input_workspace(dy: Spec, weight: Spec, **_) -> Spec:
    """The gradient with respect to the columns."""
    return columns_spec(dy, weight.shape[:2], weight.shape[2])


@kernel(conv2d_grad_input, "im2col", "numba", supports=ungrouped, workspace=grad_input_workspace)
def launch_grad_input(dx, dy, weight, columns, *, size, strides, padding, dilation, groups):
    """dx = col2im(dy · weightᵀ)."""
    K = weight.shape[3]
    patch = weight.size // K
    window = _window(strides, padding, dilation)
    for images, part in _few_images(dy.shape[0], columns):
        _multiply(part.reshape(1, -1, patch), dy[images].reshape(-1, K), weight.reshape(patch, K), transpose_b=True)
        col2im[blocks_1d(dx[images].size, THREADS), THREADS](dx[images], part, *window)


def grad_weight_workspace(dy: Spec, x: Spec, *, kernel_size, **_) -> tuple[Spec, Spec]:
    """The columns of x, and dweight summed over slices of their rows: (slices, R S C, K)."""
    columns = columns_spec(dy, kernel_size, x.shape[3])
    rows, patch, K = math.prod(columns.shape[:3]), math.prod(columns.shape[3:]), dy.shape[3]
    threads = ceil_div(patch, TILE) * ceil_div(K, TILE) * TILE * TILE
    return columns, x.like(count_of_slices(threads, ceil_div(rows, TILE)), patch, K)


@kernel(conv2d_grad_weight, "im2col", "numba", supports=ungrouped, workspace=grad_weight_workspace)
def launch_grad_weight(dweight, dy, x, columns, partial, *, kernel_size, strides, padding, dilation, groups):
    """dweight = im2col(x)ᵀ · dy, summed in slices."""
    _, patch, K = partial.shape
    for images, part in _few_images(dy.shape[0], columns):
        im2col[blocks_1d(part.size, THREADS), THREADS](part, x[images], *_window(strides, padding, dilation))
        _multiply(partial, part.reshape(-1, patch), dy[images].reshape(-1, K), transpose_a=True)
        join(dweight, partial, begin=images.start == 0)
