"""Direct convolution of volumes: the definition, one thread per value of the result and no shared
memory.

    y[n, o, p, q, k]       = Σ x[n, d, h, w, c] · weight[t, r, s, c, k]     over t, r, s, c   thread: a value of y
    dx[n, d, h, w, c]      = Σ dy[n, o, p, q, k] · weight[t, r, s, c, k]    over t, r, s, k   thread: a value of dx
    dweight[t, r, s, c, k] = Σ dy[n, o, p, q, k] · x[n, d, h, w, c]         over n, o, p, q   thread: a value, a slice

    where  d = o · stride + t · dilation - front,  h = p · stride + r · dilation - top  and  w likewise

This is `conv2d/direct_numba.py` with one more axis; read that first. Each costs 2 · N O P Q K · T R
S C FLOPs and loads two floats per multiply-add. A copy of the patches would be T · R · S times as
large as x, 27 times for filters of 3 × 3 × 3, so not needing one counts for more here than over
images.

Neighbouring threads take neighbouring values of the last axis, the contiguous one. Only for dx do
they read the weight K floats apart; what a sector brings is used in the next turns of the loop over
k, if the L1 cache keeps it that long. Padding is never read: it is zero.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.numba_cuda import cuda, numba_function
from gpucnn.ops.conv3d import conv3d, conv3d_grad_input, conv3d_grad_weight

from ..shared.direct_numba_launch import register
from ..shared.windows_numba import window_at


@numba_function
def conv3d_direct(y, x, weight, stride_d, stride_h, stride_w, front, top, left, dilation_d, dilation_h, dilation_w):
    """The thread owns y[n, o, p, q, k]; neighbours differ in k."""
    i = cuda.grid(1)
    if i >= y.size:
        return
    _, O, P, Q, K = y.shape  # noqa: E741
    _, D, H, W, channels = x.shape
    T, R, S, C, _ = weight.shape  # C: channels of one group
    p, q, k = i // (K * Q) % P, i // K % Q, i % K
    n, o = i // (K * Q * P * O), i // (K * Q * P) % O
    filters = K // (channels // C)  # of one group
    first = k // filters * C  # the channel at which this filter's group begins

    total = np.float32(0)
    for t in range(T):
        d = o * stride_d + t * dilation_d - front
        if 0 <= d < D:
            for r in range(R):
                h = p * stride_h + r * dilation_h - top
                if 0 <= h < H:
                    for s in range(S):
                        w = q * stride_w + s * dilation_w - left
                        if 0 <= w < W:
                            for c in range(C):
                                total += x[n, d, h, w, first + c] * weight[t, r, s, c, k]
    y[n, o, p, q, k] = total


@numba_function
def conv3d_grad_input_direct(
    dx, dy, weight, stride_d, stride_h, stride_w, front, top, left, dilation_d, dilation_h, dilation_w
):
    """The thread owns dx[n, d, h, w, channel]: a gather, see `shared/windows_numba.py`."""
    i = cuda.grid(1)
    if i >= dx.size:
        return
    _, D, H, W, channels = dx.shape
    _, O, P, Q, K = dy.shape  # noqa: E741
    T, R, S, C, _ = weight.shape
    h, w, channel = i // (channels * W) % H, i // channels % W, i % channels
    n, d = i // (channels * W * H * D), i // (channels * W * H) % D
    filters = K // (channels // C)
    first, c = channel // C * filters, channel % C

    total = np.float32(0)
    for t in range(T):
        o = window_at(d + front - t * dilation_d, stride_d, O)  # the window whose tap t lies on plane d
        if o >= 0:
            for r in range(R):
                p = window_at(h + top - r * dilation_h, stride_h, P)
                if p >= 0:
                    for s in range(S):
                        q = window_at(w + left - s * dilation_w, stride_w, Q)
                        if q >= 0:
                            for k in range(first, first + filters):
                                total += dy[n, o, p, q, k] * weight[t, r, s, c, k]
    dx[n, d, h, w, channel] = total


@numba_function
def conv3d_grad_weight_direct(
    partial, dy, x, stride_d, stride_h, stride_w, front, top, left, dilation_d, dilation_h, dilation_w
):
    """The thread owns dweight[t, r, s, c, k] of one slice of the sum, see
    `shared/slices_numba.py`."""
    i = cuda.grid(1)
    if i >= partial.size:
        return
    slices, T, R, S, C, K = partial.shape
    N, O, P, Q, _ = dy.shape  # noqa: E741
    _, D, H, W, channels = x.shape
    s, c, k = i // (K * C) % S, i // K % C, i % K
    piece, t, r = i // (K * C * S * R * T), i // (K * C * S * R) % T, i // (K * C * S) % R
    filters = K // (channels // C)
    channel = k // filters * C + c

    total = np.float32(0)
    # A slice is a run of the N · O · P rows of dy: two divisions per row, none per cell.
    for row in range(N * O * P * piece // slices, N * O * P * (piece + 1) // slices):
        n, o, p = row // (P * O), row // P % O, row % P
        d = o * stride_d + t * dilation_d - front
        h = p * stride_h + r * dilation_h - top
        if 0 <= d < D and 0 <= h < H:
            for q in range(Q):
                w = q * stride_w + s * dilation_w - left
                if 0 <= w < W:
                    total += dy[n, o, p, q, k] * x[n, d, h, w, channel]
    partial[piece, t, r, s, c, k] = total


register(
    __file__,
    {
        conv3d: conv3d_direct,
        conv3d_grad_input: conv3d_grad_input_direct,
        conv3d_grad_weight: conv3d_grad_weight_direct,
    },
)
