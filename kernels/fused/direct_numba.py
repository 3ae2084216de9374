"""Bias, activation and dropout at the end of the definitions, and the gradients of weight and bias of a
convolution: one thread for each value of a result, nothing shared.

    y[n, p, q, k]       = f(Σ x[n, h, w, c] · weight[r, s, c, k] + b[k])             over r, s, c
    dweight[r, s, c, k] = Σ dz[n, p, q, k] · x[n, h, w, c],  db[k] = Σ dz[n, p, q, k]  over n, p, q
    y[m, n]             = f(Σ x[m, k] · weight[k, n] + b[n])                         over k

    where  h = p · stride + r · dilation - top,  w = q · stride + s · dilation - left,
           dz = scale · dy · slope of f at y

The slow and obvious form of the ops: two floats loaded for each multiply-add, 1/4 FLOP per byte.
It has what a fused op is for: the sum is finished in its register and written once. A tiled product
and a pass over its result for bias and activation are faster, so "auto" takes these instead.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, numba_device, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.dropout import scale as scale_of
from gpucnn.ops.dropout import threshold as threshold_of
from gpucnn.ops.fused import (
    conv2d_bias_activation,
    conv2d_bias_activation_dropout,
    conv2d_bias_activation_grad_weight,
    matmul_bias_activation,
    matmul_bias_activation_dropout,
)

from ..shared.activations_launch import NUMBERS
from ..shared.activations_numba import gradient_at_result, value
from ..shared.convolution_products import window_numbers
from ..shared.philox_numba import DROPOUT, kept, key, word_of

THREADS = 128


@numba_device
def sum_of_window(i, x, weight, P, Q, stride_h, stride_w, top, left, dilation_h, dilation_w):
    """Value i of the convolution, of P × Q windows an image."""
    _, H, W, _ = x.shape
    R, S, C, K = weight.shape
    n, p, q, k = i // (K * Q * P), i // (K * Q) % P, i // K % Q, i % K

    total = np.float32(0)
    for r in range(R):
        h = p * stride_h + r * dilation_h - top
        if 0 <= h < H:
            for s in range(S):
                w = q * stride_w + s * dilation_w - left
                if 0 <= w < W:
                    for c in range(C):
                        total += x[n, h, w, c] * weight[r, s, c, k]
    return total


@numba_function
def conv2d_bias_activation_direct(
    y, x, weight, b, P, Q, stride_h, stride_w, top, left, dilation_h, dilation_w, function, alpha
):
    """The thread owns y[i], y flat; neighbours differ in k."""
    i = cuda.grid(1)
    if i < y.size:
        total = sum_of_window(i, x, weight, P, Q, stride_h, stride_w, top, left, dilation_h, dilation_w)
        y[i] = value(function, total + b[i % b.size], alpha)


@numba_function
def conv2d_bias_activation_dropout_direct(
    y, x, weight, b, P, Q, stride_h, stride_w, top, left, dilation_h, dilation_w, function, alpha,
    step, threshold, scale, seed, stream, counter,
):  # fmt: skip
    """The same, dropped."""
    i = cuda.grid(1)
    if i < y.size:
        total = sum_of_window(i, x, weight, P, Q, stride_h, stride_w, top, left, dilation_h, dilation_w)
        random_word = word_of(i, counter, step[0], stream, DROPOUT, seed)
        y[i] = kept(value(function, total + b[i % b.size], alpha), random_word, threshold, scale)


@numba_function
def conv2d_bias_activation_grad_weight_direct(
    dweight, db, dy, y, x, stride_h, stride_w, top, left, dilation_h, dilation_w, function, alpha, scale
):
    """The thread owns dweight[r, s, c, k], or db[k] behind them; neighbours differ in k."""
    at = cuda.grid(1)
    if at >= dweight.size + db.size:
        return
    _, S, C, K = dweight.shape
    _, H, W, _ = x.shape
    N, P, Q, _ = dy.shape
    r, s, c, k = at // (K * C * S), at // (K * C) % S, at // K % C, at % K

    total = np.float32(0)
    for n in range(N):
        for p in range(P):
            for q in range(Q):
                dz = gradient_at_result(function, scale * dy[n, p, q, k], y[n, p, q, k], alpha)
                h, w = p * stride_h + r * dilation_h - top, q * stride_w + s * dilation_w - left
                if at >= dweight.size:
                    total += dz
                elif 0 <= h < H and 0 <= w < W:
                    total += dz * x[n, h, w, c]
    if at >= dweight.size:
        db[k] = total
    else:
        dweight[r, s, c, k] = total


@numba_device
def sum_of_row(i, x, weight):
    """Value i of the product."""
    m, n = i // weight.shape[1], i % weight.shape[1]
    total = np.float32(0)
    for k in range(x.shape[1]):
        total += x[m, k] * weight[k, n]
    return total


@numba_function
def matmul_bias_activation_direct(y, x, weight, b, function, alpha):
    """The thread owns y[i], y flat; neighbours differ in the column."""
    i = cuda.grid(1)
    if i < y.size:
        y[i] = value(function, sum_of_row(i, x, weight) + b[i % b.size], alpha)


@numba_function
def matmul_bias_activation_dropout_direct(
    y, x, weight, b, function, alpha, step, threshold, scale, seed, stream, counter
):
    """The same, dropped."""
    i = cuda.grid(1)
    if i < y.size:
        random_word = word_of(i, counter, step[0], stream, DROPOUT, seed)
        y[i] = kept(value(function, sum_of_row(i, x, weight) + b[i % b.size], alpha), random_word, threshold, scale)


def supports(x, weight, b, *, keep_input, groups=1, **_):
    """One result, one group."""
    return not keep_input and groups == 1


def pays(*_, **__):
    """Never."""
    return False


def draws(step, rate, seed, stream, counter):
    """The arguments of a kernel that drops values."""
    return step, np.uint64(threshold_of(rate)), scale_of(rate), *key(seed, stream), np.int64(counter)


@kernel(conv2d_bias_activation, "direct", "numba", supports=supports, pays=pays)
def launch(y, x, weight, b, *, function, alpha, keep_input, **window):
    numbers = *y.shape[1:3], *window_numbers(**window), NUMBERS[function], alpha
    conv2d_bias_activation_direct[blocks_1d(y.size, THREADS), THREADS](y.reshape(-1), x, weight, b, *numbers)


@kernel(conv2d_bias_activation_dropout, "direct", "numba", pays=pays)
def launch_dropped(y, x, weight, b, step, *, function, alpha, rate, seed, stream, counter=0, **window):
    numbers = *y.shape[1:3], *window_numbers(**window), NUMBERS[function], alpha
    conv2d_bias_activation_dropout_direct[blocks_1d(y.size, THREADS), THREADS](
        y.reshape(-1), x, weight, b, *numbers, *draws(step, rate, seed, stream, counter)
    )


@kernel(conv2d_bias_activation_grad_weight, "direct", "numba", pays=pays)
def launch_grad_weight(dweight, db, dy, y, x, *, function, alpha, kernel_size, scale=1.0, **window):
    """dweight and db, a thread for each value of both."""
    conv2d_bias_activation_grad_weight_direct[blocks_1d(dweight.size + db.size, THREADS), THREADS](
        dweight, db, dy, y, x, *window_numbers(**window), NUMBERS[function], alpha, scale
    )


@kernel(matmul_bias_activation, "direct", "numba", supports=supports, pays=pays)
def launch_dense(y, x, weight, b, *, function, alpha, keep_input):
    numbers = NUMBERS[function], alpha
    matmul_bias_activation_direct[blocks_1d(y.size, THREADS), THREADS](y.reshape(-1), x, weight, b, *numbers)


@kernel(matmul_bias_activation_dropout, "direct", "numba", pays=pays)
def launch_dense_dropped(y, x, weight, b, step, *, function, alpha, rate, seed, stream, counter=0):
    matmul_bias_activation_dropout_direct[blocks_1d(y.size, THREADS), THREADS](
        *(y.reshape(-1), x, weight, b, NUMBERS[function], alpha), *draws(step, rate, seed, stream, counter)
    )
