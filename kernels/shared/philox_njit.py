"""Philox4x32-10: four random words from a counter and a key, several counters in a vector.

Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11, section 3.2. The
same bits as `gpucnn.random`. Words have 32 bits and are kept as uint64, where their products have
room.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.njit import njit
from gpucnn.devices.recorders import again

_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
MULTIPLIERS = _MULTIPLY_0, _MULTIPLY_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_UNIT, _EIGHT = np.float32(2.0**-24), np.uint64(8)
WEYL = _WEYL_0, _WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
ROUNDS = 10


def key(step: int, stream: int, purpose: int, seed: int) -> np.ndarray:
    """The words that all counters share, as `words` takes them."""
    return np.array([step & 0xFFFFFFFF, stream & 0xFFFFFFFF, purpose, seed & 0xFFFFFFFF, seed >> 32], np.uint64)


def key_now(step: np.ndarray, stream: int, purpose: int, seed: int) -> np.ndarray:
    """The same for the step that an array of one number counts."""
    words = key(0, stream, purpose, seed)
    again(_set_step, words, step)
    return words


def _set_step(words: np.ndarray, step: np.ndarray) -> None:
    words[0] = int(step[0]) & 0xFFFFFFFF


@njit(forceinline=True)
def words(counter, key):
    """The four words of a counter, each as uint64."""
    c0, c1, c2, c3 = np.uint64(counter) & _LOW, key[0], key[1], key[2]
    k0, k1 = key[3], key[4]
    for _ in range(ROUNDS):
        p0 = c0 * _MULTIPLY_0
        p1 = c2 * _MULTIPLY_1
        c0, c1, c2, c3 = (p1 >> _HALF) ^ c1 ^ k0, p1 & _LOW, (p0 >> _HALF) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _WEYL_0) & _LOW, (k1 + _WEYL_1) & _LOW
    return c0, c1, c2, c3


@njit(forceinline=True)
def share(word):
    """A number of [0, 1) from the upper 24 bits of a word: the product is exact."""
    return np.float32(word >> _EIGHT) * _UNIT
