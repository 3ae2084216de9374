"""All that a step takes from the data set: each row's sample is computed and its values are copied.

The data set stays as it is; no list of indices is created or sorted. Traffic: each row read and
written once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpucnn.devices.njit import inner
from gpucnn.dispatch.op import kernel
from gpucnn.ops.batch import gather_batch

from ..shared.gather_launch import plan_of, supports
from ..shared.permutation_njit import round_keys, shuffled
from ..shared.slices_launch import in_slices


@kernel(gather_batch, "gather", "njit", supports=supports)
def launch(x, following, *arrays, rows, first, batch_size, steps, ring, seed, stream, shuffle):
    plan = plan_of(x, arrays)
    batch, epoch, total = map(int, plan.counters)
    keys = round_keys(epoch, stream, seed)

    def gather(to: np.ndarray, source: np.ndarray, start: int, is_shuffled: bool) -> None:
        samples: Any = source.reshape(len(source), -1)
        in_slices(_copied, (to.reshape(rows, -1), np.arange(rows)), samples, start, keys, is_shuffled)

    start = batch * batch_size + first
    gather(x, plan.images, batch * ring if ring else start, shuffle and not ring)
    for to, source in ((plan.y, plan.labels), (plan.factors, plan.weights)):
        if source is not None:
            gather(to, source, start, shuffle)
    if plan.table is not None:
        plan.row[...] = plan.table[batch % len(plan.table)]
    last = batch + 1 >= steps
    following[...] = 0 if last else batch + 1, epoch + last, total + 1


@inner
def _copied(y, rows, samples, first, keys, shuffle):
    n = len(samples)
    for i in range(len(rows)):
        position = (first + rows[i]) % n
        values, results = samples[shuffled(position, n, keys) if shuffle else position], y[i]
        for k in range(len(values)):
            results[k] = values[k]
