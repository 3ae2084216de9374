"""Dropout without a mask: the random words are computed wherever they are used, ten Philox rounds
for four.

A mask would cost one more write and one more read of memory; the words cost arithmetic that the GPU
has to spare: about 15 integer operations for each value, in the time of the 8 bytes of x and y. A
channel of spatial dropout needs one word for all its positions, so a thread keeps its word for
several of them.
"""

from gpucnn.devices.launch import blocks_1d, ceil_div
from gpucnn.devices.numba_cuda import cuda, np, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.dropout import dropout, scale, spatial_dropout, threshold

from ..shared.philox_numba import DROPOUT, kept, key, philox, word, word_of

THREADS = 256

POSITIONS = 8
"""Positions of an image that one thread of spatial dropout visits."""


@numba_function
def dropout_philox(y, x, step, threshold, scale, seed, stream, counter):
    """y and x are flat."""
    block = cuda.grid(1)
    first = 4 * block
    if first >= x.size:
        return
    w0, w1, w2, w3 = philox(word(counter + block), word(step[0]), stream, DROPOUT, seed)
    y[first] = kept(x[first], w0, threshold, scale)
    if first + 1 < x.size:
        y[first + 1] = kept(x[first + 1], w1, threshold, scale)
    if first + 2 < x.size:
        y[first + 2] = kept(x[first + 2], w2, threshold, scale)
    if first + 3 < x.size:
        y[first + 3] = kept(x[first + 3], w3, threshold, scale)


@numba_function
def spatial_dropout_philox(y, x, step, chunks, threshold, scale, seed, stream, counter):
    """Threads stand at the first `chunks` positions of each image and continue at steps of as many,
    so that neighbours in a warp always touch neighbours in memory."""
    N, M, C = x.shape
    i = cuda.grid(1)
    n = i // (chunks * C)
    if n >= N:
        return
    c = i % C
    channel = n * C + c
    of_channel = word_of(channel, counter, step[0], stream, DROPOUT, seed)
    for m in range(i // C % chunks, M, chunks):
        y[n, m, c] = kept(x[n, m, c], of_channel, threshold, scale)


@kernel(dropout, "philox", "numba")
def launch_dropout(y, x, step, *, rate, seed, stream, counter=0):
    grid = blocks_1d(ceil_div(x.size, 4), THREADS)
    flat_y, flat_x, limit = y.reshape(-1), x.reshape(-1), np.uint64(threshold(rate))
    dropout_philox[grid, THREADS](flat_y, flat_x, step, limit, scale(rate), *key(seed, stream), np.int64(counter))


@kernel(spatial_dropout, "philox", "numba")
def launch_spatial_dropout(y, x, step, *, rate, seed, stream, counter=0):
    N, M, C = x.shape
    chunks = ceil_div(M, POSITIONS)
    grid = blocks_1d(N * chunks * C, THREADS)
    limit = np.uint64(threshold(rate))
    spatial_dropout_philox[grid, THREADS](y, x, step, chunks, limit, scale(rate), *key(seed, stream), np.int64(counter))
