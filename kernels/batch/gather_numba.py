"""Pick a batch out of the data set on the device: each row's sample is computed, then consecutive
threads copy it.

The data set stays where it is, as bytes; no list of indices is created, sorted or copied. One
thread of a block walks the keyed permutation, a chain of about 1000 instructions, while other
blocks copy; a pixel costs 1 byte read, 4 written and two fused multiply-adds. Blocks take CHUNK
values of one image, so that large images keep the whole GPU busy.
"""

import numba

from gpucnn.devices.launch import ceil_div
from gpucnn.devices.numba_cuda import cuda, np, numba_device, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.batch import gather_images, gather_labels

from ..shared.permutation_numba import shuffled
from ..shared.philox_numba import key, word
from ..shared.scaling_launch import halves

THREADS = 256

CHUNK = 4096
"""Values of one row that a block copies."""


@numba_device
def sample_of(row, n, epoch, batch, first, batch_size, seed, stream, shuffle):
    """The number of the sample in a row of the batch."""
    position = (batch[0] * batch_size + first + row) % n
    return shuffled(position, n, word(epoch[0]), seed, stream) if shuffle else position


@numba_device
def sample_of_block(row, n, epoch, batch, first, batch_size, seed, stream, shuffle):
    """The same for a block that copies this row: one thread computes it for all."""
    shared_sample = cuda.shared.array(1, numba.int64)
    if cuda.threadIdx.x == 0:
        shared_sample[0] = sample_of(row, n, epoch, batch, first, batch_size, seed, stream, shuffle)
    cuda.syncthreads()  # waits for the sample
    return shared_sample[0]


@numba_function
def gather_bytes(y, images, epoch, batch, chunks, first, batch_size, seed, stream, shuffle, high, low, offset):
    """y (rows, values), images (n, values). The factor is high + low, so that the product is
    rounded once."""
    row, chunk = cuda.blockIdx.x // chunks, cuda.blockIdx.x % chunks
    n, values = images.shape
    sample = sample_of_block(row, n, epoch, batch, first, batch_size, seed, stream, shuffle)
    for i in range(chunk * CHUNK + cuda.threadIdx.x, min(values, (chunk + 1) * CHUNK), cuda.blockDim.x):
        pixel = np.float32(images[sample, i])
        y[row, i] = cuda.fma(pixel, high, cuda.fma(pixel, low, offset))


@numba_function
def gather_floats(y, images, epoch, batch, chunks, first, batch_size, seed, stream, shuffle, scale, offset):
    """y (rows, values), images (n, values)."""
    row, chunk = cuda.blockIdx.x // chunks, cuda.blockIdx.x % chunks
    n, values = images.shape
    sample = sample_of_block(row, n, epoch, batch, first, batch_size, seed, stream, shuffle)
    for i in range(chunk * CHUNK + cuda.threadIdx.x, min(values, (chunk + 1) * CHUNK), cuda.blockDim.x):
        y[row, i] = cuda.fma(images[sample, i], scale, offset)


@numba_function
def gather_rows(y, labels, epoch, batch, chunks, first, batch_size, seed, stream, shuffle):
    """y (rows, values), labels (n, values): one thread for up to CHUNK values of one row."""
    i = cuda.grid(1)
    row, chunk = i // chunks, i % chunks
    if row >= y.shape[0]:
        return
    n, values = labels.shape
    sample = sample_of(row, n, epoch, batch, first, batch_size, seed, stream, shuffle)
    for k in range(chunk * CHUNK, min(values, (chunk + 1) * CHUNK)):
        y[row, k] = labels[sample, k]


def _supports_images(images, epoch, batch, **_):
    return images.dtype.name in ("uint8", "float32")


@kernel(gather_images, "gather", "numba", supports=_supports_images)
def launch_images(y, images, epoch, batch, *, rows, first, batch_size, seed, stream, shuffle, scale, offset):
    flat_y, flat_images = y.reshape(rows, -1), images.reshape(images.shape[0], -1)
    chunks = ceil_div(flat_y.shape[1], CHUNK)
    order = first, batch_size, *key(seed, stream), shuffle
    if images.dtype == "uint8":
        gather_bytes[rows * chunks, THREADS](flat_y, flat_images, epoch, batch, chunks, *order, *halves(scale), offset)
    else:
        gather_floats[rows * chunks, THREADS](flat_y, flat_images, epoch, batch, chunks, *order, scale, offset)


def _supports_labels(labels, epoch, batch, **_):
    return labels.dtype.name in ("int32", "float32")


@kernel(gather_labels, "gather", "numba", supports=_supports_labels)
def launch_labels(y, labels, epoch, batch, *, rows, first, batch_size, seed, stream, shuffle):
    flat_y, flat_labels = y.reshape(rows, -1), labels.reshape(labels.shape[0], -1)
    chunks = ceil_div(flat_y.shape[1], CHUNK)
    order = first, batch_size, *key(seed, stream), shuffle
    gather_rows[ceil_div(rows * chunks, THREADS), THREADS](flat_y, flat_labels, epoch, batch, chunks, *order)
