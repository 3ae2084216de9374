"""Sums and joined channels value by value, 16 bytes at a time where the shape allows it."""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import blocks_1d, ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.ops.merging import add, concatenate, weighted_sum

THREADS = 256

add_elementwise = cuda_function(__file__, "add_elementwise", VALUE="float")
weighted_sum_elementwise = cuda_function(__file__, "weighted_sum_elementwise", VALUE="float")
concatenate_elementwise = cuda_function(__file__, "concatenate_elementwise", VALUE="float")


@kernel(add, "elementwise", "cuda")
def launch_add(y, a, b):
    add_elementwise[blocks_1d(ceil_div(y.size, 4), THREADS), THREADS](y, a, b, y.size)


@kernel(weighted_sum, "elementwise", "cuda")
def launch_weighted_sum(y, a, b, *, of_a, of_b):
    weighted_sum_elementwise[blocks_1d(y.size, THREADS), THREADS](y, a, b, y.size, of_a, of_b)


@kernel(concatenate, "elementwise", "cuda")
def launch_concatenate(y, a, b):
    A, B = a.shape[-1], b.shape[-1]
    values = 1 if A % 4 or B % 4 else 4
    function = concatenate_elementwise.define(VALUE="float4" if values == 4 else "float")
    size = y.size // values
    function[blocks_1d(size, THREADS), THREADS](y, a, b, size, A // values, B // values)
