"""The launches of `conv2d/direct_numba` and `conv3d/direct_numba`, whose kernels take numbers for
each axis.

One plan serves convolutions over any number of axes: a thread for each value of the result.
"""

from __future__ import annotations

import math

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import NumbaFunction
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import Op, kernel

from .slices_numba import count_of_slices, join

THREADS = 128


def register(file: str, functions: dict[Op, NumbaFunction]) -> None:
    """Register the kernels of one family, whose file is `file`: of the convolution, its gradient by
    the input and its gradient by the weight, in this order."""
    (conv, of_y), (conv_grad_input, of_dx), (conv_grad_weight, of_partial) = functions.items()

    @kernel(conv, "direct", "numba", file=file)
    def launch(y, x, weight, *, groups, **window):
        of_y[blocks_1d(y.size, THREADS), THREADS](y, x, weight, *_numbers(**window))

    @kernel(conv_grad_input, "direct", "numba", file=file)
    def launch_grad_input(dx, dy, weight, *, size, groups, **window):
        of_dx[blocks_1d(dx.size, THREADS), THREADS](dx, dy, weight, *_numbers(**window))

    @kernel(conv_grad_weight, "direct", "numba", file=file, workspace=partial_sums)
    def launch_grad_weight(dweight, dy, x, partial, *, kernel_size, groups, **window):
        of_partial[blocks_1d(partial.size, THREADS), THREADS](partial, dy, x, *_numbers(**window))
        join(dweight, partial)


def partial_sums(dy: Spec, x: Spec, *, kernel_size, groups, **_) -> Spec:
    """(slices, …, C / groups, K): dweight, summed over a slice of the rows of dy."""
    dweight = (*kernel_size, x.shape[-1] // groups, dy.shape[-1])
    return x.like(count_of_slices(math.prod(dweight), math.prod(dy.shape[:-2])), *dweight)


def _numbers(*, strides, padding, dilation):
    """The parameters in the order in which the kernels take them."""
    return *strides, *(before for before, _ in padding), *dilation
