"""Sums over a flat array in two stages, in one fixed order: each block its share, then one block
the blocks' sums.

A norm reads x once, 4 bytes and 4 FLOPs an element; the numba rung reads it twice, first for the
largest element and then for the squares. Here each thread raises its scale as it goes, which loses
nothing, for scales are powers of two. An array of up to one block's share takes a single launch.
"""

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops import update

THREADS = 256
SHARE = 16 * THREADS  # elements of a block: 4 groups of 4 for each thread, so that 4 loads are in flight
MOST_BLOCKS = 1024  # 8 for each of some 130 multiprocessors; a second stage of 4 pairs a thread

norm_of_blocks = cuda_function(__file__, "norm_of_blocks", THREADS=THREADS)
norm_of_all = cuda_function(__file__, "norm_of_all", THREADS=THREADS)
penalty_of_blocks = cuda_function(__file__, "penalty_of_blocks", THREADS=THREADS)
penalty_of_all = cuda_function(__file__, "penalty_of_all", THREADS=THREADS)


def _partial(x, **_):
    blocks = min(MOST_BLOCKS, ceil_div(x.shape[0], SHARE))
    return Spec((blocks, 2), x.dtype)


@kernel(update.norm_parts, "two_stage", "cuda", workspace=_partial)
def launch_norm_parts(parts, x, partial):
    blocks = partial.shape[0]
    norm_of_blocks[blocks, THREADS](parts, partial, x, x.size)
    if blocks > 1:
        norm_of_all[1, THREADS](parts, partial, blocks)


@kernel(update.penalty, "two_stage", "cuda", workspace=_partial)
def launch_penalty(penalty, values, partial, *, l1, l2):
    blocks = partial.shape[0]
    penalty_of_blocks[blocks, THREADS](penalty, partial, values, values.size, l1, l2)
    if blocks > 1:
        penalty_of_all[1, THREADS](penalty, partial, blocks, l1, l2)
