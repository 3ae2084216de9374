"""The gradient of bias and ReLU in one pass over the rows: mask, write, and add to the sum of the
slice.

Traffic: dy and y read once, dz written once, 12 bytes for each value. Apart, the activation's
gradient moves 12 bytes and the sum reads 4 of them again.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import bias_relu_grad

from ..shared.column_sums_launch import DEFINES, column_totals, sums_of_slices

bias_relu_grad_rows = cuda_function(__file__, "bias_relu_grad_rows", **DEFINES)


@kernel(bias_relu_grad, "rows", "cuda", workspace=sums_of_slices)
def launch(dz, db, dy, y, sums=None):
    column_totals(bias_relu_grad_rows, db, sums, dy.size // db.size, dz, dy, y)
