"""The keyed shuffle of `gpucnn.random.permutation`, for one position alone: no array of indices, no
sorting, no host.

An alternating Feistel network on the smallest 2^b ≥ n, with Philox as its round function, walked
until the value falls below n: Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA
2002, sections 4 and 5. At most two walks on average (n > 1), 8 blocks of Philox each: compute it
once for a row, not for a pixel.
"""

import numpy as np

from gpucnn.devices.numba_cuda import numba_device

from .philox_numba import SHUFFLE, philox, word

FEISTEL_ROUNDS = 8


@numba_device
def shuffled(position, n, epoch, seed, stream):
    """The sample at `position` < n in this epoch's order; epoch and stream are words, seed is
    uint64."""
    width = 2
    while (1 << width) < n:
        width += 1
    narrow = width // 2
    wide = width - narrow
    value = position
    while True:
        high, low = value >> wide, value & ((1 << wide) - 1)
        for round_ in range(FEISTEL_ROUNDS):
            mask = (1 << (wide if round_ % 2 else narrow)) - 1
            of_round = word(stream << np.uint64(4) | np.uint64(round_))
            mixed = philox(word(low), epoch, of_round, SHUFFLE, seed)[0]
            high, low = low, high ^ (np.int64(mixed) & mask)
        value = high << wide | low
        if value < n:
            return value
