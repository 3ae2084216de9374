"""Batch normalisation by the statistics of a batch of which several processes compute a part each.

Means and variances of the parts are merged as in Chan, Golub, LeVeque, "Updating formulae and a
pairwise algorithm for computing sample variances" (1979), formula 2.1, in the order of the ranks: all
processes get the same bits. The gradient is that of `ops.batchnorm`, with the two sums over the batch
taken over all parts.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..devices import storage
from ..distributed import Group
from ..ops.batchnorm import batchnorm, batchnorm_inference, batchnorm_inference_grad
from .layer import Backward, Layer, Weight


def forward(
    layer: Layer, x: Any, scale: Weight | None, shift: Weight | None, epsilon: float, group: Group
) -> tuple[Any, Backward]:
    """(y, backward) with the weights gamma and beta, and the statistics of the whole batch kept for the
    `update` of the layer. All processes of the group call it, and then the backward pass, in the same order."""
    gamma, beta = (None if weight is None else weight.value for weight in (scale, shift))
    positions = math.prod(x.shape[1:-1])
    own = 0 if layer.is_idle else len(x) * positions
    _, local_mean, local_variance = batchnorm(x, None, None, epsilon=epsilon)
    counts = gathered(group, np.array([own], np.float32))[:, 0]
    total, moments = counts.sum(), gathered(group, storage.get(local_mean), storage.get(local_variance))
    mean, variance = (storage.put(array) for array in merged(counts, *np.split(moments, 2, axis=1)))
    layer.batch_statistics = [mean, variance]
    y = batchnorm_inference(x, gamma, beta, mean, variance, epsilon=epsilon)

    def backward(dy: Any, need_dx: bool = True) -> Any:
        out = (None, *(None if weight is None else weight.gradient for weight in (scale, shift)))
        dx, along, sums = batchnorm_inference_grad(dy, x, gamma, mean, variance, epsilon=epsilon, out=out)
        share = np.float32(not layer.is_idle) / total
        rows = gathered(group, share * storage.get(along), share * storage.get(sums))
        along, sums = np.split(np.add.reduce(rows, axis=0), 2)
        slope = (1.0 if gamma is None else storage.get(gamma)) / np.sqrt(storage.get(variance) + np.float32(epsilon))
        common = [storage.put((slope * part).astype(np.float32)) for part in (along, sums)]
        if not need_dx:
            return None
        dx -= batchnorm_inference(x, *common, mean, variance, epsilon=epsilon)
        return dx

    return y, backward


def gathered(group: Group, *arrays: np.ndarray) -> np.ndarray:
    """(ranks, …): the arrays of each rank, one behind the other in a row."""
    row = np.concatenate(arrays).astype(np.float32)
    return group.gather(row[None], [1] * group.size)


def merged(counts: np.ndarray, means: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (C,) of all values, from how many there are in each part (ranks,), and the means
    and variances of the parts (ranks, C)."""
    weights = (counts / counts.sum())[:, None].astype(means.dtype)
    mean = (weights * means).sum(axis=0)
    return mean, (weights * (variances + (means - mean) ** 2)).sum(axis=0)
