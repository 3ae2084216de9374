"""Sums over a flat array in two stages, in one fixed order: each block its share, then one block
the blocks' sums.

A sum of all threads needs all threads to meet, and blocks meet only at the end of a launch: hence
two launches. A norm takes four, two for the largest element and two for the squares, and reads x
twice: 8 bytes and 3 FLOPs an element.
"""

import math

import numba
import numpy as np

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, numba_device, numba_function
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops import update
from gpucnn.ops.update import LEAST_SCALE, MOST_SCALE

from ..shared.block_numba import add_up

THREADS = 256
MOST_BLOCKS = 256

LEAST, MOST = np.float32(LEAST_SCALE), np.float32(MOST_SCALE)


@numba_device
def sum_of_block(value):
    """The sum of the values of a block's threads; thread 0 has it."""
    sums = cuda.shared.array(THREADS, numba.float32)
    sums[cuda.threadIdx.x] = value
    add_up(sums)
    return sums[cuda.threadIdx.x]


@numba_device
def write_sum_of_block(partial, value):
    """The same into the block's place of partial (blocks,)."""
    total = sum_of_block(value)
    if cuda.threadIdx.x == 0:
        partial[cuda.blockIdx.x] = total


@numba_device
def sum_of_all(partial):
    """The sum of what the blocks of the launch before have written; thread 0 has it."""
    total = np.float32(0)
    for block in range(cuda.threadIdx.x, partial.size, THREADS):
        total += partial[block]
    return sum_of_block(total)


@numba_device
def larger(a, b):
    """The larger of two numbers; a NaN is larger than any."""
    return a if a > b or a != a else b


@numba_device
def largest_of_block(value):
    """The largest of the values of a block's threads; thread 0 has it."""
    largest = cuda.shared.array(THREADS, numba.float32)
    t = cuda.threadIdx.x
    largest[t] = value
    half = THREADS // 2
    while half > 0:
        cuda.syncthreads()  # all values of the step before are there
        if t < half:
            largest[t] = larger(largest[t], largest[t + half])
        half //= 2
    return largest[t]


@numba_function
def largest_of_blocks(partial, x):
    largest = np.float32(0)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        largest = larger(largest, abs(x[i]))
    largest = largest_of_block(largest)
    if cuda.threadIdx.x == 0:
        partial[cuda.blockIdx.x] = largest


@numba_function
def scale_of_all(parts, partial):
    """The largest power of two up to the largest element."""
    largest = np.float32(0)
    for block in range(cuda.threadIdx.x, partial.size, THREADS):
        largest = larger(largest, partial[block])
    largest = largest_of_block(largest)
    if cuda.threadIdx.x > 0:
        return
    scale = largest
    if largest > 0 and largest < math.inf:
        scale = np.float32(1)
        while scale + scale <= largest and scale < MOST:
            scale += scale
        while scale > largest and scale > LEAST:
            scale *= np.float32(0.5)
    parts[0] = scale


@numba_function
def squares_of_blocks(partial, x, parts):
    """Division by a power of two rounds nothing, and no quotient is 4 or more."""
    total = np.float32(0)
    scale = parts[0]
    if scale > 0:
        for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
            part = x[i] / scale
            total += part * part
    write_sum_of_block(partial, total)


@numba_function
def total_of_all(parts, partial):
    total = sum_of_all(partial)
    if cuda.threadIdx.x == 0:
        finite = parts[0] < math.inf
        parts[1] = total if finite else np.float32(1)


@numba_function
def penalty_of_blocks(partial, values, l1, l2):
    total = np.float32(0)
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        if l1 > 0:
            total += l1 * abs(values[i])
        if l2 > 0:
            total += l2 * (values[i] * values[i])
    write_sum_of_block(partial, total)


@numba_function
def penalty_of_all(penalty, partial):
    total = sum_of_all(partial)
    if cuda.threadIdx.x == 0:
        penalty[0] = total


def _partial(x, **_):
    return Spec((min(MOST_BLOCKS, *blocks_1d(x.shape[0], THREADS)),), x.dtype)


@kernel(update.norm_parts, "two_stage", "numba", workspace=_partial)
def launch_norm_parts(parts, x, partial):
    blocks = partial.size
    largest_of_blocks[blocks, THREADS](partial, x)
    scale_of_all[1, THREADS](parts, partial)
    squares_of_blocks[blocks, THREADS](partial, x, parts)
    total_of_all[1, THREADS](parts, partial)


@kernel(update.penalty, "two_stage", "numba", workspace=_partial)
def launch_penalty(penalty, values, partial, *, l1, l2):
    penalty_of_blocks[partial.size, THREADS](partial, values, float(l1), float(l2))
    penalty_of_all[1, THREADS](penalty, partial)
