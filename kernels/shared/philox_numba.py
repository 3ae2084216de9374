"""Philox4x32-10: four random words from a counter and a key, without a state that threads would
have to share.

Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11, section 3.2. The
same bits as `gpucnn.random`: key = seed, counter = (element // 4, step, stream, purpose). Words
have 32 bits and are kept as uint64, where their products have room; the compiler sees the zeros
above and makes 32-bit code of it: 20 products and about 40 other operations.
"""

import numpy as np

from gpucnn import random
from gpucnn.devices.numba_cuda import numba_device

DROPOUT, SHUFFLE, AUGMENT = (np.uint64(purpose) for purpose in (random.DROPOUT, random.SHUFFLE, random.AUGMENT))

_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_MULTIPLY_0, _MULTIPLY_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_UNIT = np.float32(2.0**-24)


def key(seed, stream):
    """Seed and stream as a kernel takes them."""
    return np.uint64(seed), np.uint64(stream & 0xFFFFFFFF)


@numba_device
def word(number):
    """The lower 32 bits of an integer."""
    return np.uint64(number) & _LOW


@numba_device
def philox(c0, c1, c2, c3, seed):
    """Four words from the words of a counter and a seed of 64 bits."""
    k0, k1 = seed & _LOW, seed >> _HALF
    for _ in range(10):
        p0, p1 = _MULTIPLY_0 * c0, _MULTIPLY_1 * c2
        c0, c1, c2, c3 = (p1 >> _HALF) ^ c1 ^ k0, p1 & _LOW, (p0 >> _HALF) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _WEYL_0) & _LOW, (k1 + _WEYL_1) & _LOW
    return c0, c1, c2, c3


@numba_device
def kept(x, random_word, threshold, scale):
    """What dropout makes of a value."""
    return np.float32(0) if random_word < threshold else x * scale


@numba_device
def word_of(element, counter, step, stream, purpose, seed):
    """The word of an element of an array whose first four have the words of `counter`."""
    w0, w1, w2, w3 = philox(word(counter + element // 4), word(step), stream, purpose, seed)
    low, high = w1 if element & 1 else w0, w3 if element & 1 else w2
    return high if element & 2 else low


@numba_device
def uniform(random_word):
    """A float32 of [0, 1) from the upper 24 bits of a word: the product is exact."""
    return np.float32(np.uint32(random_word >> np.uint64(8))) * _UNIT
