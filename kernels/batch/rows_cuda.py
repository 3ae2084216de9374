"""Count correct rows by a group of lanes for each row: 1 lane for 1 score, up to a warp for 32 and
more.

A thread for each row would read scores that lie K apart; lanes that share a row read neighbours and
agree on the largest by exchanging registers, which is what this adds to the numba rung. The sum of
integers is the same in any order; it goes from threads to warps to blocks, and over the blocks by a
second launch, without atomics. Each score is read once: 4 bytes and about 8 integer operations.
"""

import math

import numpy as np

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.batch import count_correct, count_correct_binary

THREADS = 256

BLOCKS = 1024
"""As many blocks at most: each goes through its share of the rows, and one block can sum the counts
of all."""

ROWS = {
    "int32": cuda_function(__file__, "count_classes", THREADS=THREADS),
    "float32": cuda_function(__file__, "count_shares", THREADS=THREADS),
}
VALUES = {
    "int32": cuda_function(__file__, "count_binary_integers", THREADS=THREADS),
    "float32": cuda_function(__file__, "count_binary_reals", THREADS=THREADS),
}
sum_counts = cuda_function(__file__, "sum_counts", THREADS=THREADS)


def _lanes(K):
    """The smallest power of two that is K or more, 32 at most."""
    return min(32, 1 << (K - 1).bit_length())


def _supports(scores, labels, **_):
    return labels.dtype.name in ROWS


def _counts(scores, labels, **_):
    return Spec((BLOCKS,), np.dtype(np.int32))


def _launch(function, y, counts, blocks, *arguments):
    """One launch if one block is enough, which then writes the result itself."""
    blocks = min(BLOCKS, blocks)
    function[blocks, THREADS](y if blocks == 1 else counts, *arguments)
    if blocks > 1:
        sum_counts[1, THREADS](y, counts, blocks)


@kernel(count_correct, "rows", "cuda", supports=_supports, workspace=_counts)
def launch_rows(y, scores, labels, counts):
    N, K = scores.shape
    lanes = _lanes(K)
    _launch(ROWS[labels.dtype.name], y, counts, ceil_div(N * lanes, THREADS), scores, labels, N, K, lanes)


@kernel(count_correct_binary, "rows", "cuda", supports=_supports, workspace=_counts)
def launch_values(y, scores, labels, counts, *, threshold):
    size = math.prod(scores.shape)
    _launch(VALUES[labels.dtype.name], y, counts, ceil_div(size, 4 * THREADS), scores, labels, size, threshold)
