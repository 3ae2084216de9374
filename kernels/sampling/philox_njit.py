"""Random words and uniform numbers: ten rounds of Philox for four of them, several counters in a
vector.

Work: about 10 integer operations for each word. Slices are whole numbers of counters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.team import tasks
from gpucnn.dispatch.op import kernel
from gpucnn.ops.sampling import random_bits, random_uniform

from ..shared.philox_njit import key_now, share, words
from ..shared.slices_launch import SMALLEST


def _draw(function: Callable[..., None], y: np.ndarray, step: np.ndarray, seed: int, stream: int, purpose: int) -> None:
    numbers = key_now(step, stream, purpose, seed)
    bounds = threads.bounds(-(-y.size // 4), SMALLEST // 4)
    function(len(bounds) - 1, y, numbers, bounds)


@kernel(random_bits, "philox", "njit", compiled=True)
def launch_bits(y: Any, step: Any, *, count: int, seed: int, stream: int, purpose: int) -> None:
    _draw(_bits, y, step, seed, stream, purpose)


@kernel(random_uniform, "philox", "njit", compiled=True)
def launch_uniform(y: Any, step: Any, *, count: int, seed: int, stream: int, purpose: int) -> None:
    _draw(_uniform, y, step, seed, stream, purpose)


@tasks
def _bits(part, words_of_all, key, bounds):
    first = bounds[part]
    y = words_of_all[4 * first : 4 * bounds[part + 1]]
    whole = len(y) // 4
    for i in range(whole):
        w0, w1, w2, w3 = words(first + i, key)
        y[4 * i], y[4 * i + 1], y[4 * i + 2], y[4 * i + 3] = w0, w1, w2, w3
    rest = words(first + whole, key)
    for i in range(4 * whole, len(y)):
        y[i] = rest[i - 4 * whole]


@tasks
def _uniform(part, numbers, key, bounds):
    first = bounds[part]
    y = numbers[4 * first : 4 * bounds[part + 1]]
    whole = len(y) // 4
    for i in range(whole):
        w0, w1, w2, w3 = words(first + i, key)
        y[4 * i], y[4 * i + 1], y[4 * i + 2], y[4 * i + 3] = share(w0), share(w1), share(w2), share(w3)
    rest = words(first + whole, key)
    for i in range(4 * whole, len(y)):
        y[i] = share(rest[i - 4 * whole])
