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


def fill(value):
    """The kernel that fills y with value(word) of one random word after the other."""

    @numba_function
    def fill(y, step, seed, stream, purpose):
        block = cuda.grid(1)
        first = 4 * block
        if first >= y.size:
            return
        w0, w1, w2, w3 = philox(word(block), word(step[0]), stream, purpose, seed)
        y[first] = value(w0)
        if first + 1 < y.size:
            y[first + 1] = value(w1)
        if first + 2 < y.size:
            y[first + 2] = value(w2)
        if first + 3 < y.size:
            y[first + 3] = value(w3)

    return fill


def register(op, function):
    @kernel(op, "philox", "numba")
    def launch(y, step, *, count, seed, stream, purpose):
        grid = blocks_1d(ceil_div(count, 4), THREADS)
        function[grid, THREADS](y, step, *key(seed, stream), np.uint64(purpose))


register(random_bits, fill(word))
register(random_uniform, fill(uniform))
