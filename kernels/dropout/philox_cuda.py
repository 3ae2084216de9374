"""Dropout without a mask: the random words are computed wherever they are used, ten Philox rounds
for four.

A mask would cost one more write and one more read of memory; the words cost arithmetic that the GPU
has to spare: about 15 integer operations for each value, in the time of the 8 bytes of x and y. A
channel of spatial dropout needs one word for all its positions, so a thread keeps its words for
several of them. Over the numba rung: vectors of four values.
"""

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import blocks_1d, ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.ops.dropout import dropout, scale, spatial_dropout, threshold

THREADS = 256

POSITIONS = 8
"""Positions of an image that one thread of spatial dropout visits."""

dropout_philox = cuda_function(__file__, "dropout_philox", POSITIONS=POSITIONS, DROPS=1)
spatial_dropout_quads = cuda_function(__file__, "spatial_dropout_quads", POSITIONS=POSITIONS, DROPS=1)
spatial_dropout_singles = cuda_function(__file__, "spatial_dropout_singles", POSITIONS=POSITIONS, DROPS=1)


@kernel(dropout, "philox", "cuda")
def launch_dropout(y, x, step, *, rate, seed, stream, counter=0):
    grid = blocks_1d(ceil_div(x.size, 4), THREADS)
    numbers = x.size, threshold(rate), scale(rate), seed, stream & 0xFFFFFFFF, counter & 0xFFFFFFFF
    dropout_philox[grid, THREADS](y, x, step, *numbers)


@kernel(spatial_dropout, "philox", "cuda")
def launch_spatial_dropout(y, x, step, *, rate, seed, stream, counter=0):
    N, M, C = x.shape
    chunks = ceil_div(M, POSITIONS)
    quads = C // 4 if C % 4 == 0 else 0
    function, lanes = (spatial_dropout_quads, quads) if quads else (spatial_dropout_singles, C)
    grid = blocks_1d(N * chunks * lanes, THREADS)
    numbers = threshold(rate), scale(rate), seed, stream & 0xFFFFFFFF, counter & 0xFFFFFFFF
    function[grid, THREADS](y, x, step, N, M, lanes, chunks, *numbers)
