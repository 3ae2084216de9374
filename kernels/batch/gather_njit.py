"""Pick a batch out of a data set: each row's sample is computed and its values are copied.

The data set stays as it is; no list of indices is created or sorted. Bytes are scaled in float64
and rounded once. Traffic: each row read and written once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpucnn.devices.njit import inner, njit
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.batch import gather_images, gather_labels

from ..shared.permutation_njit import round_keys, shuffled
from ..shared.slices_launch import in_slices


def _supports_images(images: Spec, epoch: Spec, batch: Spec, **_: Any) -> bool:
    return images.dtype.name in ("uint8", "float32")


def _supports_labels(labels: Spec, epoch: Spec, batch: Spec, **_: Any) -> bool:
    return labels.dtype.name in ("int32", "float32")


def _order(
    epoch: Any, batch: Any, first: int, batch_size: int, seed: int, stream: int, shuffle: bool
) -> tuple[Any, ...]:
    return int(batch[0]) * batch_size + first, round_keys(int(epoch[0]), stream, seed), shuffle


@kernel(gather_images, "gather", "njit", supports=_supports_images)
def launch_images(y, images, epoch, batch, *, rows, scale, offset, **order):
    samples = images.reshape(len(images), -1)
    factor = np.float64 if images.dtype == np.uint8 else np.float32
    numbers = (*_order(epoch, batch, **order), factor(scale), factor(offset))
    in_slices(_scaled, (y.reshape(rows, -1), np.arange(rows)), samples, *numbers)


@kernel(gather_labels, "gather", "njit", supports=_supports_labels)
def launch_labels(y, labels, epoch, batch, *, rows, **order):
    samples = labels.reshape(len(labels), -1)
    in_slices(_copied, (y.reshape(rows, -1), np.arange(rows)), samples, *_order(epoch, batch, **order))


@njit(forceinline=True)
def _sample(row, n, first, keys, shuffle):
    position = (first + row) % n
    return shuffled(position, n, keys) if shuffle else position


@inner
def _scaled(y, rows, samples, first, keys, shuffle, scale, offset):
    for i in range(len(rows)):
        values, results = samples[_sample(rows[i], len(samples), first, keys, shuffle)], y[i]
        for k in range(len(values)):
            results[k] = values[k] * scale + offset


@inner
def _copied(y, rows, samples, first, keys, shuffle):
    for i in range(len(rows)):
        values, results = samples[_sample(rows[i], len(samples), first, keys, shuffle)], y[i]
        for k in range(len(values)):
            results[k] = values[k]
