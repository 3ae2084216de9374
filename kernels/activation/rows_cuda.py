"""Softmax over rows by warp shuffles: a few lanes for a short row, a block for a long one, so that
none waits idle.

A value costs 8 bytes of memory traffic (12 in a gradient) and two exponentials; the rereading of a
row stays in the cache. Over the tree in shared memory, this adds the exchange of registers within a
warp, which needs no barrier: rows of up to 256 values never meet one.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.activation import log_softmax, log_softmax_grad, softmax, softmax_grad

from ..shared.rows_launch import over_rows


def register(op):
    """Register the kernel of an op on arrays that all have the shape (…, K)."""
    function = cuda_function(__file__, f"{op.name}_rows")

    @kernel(op, "rows", "cuda")
    def launch(*arrays):
        K = arrays[0].shape[-1]
        N = arrays[0].size // K
        function[over_rows(N, K)](*arrays, N, K)


for op in (softmax, softmax_grad, log_softmax, log_softmax_grad):
    register(op)
