"""Direct convolution of sequences: the definition, one thread per value of the result. The shortest file to start with.

    y[n, q, k]       = Σ x[n, w, c] · weight[s, c, k]     over s, c     thread: a value of y
    dx[n, w, c]      = Σ dy[n, q, k] · weight[s, c, k]    over s, k     thread: a value of dx
    dweight[s, c, k] = Σ dy[n, q, k] · x[n, w, c]         over n, q     thread: a value and a slice

    where  w = q · stride + s · dilation - before

The three are the same products, added up over different indices. Each costs 2 · N Q K · S C FLOPs and asks for two
floats per multiply-add, 1/4 FLOP per byte; caches serve most of them. `conv2d/direct_numba.py` is this file with one
more axis, `conv3d/direct_numba.py` with two.

Neighbouring threads take neighbouring values of the last axis, the contiguous one. Only for dx do they read the weight
K floats apart; what a sector brings is used in the next turns of the loop over k, if the L1 cache keeps it that long.
Padding is never read: it is zero.
"""

from __future__ import annotations

import math

import numpy as np

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, numba_function
from gpucnn.dispatch.op import Spec
from gpucnn.dispatch.registry import kernel
from gpucnn.ops.conv1d import conv1d, conv1d_grad_input, conv1d_grad_weight

from ..include.slices_numba import count_of_slices, join
from ..include.windows_numba import window_at

THREADS = 128


@numba_function
def conv1d_direct(y, x, weight, stride, before, dilation):
    """The thread owns y[n, q, k]; neighbours differ in k."""
    i = cuda.grid(1)
    if i >= y.size:
        return
    _, Q, K = y.shape
    _, W, channels = x.shape
    S, C, _ = weight.shape  # C: channels of one group
    n, q, k = i // (K * Q), i // K % Q, i % K
    filters = K // (channels // C)  # of one group
    first = k // filters * C  # the channel at which this filter's group begins

    total = np.float32(0)
    for s in range(S):
        w = q * stride + s * dilation - before
        if 0 <= w < W:
            for c in range(C):
                total += x[n, w, first + c] * weight[s, c, k]
    y[n, q, k] = total


@numba_function
def conv1d_grad_input_direct(dx, dy, weight, stride, before, dilation):
    """The thread owns dx[n, w, channel]: a gather, see `include/windows_numba.py`."""
    i = cuda.grid(1)
    if i >= dx.size:
        return
    _, W, channels = dx.shape
    _, Q, K = dy.shape
    S, C, _ = weight.shape
    n, w, channel = i // (channels * W), i // channels % W, i % channels
    filters = K // (channels // C)
    first, c = channel // C * filters, channel % C

    total = np.float32(0)
    for s in range(S):
        q = window_at(w + before - s * dilation, stride, Q)  # the window whose tap s lies on step w
        if q >= 0:
            for k in range(first, first + filters):
                total += dy[n, q, k] * weight[s, c, k]
    dx[n, w, channel] = total


@numba_function
def conv1d_grad_weight_direct(partial, dy, x, stride, before, dilation):
    """The thread owns dweight[s, c, k] of one slice of the sum, see `include/slices_numba.py`."""
    i = cuda.grid(1)
    if i >= partial.size:
        return
    slices, S, C, K = partial.shape
    N, Q, _ = dy.shape
    _, W, channels = x.shape
    piece, s, c, k = i // (K * C * S), i // (K * C) % S, i // K % C, i % K
    filters = K // (channels // C)
    channel = k // filters * C + c

    total = np.float32(0)
    # A slice is a run of the N · Q steps of dy.
    for step in range(N * Q * piece // slices, N * Q * (piece + 1) // slices):
        n, q = step // Q, step % Q
        w = q * stride + s * dilation - before
        if 0 <= w < W:
            total += dy[n, q, k] * x[n, w, channel]
    partial[piece, s, c, k] = total


def _window(strides, padding, dilation):
    """The parameters in the order in which all three kernels take them."""
    return strides[0], padding[0][0], dilation[0]


@kernel(conv1d, "direct", "numba")
def launch(y, x, weight, *, strides, padding, dilation, groups):
    """y = conv1d(x, weight)."""
    conv1d_direct[blocks_1d(y.size, THREADS), THREADS](y, x, weight, *_window(strides, padding, dilation))


@kernel(conv1d_grad_input, "direct", "numba")
def launch_grad_input(dx, dy, weight, *, size, strides, padding, dilation, groups):
    """dx, each value gathered from the windows that met it."""
    window = _window(strides, padding, dilation)
    conv1d_grad_input_direct[blocks_1d(dx.size, THREADS), THREADS](dx, dy, weight, *window)


def partial_sums(dy: Spec, x: Spec, *, kernel_size, groups, **_) -> Spec:
    """(slices, S, C, K): dweight, summed over a slice of the N · Q steps of dy."""
    N, Q, K = dy.shape
    dweight = (*kernel_size, x.shape[2] // groups, K)
    return x.like(count_of_slices(math.prod(dweight), N * Q), *dweight)


@kernel(conv1d_grad_weight, "direct", "numba", workspace=partial_sums)
def launch_grad_weight(dweight, dy, x, partial, *, kernel_size, strides, padding, dilation, groups):
    """dweight: sums over slices of the batch, then the sum of the slices."""
    window = _window(strides, padding, dilation)
    conv1d_grad_weight_direct[blocks_1d(partial.size, THREADS), THREADS](partial, dy, x, *window)
    join(dweight, partial)
