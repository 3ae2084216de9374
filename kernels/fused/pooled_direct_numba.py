"""The definitions of a pooled convolution and of its gradients: one thread for each value of a result,
nothing shared.

    y[n, i, j, k]       = f(largest of Σ x[n, h, w, c] · weight[r, s, c, k] + b[k])   over the four (p, q)
    dx[n, h, w, c]      = Σ dy[n, i, j, k] · weight[r, s, c, k]                       over r, s, k
    dweight[r, s, c, k] = Σ dy[n, i, j, k] · x[n, h, w, c],  db[k] = Σ dy[n, i, j, k]  over n, i, j

    where  p = 2 i + cell // 2,  q = 2 j + cell % 2,  h = p · stride + r · dilation - top  and  w alike;
    in the gradients `cell` is index[n, i, j, k], and 4 means that there is none

The gradient of x gathers, so that nobody else writes to a value: for each tap it finds the window that
meets the cell, and the pooling window that this one belongs to. "auto" takes the separate ops instead, whose
products are tiled.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import (
    conv2d_bias_activation_maxpool,
    conv2d_maxpool_grad_input,
    conv2d_maxpool_grad_weight,
)

from ..shared.activations_launch import NUMBERS
from ..shared.activations_numba import value
from ..shared.convolution_products import window_numbers

THREADS = 128
DEAD = 4
RELU = NUMBERS["relu"]


@numba_function
def conv2d_bias_activation_maxpool_direct(
    y, index, x, weight, b, stride_h, stride_w, top, left, dilation_h, dilation_w, function, alpha
):
    """The thread owns y[n, i, j, k]; neighbours differ in k."""
    at = cuda.grid(1)
    if at >= y.size:
        return
    _, rows, columns, K = y.shape
    _, H, W, _ = x.shape
    R, S, C, _ = weight.shape
    n, i, j, k = at // (K * columns * rows), at // (K * columns) % rows, at // K % columns, at % K

    best, first = np.float32(0), 0
    for cell in range(4):
        p, q = 2 * i + cell // 2, 2 * j + cell % 2
        total = np.float32(0)
        for r in range(R):
            h = p * stride_h + r * dilation_h - top
            if 0 <= h < H:
                for s in range(S):
                    w = q * stride_w + s * dilation_w - left
                    if 0 <= w < W:
                        for c in range(C):
                            total += x[n, h, w, c] * weight[r, s, c, k]
        if cell == 0 or (not total <= best and best == best):  # the first NaN stays
            best, first = total, cell
    best += b[k]
    index[n, i, j, k] = DEAD if function == RELU and best <= 0 else first
    y[n, i, j, k] = value(function, best, alpha)


@numba_function
def conv2d_maxpool_grad_input_direct(dx, dy, index, weight, stride_h, stride_w, top, left, dilation_h, dilation_w):
    """The thread owns dx[n, h, w, c]; neighbours differ in c."""
    at = cuda.grid(1)
    if at >= dx.size:
        return
    _, H, W, C = dx.shape
    _, rows, columns, K = dy.shape
    R, S, _, _ = weight.shape
    n, h, w, c = at // (C * W * H), at // (C * W) % H, at // C % W, at % C

    total = np.float32(0)
    for r in range(R):
        down = h + top - r * dilation_h
        p = down // stride_h
        if down % stride_h == 0 and 0 <= p < 2 * rows:
            for s in range(S):
                right = w + left - s * dilation_w
                q = right // stride_w
                if right % stride_w == 0 and 0 <= q < 2 * columns:
                    for k in range(K):
                        if index[n, p // 2, q // 2, k] == p % 2 * 2 + q % 2:
                            total += dy[n, p // 2, q // 2, k] * weight[r, s, c, k]
    dx[n, h, w, c] = total


@numba_function
def conv2d_maxpool_grad_weight_direct(dweight, db, dy, index, x, stride_h, stride_w, top, left, dilation_h, dilation_w):
    """The thread owns dweight[r, s, c, k], or db[k] behind them; neighbours differ in k."""
    at = cuda.grid(1)
    if at >= dweight.size + db.size:
        return
    _, S, C, K = dweight.shape
    _, H, W, _ = x.shape
    N, rows, columns, _ = dy.shape
    r, s, c, k = at // (K * C * S), at // (K * C) % S, at // K % C, at % K

    total = np.float32(0)
    for n in range(N):
        for i in range(rows):
            for j in range(columns):
                cell = index[n, i, j, k]
                if cell < DEAD:
                    if at >= dweight.size:
                        total += dy[n, i, j, k]
                    else:
                        h = (2 * i + cell // 2) * stride_h + r * dilation_h - top
                        w = (2 * j + cell % 2) * stride_w + s * dilation_w - left
                        if 0 <= h < H and 0 <= w < W:
                            total += dy[n, i, j, k] * x[n, h, w, c]
    if at >= dweight.size:
        db[k] = total
    else:
        dweight[r, s, c, k] = total


def pays(*_, **__):
    """Never."""
    return False


@kernel(conv2d_bias_activation_maxpool, "direct", "numba", pays=pays)
def launch(y, index, x, weight, b, *, function, alpha, **window):
    """y, index = the largest of each window, finished, and its cell."""
    conv2d_bias_activation_maxpool_direct[blocks_1d(y.size, THREADS), THREADS](
        y, index, x, weight, b, *window_numbers(**window), NUMBERS[function], alpha
    )


@kernel(conv2d_maxpool_grad_input, "direct", "numba", pays=pays)
def launch_grad_input(dx, dy, index, weight, *, size, **window):
    """dx, gathered."""
    conv2d_maxpool_grad_input_direct[blocks_1d(dx.size, THREADS), THREADS](
        dx, dy, index, weight, *window_numbers(**window)
    )


@kernel(conv2d_maxpool_grad_weight, "direct", "numba", pays=pays)
def launch_grad_weight(dweight, db, dy, index, x, *, kernel_size, **window):
    """dweight and db, a thread for each value of both."""
    conv2d_maxpool_grad_weight_direct[blocks_1d(dweight.size + db.size, THREADS), THREADS](
        dweight, db, dy, index, x, *window_numbers(**window)
    )
