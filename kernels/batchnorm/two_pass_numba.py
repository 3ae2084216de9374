"""Batch normalisation in three launches: sums of slices of the rows, the slices joined, and the
result value by value.

x is a matrix, a row for each position of each image, a column for each channel. Two passes over a
slice, its mean first and the squares around it second, keep all digits of the variance where the
mean is large. Slices exist so that many blocks can work on one channel; they are joined in a fixed
order, so the result is the same each time. Memory sets the time: a few dozen operations for 12
bytes (x read twice, y written), in the gradient for 20 (dy and x read twice, dx written).
"""

import math

from gpucnn.devices.launch import blocks_1d, ceil_div
from gpucnn.devices.numba_cuda import cuda, np, numba_device, numba_function
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.batchnorm import batchnorm, batchnorm_grad, batchnorm_inference, batchnorm_inference_grad

from ..shared.sum_numba import add, add_product, rounded

CHANNELS, LINES = 32, 8
"""Threads of a block that sums: side by side for channels, so that a warp reads neighbours, and in
lines for rows."""

THREADS = 256
"""Threads of a block that takes value by value."""

ROWS, SLICES = 64, 256
"""Rows that are worth a slice, and the most slices."""


@numba_device
def add_lines(total, lost):
    """The sum over the threads of one channel, in a fixed order, for all of them; the whole block
    must come here."""
    totals = cuda.shared.array((LINES, CHANNELS), np.float32)
    losses = cuda.shared.array((LINES, CHANNELS), np.float32)
    channel, line = cuda.threadIdx.x, cuda.threadIdx.y
    cuda.syncthreads()  # until all have read what the call before left here
    totals[line, channel], losses[line, channel] = total, lost
    cuda.syncthreads()  # until all sums are written
    total, lost = totals[0, channel], losses[0, channel]
    for other in range(1, LINES):
        total, lost = add(total, lost + losses[other, channel], totals[other, channel])
    return total, lost


@numba_device
def scale(variance, epsilon):
    return np.float32(1) / math.sqrt(variance + epsilon)


@numba_function
def batchnorm_statistics(sums, squares, x, size):
    """Of each slice, `size` rows long: the sum, and the sum of squares around the mean of the
    slice."""
    rows, C = x.shape
    c = cuda.blockIdx.x * CHANNELS + cuda.threadIdx.x
    first = cuda.blockIdx.y * size
    last = min(first + size, rows) if c < C else first  # beyond the last channel: no rows, but barriers
    total, lost = np.float32(0), np.float32(0)
    for row in range(first + cuda.threadIdx.y, last, LINES):
        total, lost = add(total, lost, x[row, c])
    total, lost = add_lines(total, lost)
    mean = rounded(total, lost) / np.float32(min(size, rows - first))
    square, square_lost = np.float32(0), np.float32(0)
    for row in range(first + cuda.threadIdx.y, last, LINES):
        centred = x[row, c] - mean
        square, square_lost = add_product(square, square_lost, centred, centred)
    square, square_lost = add_lines(square, square_lost)
    if c < C and cuda.threadIdx.y == 0:
        sums[cuda.blockIdx.y, c] = rounded(total, lost)
        squares[cuda.blockIdx.y, c] = rounded(square, square_lost)


@numba_function
def batchnorm_join(mean, variance, sums, squares, rows, size):
    """One thread per channel. The squares around the mean of all are those around the mean of each
    slice and, for every row, the square of the distance between the two means: Chan, Golub,
    LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979."""
    c = cuda.grid(1)
    if c >= mean.size:
        return
    total, lost = np.float32(0), np.float32(0)
    for i in range(sums.shape[0]):
        total, lost = add(total, lost, sums[i, c])
    centre = rounded(total, lost) / np.float32(rows)
    square, square_lost = np.float32(0), np.float32(0)
    for i in range(sums.shape[0]):
        count = np.float32(min(size, rows - i * size))
        distance = sums[i, c] / count - centre
        square, square_lost = add(square, square_lost, squares[i, c])
        square, square_lost = add_product(square, square_lost, count * distance, distance)
    mean[c] = centre
    variance[c] = rounded(square, square_lost) / np.float32(rows)


@numba_function
def batchnorm_normalise(y, x, gamma, beta, mean, variance, epsilon, has_gamma, has_beta):
    i = cuda.grid(1)
    if i >= x.size:
        return
    row, c = i // x.shape[1], i % x.shape[1]
    slope = scale(variance[c], epsilon)
    if has_gamma:
        slope *= gamma[c]
    result = (x[row, c] - mean[c]) * slope
    y[row, c] = result + beta[c] if has_beta else result


@numba_function
def batchnorm_grad_sums(partial, dy, x, size):
    """Of each slice: the sums of dy and of dy · x, each in two floats."""
    rows, C = x.shape
    c = cuda.blockIdx.x * CHANNELS + cuda.threadIdx.x
    first = cuda.blockIdx.y * size
    last = min(first + size, rows) if c < C else first  # beyond the last channel: no rows, but barriers
    plain, plain_lost = np.float32(0), np.float32(0)
    product, product_lost = np.float32(0), np.float32(0)
    for row in range(first + cuda.threadIdx.y, last, LINES):
        plain, plain_lost = add(plain, plain_lost, dy[row, c])
        product, product_lost = add_product(product, product_lost, dy[row, c], x[row, c])
    plain, plain_lost = add_lines(plain, plain_lost)
    product, product_lost = add_lines(product, product_lost)
    if c < C and cuda.threadIdx.y == 0:
        partial[0, cuda.blockIdx.y, c], partial[1, cuda.blockIdx.y, c] = plain, plain_lost
        partial[2, cuda.blockIdx.y, c], partial[3, cuda.blockIdx.y, c] = product, product_lost


