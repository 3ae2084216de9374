"""Contrast changed at random: one thread for a value; each draws the factor of its image again."""

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, np, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.contrast import random_contrast as op

from ..shared.philox_numba import AUGMENT, key, philox, uniform, word

THREADS = 256


@numba_function
def random_contrast(y, x, mean, step, low, width, least, most, seed, stream, counter):
    N, M, C = x.shape
    i = cuda.grid(1)
    if i >= N * M * C:
        return
    n, m, c = i // (M * C), i // C % M, i % C
    w0, w1, w2, w3 = philox(word(counter + n // 4), word(step[0]), stream, AUGMENT, seed)
    low_pair, high_pair = w1 if n & 1 else w0, w3 if n & 1 else w2
    factor = low + width * uniform(high_pair if n & 2 else low_pair)
    centre = mean[n, c]
    y[n, m, c] = min(max((x[n, m, c] - centre) * factor + centre, least), most)


@kernel(op, "elementwise", "numba")
def launch(y, x, mean, step, *, factor, limits, seed, stream, counter=0):
    flat = x.shape[0], x.shape[1] * x.shape[2], x.shape[3]
    numbers = map(np.float32, (factor[0], factor[1] - factor[0], *limits))
    random_contrast[blocks_1d(x.size, THREADS), THREADS](
        y.reshape(flat), x.reshape(flat), mean, step, *numbers, *key(seed, stream), np.int64(counter)
    )
