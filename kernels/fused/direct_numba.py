"""Bias and activation at the end of the definitions, and the gradients of weight and bias of a convolution:
one thread for each value of a result, nothing shared.

    y[n, p, q, k]       = f(Σ x[n, h, w, c] · weight[r, s, c, k] + b[k])             over r, s, c
    dweight[r, s, c, k] = Σ dz[n, p, q, k] · x[n, h, w, c],  db[k] = Σ dz[n, p, q, k]  over n, p, q
    y[m, n]             = f(Σ x[m, k] · weight[k, n] + b[n])                         over k

    where  h = p · stride + r · dilation - top,  w = q · stride + s · dilation - left,
           dz = dy · slope of f at y

The slow and obvious form of the ops: two floats loaded for each multiply-add, 1/4 FLOP per byte.
It has what a fused op is for: the sum is finished in its register and written once. A tiled product
and a pass over its result for bias and activation are faster, so "auto" takes these instead.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import conv2d_bias_activation, conv2d_bias_activation_grad_weight, matmul_bias_activation

from ..shared.activations_launch import NUMBERS
from ..shared.activations_numba import gradient_at_result, value
from ..shared.convolution_products import window_numbers

THREADS = 128


@numba_function
def conv2d_bias_activation_direct(
    y, x, weight, b, stride_h, stride_w, top, left, dilation_h, dilation_w, function, alpha
):
    """The thread owns y[n, p, q, k]; neighbours differ in k."""
    i = cuda.grid(1)
    if i >= y.size:
        return
    _, P, Q, K = y.shape
    _, H, W, _ = x.shape
    R, S, C, _ = weight.shape
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
    y[n, p, q, k] = value(function, total + b[k], alpha)


@numba_function
def conv2d_bias_activation_grad_weight_direct(
    dweight, db, dy, y, x, stride_h, stride_w, top, left, dilation_h, dilation_w, function, alpha
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
                dz = gradient_at_result(function, dy[n, p, q, k], y[n, p, q, k], alpha)
                h, w = p * stride_h + r * dilation_h - top, q * stride_w + s * dilation_w - left
                if at >= dweight.size:
                    total += dz
                elif 0 <= h < H and 0 <= w < W:
                    total += dz * x[n, h, w, c]
    if at >= dweight.size:
        db[k] = total
    else:
        dweight[r, s, c, k] = total


@numba_function
def matmul_bias_activation_direct(y, x, weight, b, function, alpha):
    """The thread owns y[m, n]; neighbours differ in n."""
    i = cuda.grid(1)
    if i >= y.size:
        return
    N = y.shape[1]
    m, n = i // N, i % N
    total = np.float32(0)
    for k in range(x.shape[1]):
        total += x[m, k] * weight[k, n]
    y[m, n] = value(function, total + b[n], alpha)


def supports(x, weight, b, *, keep_input, **_):
    """One result."""
    return not keep_input


def pays(*_, **__):
    """Never."""
    return False


@kernel(conv2d_bias_activation, "direct", "numba", supports=supports, pays=pays)
def launch(y, x, weight, b, *, function, alpha, keep_input, **window):
    conv2d_bias_activation_direct[blocks_1d(y.size, THREADS), THREADS](
        y, x, weight, b, *window_numbers(**window), NUMBERS[function], alpha
    )


@kernel(conv2d_bias_activation_grad_weight, "direct", "numba", pays=pays)
def launch_grad_weight(dweight, db, dy, y, x, *, function, alpha, kernel_size, **window):
    """dweight and db, a thread for each value of both."""
    conv2d_bias_activation_grad_weight_direct[blocks_1d(dweight.size + db.size, THREADS), THREADS](
        dweight, db, dy, y, x, *window_numbers(**window), NUMBERS[function], alpha
    )


@kernel(matmul_bias_activation, "direct", "numba", supports=supports, pays=pays)
def launch_dense(y, x, weight, b, *, function, alpha, keep_input):
    matmul_bias_activation_direct[blocks_1d(y.size, THREADS), THREADS](y, x, weight, b, NUMBERS[function], alpha)
