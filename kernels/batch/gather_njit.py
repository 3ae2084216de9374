"""All that a step takes from the data set: each row's sample is computed and its values are copied.

The data set stays as it is; no list of indices is created or sorted. Traffic: each row read and
written once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpucnn.devices.njit import njit
from gpucnn.dispatch.op import kernel
from gpucnn.ops.batch import gather_batch

from ..shared.gather_launch import plan_of, supports
from ..shared.permutation_njit import round_keys, shuffled
from ..shared.slices_launch import in_slices


@kernel(gather_batch, "gather", "njit", supports=supports)
def launch(x, following, *arrays, rows, batch_size, steps, seed, stream, shuffle, in_turn):
    plan = plan_of(x, arrays)
    batch, epoch, total = map(int, plan.counters)
    order = batch * batch_size, round_keys(epoch, stream, seed)

    def gather(to: np.ndarray, source: np.ndarray, is_shuffled: bool) -> None:
        samples: Any = source.reshape(len(source), -1)
        in_slices(_copied, (to.reshape(rows, -1), np.arange(rows)), samples, *order, is_shuffled)

    gather(x, plan.images, shuffle and not in_turn)
    for to, source in ((plan.y, plan.labels), (plan.factors, plan.weights)):
        if source is not None:
            gather(to, source, shuffle)
    if plan.table is not None:
        plan.row[...] = plan.table[batch % len(plan.table)]
    last = batch + 1 >= steps
    following[...] = 0 if last else batch + 1, epoch + last, total + 1


@njit(nogil=True, cache=True, error_model="numpy")
def _copied(y, rows, samples, first, keys, shuffle):
    n = len(samples)
    for i in range(len(rows)):
        position = (first + rows[i]) % n
        values, results = samples[shuffled(position, n, keys) if shuffle else position], y[i]
        for k in range(len(values)):
            results[k] = values[k]
