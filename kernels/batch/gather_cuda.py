"""Pick a batch out of the data set on the device: each row's sample is computed, then consecutive
threads copy it.

The data set stays where it is, as bytes; no list of indices is created, sorted or copied. One
thread of a block walks the keyed permutation (a chain of about 1000 instructions) while other
blocks copy; a pixel costs 1 byte read, 4 written and two fused multiply-adds. Blocks take CHUNK
values of one image, so that large images keep the whole GPU busy. Over the numba rung: vectors of 4
pixels, and labels copied by all threads of a block.
"""

import math

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.ops.batch import gather_images, gather_labels

from ..shared.scaling_launch import halves

THREADS = 256

CHUNK = 16 * THREADS
"""Values of one image that a block copies: four vectors for each thread."""

LABELS_OF_BLOCK = 1024
"""Values of labels that a block copies, if its rows are short."""

IMAGES = {
    "uint8": cuda_function(__file__, "gather_bytes", THREADS=THREADS, CHUNK=CHUNK),
    "float32": cuda_function(__file__, "gather_floats", THREADS=THREADS, CHUNK=CHUNK),
}
LABELS = {
    "int32": cuda_function(__file__, "gather_integers", THREADS=THREADS, CHUNK=CHUNK),
    "float32": cuda_function(__file__, "gather_reals", THREADS=THREADS, CHUNK=CHUNK),
}


def _supports_images(images, epoch, batch, **_):
    return images.dtype.name in IMAGES


@kernel(gather_images, "gather", "cuda", supports=_supports_images)
def launch_images(y, images, epoch, batch, *, rows, first, batch_size, seed, stream, shuffle, scale, offset):
    n, values = images.shape[0], math.prod(images.shape[1:])
    chunks = ceil_div(values, CHUNK)
    threads = min(THREADS, 32 * ceil_div(values, 4 * 32))
    function = IMAGES[images.dtype.name]
    order = first, batch_size, seed, stream & 0xFFFFFFFF, shuffle
    factors = (*halves(scale), offset) if images.dtype == "uint8" else (scale, offset)
    function[rows * chunks, threads](y, images, epoch, batch, n, values, chunks, *order, *factors)


def _supports_labels(labels, epoch, batch, **_):
    return labels.dtype.name in LABELS


@kernel(gather_labels, "gather", "cuda", supports=_supports_labels)
def launch_labels(y, labels, epoch, batch, *, rows, first, batch_size, seed, stream, shuffle):
    n, values = labels.shape[0], math.prod(labels.shape[1:])
    rows_of_block = min(THREADS, max(1, LABELS_OF_BLOCK // values))
    grid = ceil_div(rows, rows_of_block)
    order = first, batch_size, seed, stream & 0xFFFFFFFF, shuffle
    function = LABELS[labels.dtype.name]
    function[grid, THREADS](y, labels, epoch, batch, n, rows, values, rows_of_block, *order)
