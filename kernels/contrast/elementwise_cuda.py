"""Contrast changed at random: a row of blocks for an image, whose factor each block draws once."""

import math

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.ops.contrast import random_contrast as op

THREADS = 256

random_contrast = cuda_function(__file__, "random_contrast")


@kernel(op, "elementwise", "cuda")
def launch(y, x, mean, step, *, factor, limits, seed, stream, counter=0):
    images, values = x.shape[0], math.prod(x.shape[1:])
    blocks = ceil_div(values, THREADS)
    scalars = blocks, values, x.shape[3], factor[0], factor[1] - factor[0], *limits
    random_contrast[images * blocks, THREADS](
        y, x, mean, step, *scalars, seed, stream & 0xFFFFFFFF, counter & 0xFFFFFFFF
    )
