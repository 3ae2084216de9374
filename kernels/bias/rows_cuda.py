"""Bias over rows: values are added four at a time, and summed in slices that fill the GPU whatever
the shape.

Forward reads and writes each value once (8 bytes per addition), backward reads it once (4 bytes):
as fast as memory is.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import blocks_1d, ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.ops.bias import bias, bias_grad

from ..shared.column_sums_launch import DEFINES, column_totals, sums_of_slices

THREADS_FORWARD = 256

bias_rows = cuda_function(__file__, "bias_rows", **DEFINES)
bias_grad_rows = cuda_function(__file__, "bias_grad_rows", **DEFINES)


@kernel(bias, "rows", "cuda")
def launch(y, x, b):
    bias_rows[blocks_1d(ceil_div(x.size, 4), THREADS_FORWARD), THREADS_FORWARD](y, x, b, x.size, b.size)


@kernel(bias_grad, "rows", "cuda", workspace=sums_of_slices)
def launch_grad(db, dy, sums=None):
    column_totals(bias_grad_rows, db, sums, dy.size // db.size, dy)
