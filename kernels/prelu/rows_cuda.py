"""The parametric rectifier over rows: four values to a thread, and the slope's gradient summed in
slices that fill the GPU whatever the shape."""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import blocks_1d, ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.ops.prelu import prelu, prelu_grad, prelu_grad_alpha

from ..shared.column_sums_launch import DEFINES, column_totals, sums_of_slices

THREADS_OF_VALUES = 256

prelu_rows = cuda_function(__file__, "prelu_rows", **DEFINES)
prelu_grad_rows = cuda_function(__file__, "prelu_grad_rows", **DEFINES)
prelu_grad_alpha_rows = cuda_function(__file__, "prelu_grad_alpha_rows", **DEFINES)


def _blocks(x):
    return blocks_1d(ceil_div(x.size, 4), THREADS_OF_VALUES)


@kernel(prelu, "rows", "cuda")
def launch(y, x, alpha):
    prelu_rows[_blocks(x), THREADS_OF_VALUES](y, x, alpha, x.size, alpha.size)


@kernel(prelu_grad, "rows", "cuda")
def launch_grad(dx, dy, x, alpha):
    prelu_grad_rows[_blocks(x), THREADS_OF_VALUES](dx, dy, x, alpha, x.size, alpha.size)


@kernel(prelu_grad_alpha, "rows", "cuda", workspace=sums_of_slices)
def launch_grad_alpha(dalpha, dy, x, sums=None):
    column_totals(prelu_grad_alpha_rows, dalpha, sums, dy.size // dalpha.size, dy, x)
