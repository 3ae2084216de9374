"""All that a step takes from the data set on the device in one launch: each row's sample is computed,
then consecutive threads copy it.

A launch of its own for labels, rates or counters takes as long as the one for the images, and moves
a thousandth of the bytes; here they go with the first block of each row. The data set stays where it
is, as bytes; no list of indices is created, sorted or copied. One thread of a block walks the keyed
permutation (a chain of about 1000 instructions) while other blocks copy; a pixel costs 1 byte read
and 4 written. Blocks take CHUNK values of one image, so that large images keep the whole GPU busy.
Over the numba rung: vectors of 4 pixels.
"""

import numpy as np

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.ops.batch import gather_batch

from ..shared.gather_launch import CHUNK, plan_of, supports

THREADS = 256

IMAGES = {
    "uint8": cuda_function(__file__, "gather_bytes", CHUNK=CHUNK),
    "float32": cuda_function(__file__, "gather_floats", CHUNK=CHUNK),
}


def _words(array):
    """The same bytes as int32."""
    return None if array is None else array.view(np.int32)


@kernel(gather_batch, "gather", "cuda", supports=supports)
def launch(x, following, *arrays, rows, first, batch_size, steps, ring, seed, stream, shuffle):
    plan = plan_of(x, arrays)
    function = IMAGES[plan.images.dtype.name]
    threads = min(THREADS, 32 * ceil_div(plan.values, 4 * 32))
    words = map(_words, (plan.y, plan.factors, plan.row))
    others = map(_words, (plan.labels, plan.weights, plan.table))
    order = first, batch_size, steps, ring, seed, stream & 0xFFFFFFFF, shuffle
    function[rows * plan.chunks, threads](
        x, following, *words, plan.counters, plan.images, *others, *plan.extents, *order
    )
