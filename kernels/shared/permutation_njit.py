"""The keyed shuffle of `gpucnn.random.permutation`, for one position alone.

An alternating Feistel network on the smallest 2^b ≥ n, with Philox as its round function, walked
until the value falls below n: Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA
2002, sections 4 and 5.
"""

from __future__ import annotations

import numpy as np

from gpucnn import random
from gpucnn.devices.njit import njit

from .philox_njit import key, words

FEISTEL_ROUNDS = 8


def round_keys(epoch: int, stream: int, seed: int) -> np.ndarray:
    """A key for each round, as `shuffled` takes them."""
    return np.stack([key(epoch, stream << 4 | number, random.SHUFFLE, seed) for number in range(FEISTEL_ROUNDS)])


@njit(forceinline=True)
def shuffled(position, n, keys):
    """The sample at `position` < n in this epoch's order."""
    width = 2
    while (1 << width) < n:
        width += 1
    narrow = width // 2
    wide = width - narrow
    value = position
    while True:
        high, low = value >> wide, value & ((1 << wide) - 1)
        for number in range(FEISTEL_ROUNDS):
            mask = (1 << (wide if number % 2 else narrow)) - 1
            mixed = words(low, keys[number])[0]
            high, low = low, high ^ (np.int64(mixed) & mask)
        value = high << wide | low
        if value < n:
            return value