@numba_function
def batchnorm_grad_join(dgamma, dbeta, partial, mean, variance, epsilon):
    """dbeta = Σ dy and dgamma = (Σ dy · x - mean · Σ dy) · scale, where the difference may be much
    smaller than its terms: sums in two floats have the digits for that."""
    c = cuda.grid(1)
    if c >= mean.size:
        return
    plain, plain_lost = np.float32(0), np.float32(0)
    product, product_lost = np.float32(0), np.float32(0)
    for i in range(partial.shape[1]):
        plain, plain_lost = add(plain, plain_lost + partial[1, i, c], partial[0, i, c])
        product, product_lost = add(product, product_lost + partial[3, i, c], partial[2, i, c])
    product, product_lost = add_product(product, product_lost - mean[c] * plain_lost, -mean[c], plain)
    dgamma[c] = rounded(product, product_lost) * scale(variance[c], epsilon)
    dbeta[c] = rounded(plain, plain_lost)


@numba_function
def batchnorm_grad_apply(dx, dgamma, dbeta, dy, x, gamma, mean, variance, epsilon, has_gamma):
    i = cuda.grid(1)
    if i >= x.size:
        return
    row, c = i // x.shape[1], i % x.shape[1]
    rows = np.float32(x.shape[0])
    slope = scale(variance[c], epsilon)
    normal = (x[row, c] - mean[c]) * slope
    if has_gamma:
        slope *= gamma[c]
    dx[row, c] = (dy[row, c] - dbeta[c] / rows - normal * (dgamma[c] / rows)) * slope


@numba_function
def batchnorm_inference_grad_apply(dx, dy, gamma, variance, epsilon, has_gamma):
    i = cuda.grid(1)
    if i >= dy.size:
        return
    row, c = i // dy.shape[1], i % dy.shape[1]
    slope = scale(variance[c], epsilon)
    dx[row, c] = dy[row, c] * (slope * gamma[c] if has_gamma else slope)


def _sums_of_slices(x, *_, **__):
    rows, C = _matrix(x)
    return Spec((2, ceil_div(rows, _size(rows)), C), x.dtype)


def _partial_gradients(dy, *_, **__):
    rows, C = _matrix(dy)
    return Spec((4, ceil_div(rows, _size(rows)), C), dy.dtype)


@kernel(batchnorm, "two_pass", "numba", workspace=_sums_of_slices)
def launch(y, mean, variance, x, gamma, beta, workspace, *, epsilon):
    rows, C = _matrix(x)
    sums, squares, size = workspace[0], workspace[1], _size(rows)
    grid = ceil_div(C, CHANNELS), sums.shape[0]
    batchnorm_statistics[grid, (CHANNELS, LINES)](sums, squares, x.reshape(rows, C), size)
    batchnorm_join[blocks_1d(C, THREADS), THREADS](mean, variance, sums, squares, rows, size)
    launch_inference(y, x, gamma, beta, mean, variance, epsilon=epsilon)


@kernel(batchnorm_grad, "two_pass", "numba", workspace=_partial_gradients)
def launch_grad(dx, dgamma, dbeta, dy, x, gamma, mean, variance, partial, *, epsilon):
    matrix = _matrix(x)
    _sum_gradients(dgamma, dbeta, dy, x, mean, variance, partial, epsilon)
    batchnorm_grad_apply[blocks_1d(x.size, THREADS), THREADS](
        dx.reshape(matrix), dgamma, dbeta, dy.reshape(matrix), x.reshape(matrix),
        mean if gamma is None else gamma, mean, variance, epsilon, gamma is not None,
    )  # fmt: skip


@kernel(batchnorm_inference, "two_pass", "numba")
def launch_inference(y, x, gamma, beta, mean, variance, *, epsilon):
    matrix = _matrix(x)
    batchnorm_normalise[blocks_1d(x.size, THREADS), THREADS](
        y.reshape(matrix), x.reshape(matrix), mean if gamma is None else gamma, mean if beta is None else beta,
        mean, variance, epsilon, gamma is not None, beta is not None,
    )  # fmt: skip


@kernel(batchnorm_inference_grad, "two_pass", "numba", workspace=_partial_gradients)
def launch_inference_grad(dx, dgamma, dbeta, dy, x, gamma, mean, variance, partial, *, epsilon):
    matrix = _matrix(x)
    _sum_gradients(dgamma, dbeta, dy, x, mean, variance, partial, epsilon)
    batchnorm_inference_grad_apply[blocks_1d(x.size, THREADS), THREADS](
        dx.reshape(matrix), dy.reshape(matrix), mean if gamma is None else gamma, variance, epsilon, gamma is not None
    )


def _sum_gradients(dgamma, dbeta, dy, x, mean, variance, partial, epsilon):
    """The part that both gradients share: sums of slices, joined."""
    rows, C = _matrix(x)
    grid = ceil_div(C, CHANNELS), partial.shape[1]
    batchnorm_grad_sums[grid, (CHANNELS, LINES)](partial, dy.reshape(rows, C), x.reshape(rows, C), _size(rows))
    batchnorm_grad_join[blocks_1d(C, THREADS), THREADS](dgamma, dbeta, partial, mean, variance, epsilon)


def _matrix(x):
    """Rows and channels."""
    return math.prod(x.shape[:-1]), x.shape[-1]


def _size(rows):
    """Rows of a slice."""
    return max(ROWS, ceil_div(rows, SLICES))
