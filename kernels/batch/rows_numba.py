"""Count correct rows by one thread for each row, which walks through its scores; each block adds up
in shared memory.

A row costs K reads and comparisons; neighbouring threads read K scores apart, which is simple, and
slow for many classes. The sum of integers is the same in any order; a second launch sums the counts
of the blocks, without atomics.
"""

import numba

from gpucnn.devices.launch import ceil_div
from gpucnn.devices.numba_cuda import cuda, np, numba_device, numba_function
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.batch import count_correct, count_correct_binary

from ..shared.block_numba import add_up

THREADS = 256

BLOCKS = 1024
"""As many blocks at most: each goes through its share of the rows, and one block can sum the counts
of all."""


@numba_device
def largest(scores, n):
    """The column of the largest score of row n: the first of several, and a NaN is larger than any
    number."""
    best = 0
    for k in range(1, scores.shape[1]):
        score, highest = scores[n, k], scores[n, best]
        if score > highest or (score != score and highest == highest):
            best = k
    return best


@numba_device
def write_sum(y, count):
    """y[0] = the sum of the counts of a block's threads."""
    counts = cuda.shared.array(THREADS, numba.int32)
    counts[cuda.threadIdx.x] = count
    add_up(counts)
    if cuda.threadIdx.x == 0:
        y[0] = counts[0]


@numba_function
def count_classes(y, scores, labels):
    count = 0
    for n in range(cuda.grid(1), scores.shape[0], cuda.gridsize(1)):
        count += largest(scores, n) == labels[n]
    write_sum(y[cuda.blockIdx.x :], count)


@numba_function
def count_shares(y, scores, labels):
    count = 0
    for n in range(cuda.grid(1), scores.shape[0], cuda.gridsize(1)):
        count += largest(scores, n) == largest(labels, n)
    write_sum(y[cuda.blockIdx.x :], count)


@numba_function
def count_values(y, scores, labels, threshold):
    """scores and labels are flat."""
    count = 0
    for i in range(cuda.grid(1), scores.size, cuda.gridsize(1)):
        above = np.int8(1 if scores[i] > threshold else 0)  # a wider integer would be compared with a float as float64
        count += above == labels[i]
    write_sum(y[cuda.blockIdx.x :], count)


@numba_function
def sum_counts(y, counts, blocks):
    """One block."""
    count = 0
    for i in range(cuda.threadIdx.x, blocks, THREADS):
        count += counts[i]
    write_sum(y, count)


def _supports(scores, labels, **_):
    return labels.dtype.name in ("int32", "float32")


def _counts(scores, labels, **_):
    return Spec((BLOCKS,), np.dtype(np.int32))


def _launch(function, y, counts, size, *arguments):
    """One launch if one block is enough, which then writes the result itself."""
    blocks = min(BLOCKS, ceil_div(size, THREADS))
    function[blocks, THREADS](y if blocks == 1 else counts, *arguments)
    if blocks > 1:
        sum_counts[1, THREADS](y, counts, blocks)


@kernel(count_correct, "rows", "numba", supports=_supports, workspace=_counts)
def launch_rows(y, scores, labels, counts):
    _launch(count_classes if labels.ndim == 1 else count_shares, y, counts, scores.shape[0], scores, labels)


@kernel(count_correct_binary, "rows", "numba", supports=_supports, workspace=_counts)
def launch_values(y, scores, labels, counts, *, threshold):
    _launch(count_values, y, counts, scores.size, scores.reshape(-1), labels.reshape(-1), threshold)
