"""Batch normalisation in CUDA C++, two launches: sums of slices of the rows; the slices joined, and
the result.

Two passes over each slice, its mean first and the squares around it second, keep all digits of the
variance where the mean is large. Memory sets the time: x is read twice and y written once, 12 bytes
for each value and a few dozen operations (the second pass over a slice finds it in the cache); the
gradient reads dy and x twice and writes dx, 20 bytes. Over the kernels in numba.cuda this adds wide
loads, four of them under way in each thread, and the sums of the slices are joined where they are
needed instead of in another launch.
"""

import math

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.batchnorm import batchnorm, batchnorm_grad, batchnorm_inference, batchnorm_inference_grad

THREADS = 512

CHANNELS = 32
"""Channels of a block, 128 bytes of each row."""

ROWS = 256
"""Rows that are worth a slice."""

BLOCKS, SLICES = 256, 128
"""Blocks that fill a GPU, and the most slices: every block of the second launch reads the sums of
all of them."""

batchnorm_statistics = cuda_function(__file__, "batchnorm_statistics", THREADS=THREADS)
batchnorm_normalise = cuda_function(__file__, "batchnorm_normalise", THREADS=THREADS)
batchnorm_inference_ = cuda_function(__file__, "batchnorm_inference", THREADS=THREADS)
batchnorm_grad_sums = cuda_function(__file__, "batchnorm_grad_sums", THREADS=THREADS)
batchnorm_grad_join = cuda_function(__file__, "batchnorm_grad_join", THREADS=THREADS)


def _sums_of_slices(x, *_, **__):
    rows, C = _matrix(x)
    return Spec((2, _slices(rows, C), C), x.dtype)


def _partial_gradients(dy, *_, **__):
    rows, C = _matrix(dy)
    return Spec((4, _slices(rows, C), C), dy.dtype)


@kernel(batchnorm, "two_pass", "cuda", workspace=_sums_of_slices)
def launch(y, mean, variance, x, gamma, beta, workspace, *, epsilon):
    rows, C = _matrix(x)
    sums, squares = workspace[0], workspace[1]
    slices = sums.shape[0]
    _over_slices(batchnorm_statistics, C, slices)(sums, squares, x, rows, C)
    _over_slices(batchnorm_normalise, C, slices)(
        y, mean, variance, x, gamma, beta, sums, squares, rows, slices, C, epsilon
    )


@kernel(batchnorm_grad, "two_pass", "cuda", workspace=_partial_gradients)
def launch_grad(dx, dgamma, dbeta, dy, x, gamma, mean, variance, partial, *, epsilon):
    (rows, C), slices = _matrix(x), partial.shape[1]
    _over_slices(batchnorm_grad_sums, C, slices)(partial, None, dy, x, None, variance, rows, C, epsilon)
    _over_slices(batchnorm_grad_join, C, slices)(
        dx, dgamma, dbeta, dy, x, gamma, mean, variance, partial, rows, slices, C, epsilon
    )


@kernel(batchnorm_inference, "two_pass", "cuda")
def launch_inference(y, x, gamma, beta, mean, variance, *, epsilon):
    rows, C = _matrix(x)
    _over_slices(batchnorm_inference_, C, _slices(rows, C))(y, x, gamma, beta, mean, variance, rows, C, epsilon)


@kernel(batchnorm_inference_grad, "two_pass", "cuda", workspace=_partial_gradients)
def launch_inference_grad(dx, dgamma, dbeta, dy, x, gamma, mean, variance, partial, *, epsilon):
    (rows, C), slices = _matrix(x), partial.shape[1]
    _over_slices(batchnorm_grad_sums, C, slices)(partial, dx, dy, x, gamma, variance, rows, C, epsilon)
    _over_slices(batchnorm_grad_join, C, 1)(
        None, dgamma, dbeta, dy, x, gamma, mean, variance, partial, rows, slices, C, epsilon
    )


def _over_slices(function, C, slices):
    """The launch of a function with a block for each group of channels in each slice."""
    pack, block, groups = _layout(C)
    return function.define(PACK=pack)[(groups, slices), block]


def _matrix(x):
    """Rows and channels."""
    return math.prod(x.shape[:-1]), x.shape[-1]


def _layout(C):
    """Neighbouring channels that a thread takes, threads of a block (over channels, over rows),
    groups of channels."""
    pack = 4 if C % 4 == 0 else 1
    columns = min(CHANNELS // pack, 1 << (C // pack - 1).bit_length())
    return pack, (columns, THREADS // columns), ceil_div(C // pack, columns)


def _slices(rows, C):
    """Into how many slices the rows are cut; none is empty."""
    groups = _layout(C)[2]
    slices = min(ceil_div(rows, ROWS), ceil_div(BLOCKS, groups), SLICES)
    return ceil_div(rows, ceil_div(rows, slices))
