"""Random words and uniforms by Philox: one thread for the four words of a counter.

Nothing is kept between threads or launches, so every device and every grid gives the same bits.
About 60 integer operations and 16 bytes written for each thread.
"""

from gpucnn.devices.launch import blocks_1d, ceil_div
from gpucnn.devices.numba_cuda import cuda, np, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.sampling import random_bits, random_uniform

from ..shared.philox_numba import key, philox, uniform, word

THREADS = 256


@numba_function
def bits(y, step, seed, stream, purpose):
    block = cuda.grid(1)
    first = 4 * block
    if first >= y.size:
        return
    w0, w1, w2, w3 = philox(word(block), word(step[0]), stream, purpose, seed)
    y[first] = w0
    if first + 1 < y.size:
        y[first + 1] = w1
    if first + 2 < y.size:
        y[first + 2] = w2
    if first + 3 < y.size:
        y[first + 3] = w3


@numba_function
def uniforms(y, step, seed, stream, purpose):
    block = cuda.grid(1)
    first = 4 * block
    if first >= y.size:
        return
    w0, w1, w2, w3 = philox(word(block), word(step[0]), stream, purpose, seed)
    y[first] = uniform(w0)
    if first + 1 < y.size:
        y[first + 1] = uniform(w1)
    if first + 2 < y.size:
        y[first + 2] = uniform(w2)
    if first + 3 < y.size:
        y[first + 3] = uniform(w3)


@kernel(random_bits, "philox", "numba")
def launch_bits(y, step, *, count, seed, stream, purpose):
    grid = blocks_1d(ceil_div(count, 4), THREADS)
    bits[grid, THREADS](y, step, *key(seed, stream), np.uint64(purpose))


@kernel(random_uniform, "philox", "numba")
def launch_uniform(y, step, *, count, seed, stream, purpose):
    grid = blocks_1d(ceil_div(count, 4), THREADS)
    uniforms[grid, THREADS](y, step, *key(seed, stream), np.uint64(purpose))
