"""Softmax over rows by warp shuffles: a few lanes for a short row, a block for a long one, so that none waits idle.

A value costs 8 bytes of memory traffic (12 in a gradient) and two exponentials; the rereading of a row stays in the
cache. Over the tree in shared memory, this adds the exchange of registers within a warp, which needs no barrier: rows
of up to 256 values never meet one.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.activation import log_softmax, log_softmax_grad, softmax, softmax_grad

from ..shared.rows_launch import over_rows

softmax_rows = cuda_function(__file__, "softmax_rows")
softmax_grad_rows = cuda_function(__file__, "softmax_grad_rows")
log_softmax_rows = cuda_function(__file__, "log_softmax_rows")
log_softmax_grad_rows = cuda_function(__file__, "log_softmax_grad_rows")


@kernel(softmax, "rows", "cuda")
def launch(y, x):
    K = x.shape[-1]
    N = x.size // K
    softmax_rows[over_rows(N, K)](y, x, N, K)


@kernel(softmax_grad, "rows", "cuda")
def launch_grad(dx, dy, y):
    K = y.shape[-1]
    N = y.size // K
    softmax_grad_rows[over_rows(N, K)](dx, dy, y, N, K)


@kernel(log_softmax, "rows", "cuda")
def launch_log(y, x):
    K = x.shape[-1]
    N = x.size // K
    log_softmax_rows[over_rows(N, K)](y, x, N, K)


@kernel(log_softmax_grad, "rows", "cuda")
def launch_log_grad(dx, dy, y):
    K = y.shape[-1]
    N = y.size // K
    log_softmax_grad_rows[over_rows(N, K)](dx, dy, y, N, K)
