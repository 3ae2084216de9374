"""Direct convolution: the definition, one thread per value of the result and no shared memory. The
baseline to beat.

    y[n, p, q, k]       = Σ x[n, h, w, c] · weight[r, s, c, k]     over r, s, c       thread: a value of y
    dx[n, h, w, c]      = Σ dy[n, p, q, k] · weight[r, s, c, k]    over r, s, k       thread: a value of dx
    dweight[r, s, c, k] = Σ dy[n, p, q, k] · x[n, h, w, c]         over n, p, q       thread: a value and a slice

    where  h = p · stride + r · dilation - top  and  w = q · stride + s · dilation - left

The three are the same products, added up over different indices. Each costs 2 · N P Q K · R S C
FLOPs and loads two floats per multiply-add, 1/4 FLOP per byte; it lives on the caches, where R · S
windows share a pixel and all of them share a weight. Nothing is copied; strides, dilation and
groups are numbers in the formula, not separate cases; and depthwise filters, which reuse little,
leave not much to beat.

Neighbouring threads take neighbouring values of the last axis, the contiguous one. Only for dx do
they read the weight K floats apart; what a sector brings is used in the next turns of the loop over
k, if the L1 cache keeps it that long. Padding is never read: it is zero.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.numba_cuda import cuda, numba_function
from gpucnn.ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight

from ..shared.direct_numba_launch import register
from ..shared.windows_numba import window_at


@numba_function
def conv2d_direct(y, x, weight, stride_h, stride_w, top, left, dilation_h, dilation_w):
    """The thread owns y[n, p, q, k]; neighbours differ in k."""
    i = cuda.grid(1)
    if i >= y.size:
        return
    _, P, Q, K = y.shape
    _, H, W, channels = x.shape
    R, S, C, _ = weight.shape  # C: channels of one group
    n, p, q, k = i // (K * Q * P), i // (K * Q) % P, i // K % Q, i % K
    filters = K // (channels // C)  # of one group
    first = k // filters * C  # the channel at which this filter's group begins

    total = np.float32(0)
    for r in range(R):
        h = p * stride_h + r * dilation_h - top
        if 0 <= h < H:
            for s in range(S):
                w = q * stride_w + s * dilation_w - left
                if 0 <= w < W:
                    for c in range(C):
                        total += x[n, h, w, first + c] * weight[r, s, c, k]
    y[n, p, q, k] = total


@numba_function
def conv2d_grad_input_direct(dx, dy, weight, stride_h, stride_w, top, left, dilation_h, dilation_w):
    """The thread owns dx[n, h, w, channel]: a gather, see `shared/windows_numba.py`."""
    i = cuda.grid(1)
    if i >= dx.size:
        return
    _, H, W, channels = dx.shape
    _, P, Q, K = dy.shape
    R, S, C, _ = weight.shape
    n, h, w, channel = i // (channels * W * H), i // (channels * W) % H, i // channels % W, i % channels
    filters = K // (channels // C)
    first, c = channel // C * filters, channel % C

    total = np.float32(0)
    for r in range(R):
        p = window_at(h + top - r * dilation_h, stride_h, P)  # the window whose tap r lies on row h
        if p >= 0:
            for s in range(S):
                q = window_at(w + left - s * dilation_w, stride_w, Q)
                if q >= 0:
                    for k in range(first, first + filters):
                        total += dy[n, p, q, k] * weight[r, s, c, k]
    dx[n, h, w, channel] = total


@numba_function
def conv2d_grad_weight_direct(partial, dy, x, stride_h, stride_w, top, left, dilation_h, dilation_w):
    """The thread owns dweight[r, s, c, k] of one slice of the sum, see `shared/slices_numba.py`."""
    i = cuda.grid(1)
    if i >= partial.size:
        return
    slices, R, S, C, K = partial.shape
    N, P, Q, _ = dy.shape
    _, H, W, channels = x.shape
    r, s, c, k = i // (K * C * S) % R, i // (K * C) % S, i // K % C, i % K
    piece = i // (K * C * S * R)
    filters = K // (channels // C)
    channel = k // filters * C + c

    total = np.float32(0)
    # A slice is a run of the N · P rows of dy: one division per row, none per pixel.
    for row in range(N * P * piece // slices, N * P * (piece + 1) // slices):
        n, p = row // P, row % P
        h = p * stride_h + r * dilation_h - top
        if 0 <= h < H:
            for q in range(Q):
                w = q * stride_w + s * dilation_w - left
                if 0 <= w < W:
                    total += dy[n, p, q, k] * x[n, h, w, channel]
    partial[piece, r, s, c, k] = total


register(
    __file__,
    {
        conv2d: conv2d_direct,
        conv2d_grad_input: conv2d_grad_input_direct,
        conv2d_grad_weight: conv2d_grad_weight_direct,
    },
)
