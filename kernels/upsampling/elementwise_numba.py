"""Enlarging by whole factors, one thread for each value of the result.

    repeat:       y[n, d, h, w] = x[n, d / a, h / b, w / c]        gradient: the sum of a · b · c
    enlarge:      y[n, p, q] = Σ share_p · share_q · x[n, h, w]    gradient: the same shares of dy

Cell o of an axis enlarged by f lies at (2o + 1 - f) / 2f, a fraction that integers hold exactly. A
gradient visits, for each cell, the cells of dy that can lie next to it, in one fixed order.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, numba_device, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.upsampling import enlarge, enlarge_grad, repeat, repeat_grad

THREADS = 256
ZERO, ONE = np.float32(0), np.float32(1)


@numba_device
def place_of(i, shape):
    """The indices of value i of an array of this shape (N, D, H, W, C)."""
    _, D, H, W, C = shape
    channel, rest = i % C, i // C
    w, rest = rest % W, rest // W
    h, rest = rest % H, rest // H
    return rest // D, rest % D, h, w, channel


@numba_device
def pixel_of(i, shape):
    """The same for a shape (N, H, W, C)."""
    _, H, W, C = shape
    channel, rest = i % C, i // C
    w, rest = rest % W, rest // W
    return rest // H, rest % H, w, channel


@numba_function
def repeat_elementwise(y, x, a, b, c):
    i = cuda.grid(1)
    if i >= y.size:
        return
    n, d, h, w, channel = place_of(i, y.shape)
    y[n, d, h, w, channel] = x[n, d // a, h // b, w // c, channel]


@numba_function
def repeat_grad_elementwise(dx, dy, a, b, c):
    i = cuda.grid(1)
    if i >= dx.size:
        return
    n, d, h, w, channel = place_of(i, dx.shape)
    total = ZERO
    for p in range(d * a, (d + 1) * a):
        for q in range(h * b, (h + 1) * b):
            for r in range(w * c, (w + 1) * c):
                total += dy[n, p, q, r, channel]
    dx[n, d, h, w, channel] = total


@numba_device
def place(o, factor, extent):
    """The two cells that cell o of an enlarged axis lies between, and the share of the second."""
    halves = 2 * o + 1 + factor  # counted from one cell before the first, so that it is positive
    cell = halves // (2 * factor) - 1
    share = np.float32(halves % (2 * factor)) / np.float32(2 * factor)
    return max(cell, 0), min(cell + 1, extent - 1), share


@numba_device
def weight(o, factor, extent, cell):
    """The weight of a cell in the value at cell o of an enlarged axis."""
    low, high, share = place(o, factor, extent)
    return (ONE - share if low == cell else ZERO) + (share if high == cell else ZERO)


@numba_function
def enlarge_elementwise(y, x, a, b):
    i = cuda.grid(1)
    if i >= y.size:
        return
    n, p, q, c = pixel_of(i, y.shape)
    top, bottom, down = place(p, a, x.shape[1])
    left, right, along = place(q, b, x.shape[2])
    above = x[n, top, left, c] * (ONE - along) + x[n, top, right, c] * along
    below = x[n, bottom, left, c] * (ONE - along) + x[n, bottom, right, c] * along
    y[n, p, q, c] = above * (ONE - down) + below * down


@numba_function
def enlarge_grad_elementwise(dx, dy, a, b):
    i = cuda.grid(1)
    if i >= dx.size:
        return
    _, H, W, _ = dx.shape
    n, h, w, c = pixel_of(i, dx.shape)
    total = ZERO
    for p in range(max(0, (h - 1) * a), min(H * a, (h + 2) * a)):
        share = weight(p, a, H, h)
        part = ZERO
        for q in range(max(0, (w - 1) * b), min(W * b, (w + 2) * b)):
            part += weight(q, b, W, w) * dy[n, p, q, c]
        total += share * part
    dx[n, h, w, c] = total


def register(op, function):
    @kernel(op, "elementwise", "numba")
    def launch(result, operand, *, size):
        function[blocks_1d(result.size, THREADS), THREADS](result, operand, *size)


register(repeat, repeat_elementwise)
register(repeat_grad, repeat_grad_elementwise)
register(enlarge, enlarge_elementwise)
register(enlarge_grad, enlarge_grad_elementwise)
