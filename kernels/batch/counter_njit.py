"""The counters of a training step, counted where they are."""

from __future__ import annotations

import numpy as np

from gpucnn.devices.team import whole
from gpucnn.dispatch.op import kernel
from gpucnn.ops.batch import advance


@kernel(advance, "counter", "njit", compiled=True)
def launch(counters, *, steps):
    _count(counters, np.int64(steps))


@whole
def _count(counters, steps):
    counters[0] += 1
    if counters[0] >= steps:
        counters[0] = 0
        counters[1] += 1
    if len(counters) == 3:
        counters[2] += 1
