"""Bias and activation over rows in one pass, and their gradient in one: a slope, a product, and the
sum of the slice.

Traffic: z read once and y written once, 8 bytes for each value; for the gradient dy and what was
kept read once and dz written once, 12 bytes. Apart, the activation moves 8 bytes more forward, and
the sum of the bias's gradient reads 4 again.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import blocks_1d, ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.ops.bias_activation import bias_activation, bias_activation_grad
from gpucnn.ops.epilogue import keeps_input

from ..shared.activations_launch import DEFINES as FUNCTION_NUMBERS
from ..shared.activations_launch import NUMBERS
from ..shared.column_sums_launch import DEFINES, column_totals, sums_of_slices

THREADS_FORWARD = 256

bias_activation_rows = cuda_function(__file__, "bias_activation_rows", **DEFINES, **FUNCTION_NUMBERS)

# The slopes of all functions need more registers than two blocks side by side have for each thread.
of_any = cuda_function(__file__, "bias_activation_grad_rows", **DEFINES | FUNCTION_NUMBERS | {"RESIDENT_BLOCKS": 1})
of_relu = of_any.define(FUNCTION=NUMBERS["relu"], RESIDENT_BLOCKS=DEFINES["RESIDENT_BLOCKS"])


@kernel(bias_activation, "rows", "cuda")
def launch(y, *arrays, function, alpha, keep_input):
    sums, (z, b) = (arrays[0] if keep_input else None), arrays[keep_input:]
    blocks = blocks_1d(ceil_div(z.size, 4), THREADS_FORWARD)
    bias_activation_rows[blocks, THREADS_FORWARD](y, sums, z, b, z.size, b.size, NUMBERS[function], alpha)


def workspace(dy, kept, **_):
    """The sums of the slices, if there are several."""
    return sums_of_slices(dy)


@kernel(bias_activation_grad, "rows", "cuda", workspace=workspace)
def launch_grad(dz, db, dy, kept, sums=None, *, function, alpha, scale=1.0):
    end = NUMBERS[function], alpha, scale, not keeps_input(function, alpha)
    rows = of_relu if function == "relu" else of_any
    column_totals(rows, db, sums, dy.size // db.size, dz, dy, kept, end=end)
