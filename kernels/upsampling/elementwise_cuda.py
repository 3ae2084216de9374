"""Enlarging by whole factors, one thread for each value of the result; what a cell of x is read for
again stays in the cache."""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import blocks_1d
from gpucnn.dispatch.op import kernel
from gpucnn.ops.upsampling import enlarge, enlarge_grad, repeat, repeat_grad

THREADS = 256


def register(op, of_gradient):
    """The kernels are of one form: result, operand, the extents of the smaller of the two, factors."""
    function = cuda_function(__file__, f"{op.name}_elementwise")

    @kernel(op, "elementwise", "cuda")
    def launch(result, operand, *, size):
        _, *extents = (result if of_gradient else operand).shape
        function[blocks_1d(result.size, THREADS), THREADS](result, operand, result.size, *extents, *size)


register(repeat, False)
register(repeat_grad, True)
register(enlarge, False)
register(enlarge_grad, True)
