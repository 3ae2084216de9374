"""A convolution over two axes and its gradients as matrix products: how large they are, and the
numbers that their kernels take."""

from __future__ import annotations

from math import gcd, prod

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


def remainders(size, strides):
    """How many remainders the cells of dx leave by the strides, along each axis."""
    return tuple(map(min, strides, size))


def grad_weight(dy, x, *, kernel_size, groups):
    """(M, N, K) of dweight: taps by filters, over all pixels."""
    return prod(kernel_size) * x[-1] // groups, dy[-1] // groups, prod(dy[:-1])


def extents(x, weight, y, strides, padding, dilation, groups):
    """The numbers that the three kernels take, in their order; `weight` is (R, S, C / groups)."""
    (top, _), (left, _) = padding
    N, H, W, C = x
    R, S, channels = weight
    P, Q, K = y[1:]
    return N, H, W, C, P, Q, K, R, S, channels, K // groups, *strides, top, left, *dilation
