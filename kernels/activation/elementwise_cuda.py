"""Elementwise activations, four values per thread: memory is read and written once, 16 bytes at a
time.

A value costs 8 bytes (12 in the gradient) and a few dozen instructions at most, so the memory sets
the time. Over one thread per value, this adds wider loads.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import blocks_1d
from gpucnn.dispatch.op import kernel
from gpucnn.ops.activation import activation, activation_grad, clipped_relu, clipped_relu_grad

from ..shared.activations_launch import DEFINES as FUNCTION_NUMBERS
from ..shared.activations_launch import NUMBERS

THREADS = 256
VALUES = 4 * THREADS
"""Values of a block."""

DEFINES = {"THREADS": THREADS, **FUNCTION_NUMBERS}

activation_elementwise = cuda_function(__file__, "activation_elementwise", **DEFINES)
activation_grad_elementwise = cuda_function(__file__, "activation_grad_elementwise", **DEFINES)
clipped_relu_elementwise = cuda_function(__file__, "clipped_relu_elementwise", **DEFINES)
clipped_relu_grad_elementwise = cuda_function(__file__, "clipped_relu_grad_elementwise", **DEFINES)


@kernel(activation, "elementwise", "cuda")
def launch(y, x, *, function, alpha):
    activation_elementwise[blocks_1d(x.size, VALUES), THREADS](y, x, x.size, NUMBERS[function], alpha)


@kernel(activation_grad, "elementwise", "cuda")
def launch_grad(dx, dy, x, *, function, alpha):
    activation_grad_elementwise[blocks_1d(x.size, VALUES), THREADS](dx, dy, x, x.size, NUMBERS[function], alpha)


@kernel(clipped_relu, "elementwise", "cuda")
def launch_clipped(y, x, *, max_value, negative_slope, threshold):
    clipped_relu_elementwise[blocks_1d(x.size, VALUES), THREADS](y, x, x.size, max_value, negative_slope, threshold)


@kernel(clipped_relu_grad, "elementwise", "cuda")
def launch_clipped_grad(dx, dy, x, *, max_value, negative_slope, threshold):
    clipped_relu_grad_elementwise[blocks_1d(x.size, VALUES), THREADS](
        dx, dy, x, x.size, max_value, negative_slope, threshold
    )
