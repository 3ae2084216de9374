"""One counter-based random generator for everything: Philox4x32-10.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11, section
3.2. A value depends on the seed and on its purpose, never on what was drawn before, so a run can be
resumed at any batch and a GPU can compute the same bits in any order. Key = seed; counter =
(element // 4, step, stream, purpose).
"""

from __future__ import annotations

import itertools

import numpy as np

from .arguments import Seed, checked

DROPOUT, SHUFFLE, INITIALIZE, AUGMENT, USER = range(5)
"""Purposes: the last word of the counter, so that two uses of one seed never meet."""

_MULTIPLY = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)

_seed = 0
_streams = itertools.count()


@checked
def set_random_seed(seed: Seed) -> None:
    """Restart the global stream: later initializers, dropout layers and shuffles repeat."""
    global _seed, _streams
    _seed = int(seed)
    _streams = itertools.count()


def global_seed() -> int:
    """The seed last passed to `set_random_seed`; 0 before."""
    return _seed


def next_stream() -> int:
    """A new stream number of the global seed, for an initializer or layer without a seed."""
    return next(_streams)


def philox(counter: np.ndarray, seed: int) -> np.ndarray:
    """Ten rounds of Philox4x32.

    counter  (n, 4) uint32
    →        (n, 4) uint32
    """
    c0, c1, c2, c3 = (counter[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLY[0], c2 * _MULTIPLY[1]
        c0, c1, c2, c3 = (
            (p1 >> _HALF) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _HALF) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def bits(count: int, *, seed: int, step: int = 0, stream: int = 0, purpose: int = USER, counter: int = 0) -> np.ndarray:
    """`count` random uint32: element i is word i % 4 of block (counter + i // 4, step, stream, purpose)."""
    blocks = -(-count // 4)
    counters = np.empty((blocks, 4), np.uint32)
    counters[:, 0] = np.arange(counter, counter + blocks) & 0xFFFFFFFF
    counters[:, 1:] = [step & 0xFFFFFFFF, stream & 0xFFFFFFFF, purpose]
    return philox(counters, seed).reshape(-1)[:count]


def uniform(
    count: int, *, seed: int, step: int = 0, stream: int = 0, purpose: int = USER, counter: int = 0
) -> np.ndarray:
    """`count` float32 of [0, 1): (u >> 8) · 2⁻²⁴ for each of the `bits`."""
    words = bits(count, seed=seed, step=step, stream=stream, purpose=purpose, counter=counter)
    return (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def normal(count: int, *, seed: int, step: int = 0, stream: int = 0, purpose: int = USER) -> np.ndarray:
    """`count` standard normal float32 (Box and Muller 1958), computed in float64."""
    pairs = -(-count // 2)
    u = bits(2 * pairs, seed=seed, step=step, stream=stream, purpose=purpose).astype(np.float64)
    radius = np.sqrt(-2.0 * np.log((u[0::2] + 1.0) * 2.0**-32))
    angle = 2.0 * np.pi * 2.0**-32 * u[1::2]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:count].astype(np.float32)


def permutation(n: int, *, seed: int, epoch: int = 0, stream: int = 0) -> np.ndarray:
    """A keyed shuffle of 0 … n-1, each position of which can be computed on its own.

    An alternating Feistel network on the smallest 2^b ≥ n with Philox as round function, walked
    until the value falls below n (Black and Rogaway, "Ciphers with arbitrary finite domains",
    CT-RSA 2002, sections 4 and 5), hence a bijection for every n.

    →  (n,) int64
    """
    width = max(2, (n - 1).bit_length())
    left, right = width // 2, width - width // 2
    mixed = _round_functions(right, seed, epoch, stream)
    values = _feistel(np.arange(n), left, right, mixed)
    outside = np.flatnonzero(values >= n)
    while outside.size:
        values[outside] = again = _feistel(values[outside], left, right, mixed)
        outside = outside[again >= n]
    return values


def near_permutation(n: int, block: int, near: int, *, seed: int, epoch: int = 0) -> np.ndarray:
    """A keyed shuffle of 0 … n-1 for files: blocks of neighbours are shuffled, and then the values within
    each `near` blocks. It needs few values besides the result.

    →  (n,) int64
    """
    blocks = permutation(-(-n // block), seed=seed, epoch=epoch)
    result, start = np.empty(n, np.int64), 0
    for stream, first in enumerate(range(0, len(blocks), near), 1):
        ranges = [np.arange(b * block, min((b + 1) * block, n)) for b in blocks[first : first + near].tolist()]
        values = np.concatenate(ranges)
        stop = start + len(values)
        result[start:stop] = values[permutation(len(values), seed=seed, epoch=epoch, stream=stream)]
        start = stop
    return result


def _round_functions(width: int, seed: int, epoch: int, stream: int) -> np.ndarray:
    """The round functions of eight rounds, (8, 2^width): half a word has few values, so each is computed once."""
    counter = np.empty((8, 1 << width, 4), np.uint32)
    counter[:, :, 0] = np.arange(1 << width)
    counter[:, :, 1] = epoch & 0xFFFFFFFF
    counter[:, :, 2] = np.arange(8)[:, None] | (stream << 4) & 0xFFFFFFFF
    counter[:, :, 3] = SHUFFLE
    return philox(counter.reshape(-1, 4), seed)[:, 0].astype(np.int64).reshape(8, -1)


def _feistel(values: np.ndarray, left: int, right: int, mixed: np.ndarray) -> np.ndarray:
    """The Feistel network with these round functions on words of `left` + `right` bits."""
    high, low = values >> right, values & (1 << right) - 1
    for function in mixed:
        high, low = low, high ^ (function & (1 << left) - 1)[low]
        left, right = right, left
    return high << right | low
