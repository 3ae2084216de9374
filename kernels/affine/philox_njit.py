"""Random affine maps on the CPU: two counters of Philox and about 100 integer operations for an image."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpucnn import random
from gpucnn.devices.njit import njit
from gpucnn.devices.team import whole
from gpucnn.dispatch.op import kernel
from gpucnn.ops.affine import PIXEL, random_affine

from ..shared.affine_arithmetic import QUARTER, between, product, sine, start
from ..shared.affine_launch import numbers
from ..shared.philox_njit import key_now, words

_between, _sine, _product, _start = (njit(forceinline=True)(function) for function in (between, sine, product, start))


@kernel(random_affine, "philox", "njit", compiled=True)
def launch(maps: Any, step: Any, *, count: int, seed: int, stream: int, **how: Any) -> None:
    _draw(maps, key_now(step, stream, random.AUGMENT, seed), np.array(numbers(**how), np.int64))


@whole
def _draw(maps, key, how):
    H, W, P, Q = how[0], how[1], how[2], how[3]
    for n in range(len(maps)):
        w0, w1, w2, w3 = words(2 * n, key)
        w4, w5, w6, _ = words(2 * n + 1, key)
        turn = _between(w2, how[4], how[5])
        sin, cos = _sine(turn), _sine(turn + QUARTER)
        rows = _between(w5, how[10], how[11]) + PIXEL
        columns = _between(w5 if how[14] else w6, how[12], how[13]) + PIXEL
        if how[15] and np.int64(w0) & 1:
            rows = -rows
        if how[16] and np.int64(w1) & 1:
            columns = -columns
        a, b, d, e = _product(cos, rows), _product(sin, columns), _product(-sin, rows), _product(cos, columns)
        maps[n, 0], maps[n, 1], maps[n, 3], maps[n, 4] = a, b, d, e
        maps[n, 2] = _start(a, b, w0, _between(w3, how[6], how[7]), H, P, P, Q)
        maps[n, 5] = _start(d, e, w1, _between(w4, how[8], how[9]), W, Q, P, Q)
