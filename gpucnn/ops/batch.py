"""Batches on the device: gathering images and labels, counting steps and correct predictions.

The numbers of the batch and of the epoch are operands, so that a captured step can be replayed;
`advance` counts them on the device. The samples of an epoch are in the order of
`random.permutation`, which a kernel can compute for each position separately.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import random
from ..arguments import Count, Natural, Seed
from ..dispatch.case import Array, Case, Draw, Spec, among, integers, real
from ..dispatch.op import op
from ..errors import ArgumentError, ShapeError
from .arguments import check_counter

_COUNT = np.dtype(np.int32)
_NUMBER = integers(1, high=7, dtype="int64")
_SHUFFLED = {"first": 0, "seed": 1234567890123, "stream": 3, "shuffle": True}
_IN_ORDER = {"first": 0, "seed": 0, "stream": 0, "shuffle": False}
_PART = _SHUFFLED | {"first": 3}


def _check_batch(
    name: str,
    samples: Spec,
    epoch: Spec,
    batch: Spec,
    *,
    rows: Natural,
    first: Natural,
    batch_size: Count,
    seed: Seed,
    stream: Seed,
    shuffle: bool,
) -> None:
    if not samples.shape or not samples.shape[0]:
        raise ShapeError(f"{name}: there must be one sample or more along the first axis: {samples.shape}")
    check_counter(name, "epoch", epoch)
    check_counter(name, "batch", batch)
    if first + rows > batch_size:
        raise ArgumentError(
            f"{name}: first={first}, rows={rows} of batch_size={batch_size} is out of range: the sum is 0 … batch_size"
        )


def _samples(
    n: int, epoch: Array, batch: Array, rows: int, first: int, batch_size: int, seed: int, stream: int, shuffle: bool
) -> Array:
    """The numbers of the samples in rows first … first + rows - 1 of a batch."""
    positions = (int(batch[0]) * batch_size + first + np.arange(rows)) % n
    return random.permutation(n, seed=seed, epoch=int(epoch[0]), stream=stream)[positions] if shuffle else positions


def _images_outputs(
    images: Spec, epoch: Spec, batch: Spec, *, rows: int, scale: float, offset: float, **order: Any
) -> Spec:
    _check_batch("gather_images", images, epoch, batch, rows=rows, **order)
    if images.dtype.kind != "f" and images.dtype != np.uint8:
        raise ShapeError(f"gather_images: images are {images.dtype} and must be uint8 or floating-point numbers")
    return Spec((rows, *images.shape[1:]), images.dtype if images.dtype.kind == "f" else np.dtype(np.float32))


def _bytes(*shape: int) -> Draw:
    return integers(*shape, high=256, dtype="uint8")


_PIXELS = {"scale": 1 / 255, "offset": 0.0}
_CENTRED = {"scale": 1 / 127.5, "offset": -1.0}
_AS_THEY_ARE = {"scale": 1.0, "offset": 0.0}
_GATHERED_BENCH = {
    "mnist": (_bytes(60000, 28, 28, 1), 128),
    "cifar": (_bytes(50000, 32, 32, 3), 512),
    "imagenet": (_bytes(300, 224, 224, 3), 256),
}


@op(
    outputs=_images_outputs,
    cases=[
        Case(name, (images, _NUMBER, _NUMBER), {"rows": rows, "batch_size": size} | order | values)
        for name, images, rows, size, order, values in (
            ("one", _bytes(1, 1), 1, 1, _SHUFFLED, _PIXELS),
            ("two", _bytes(2, 3), 2, 2, _SHUFFLED, _PIXELS),
            ("every_byte", _bytes(9, 16, 16, 1), 9, 9, _SHUFFLED, _PIXELS),
            ("digits", _bytes(50, 8, 8, 1), 7, 7, _SHUFFLED, _PIXELS),
            ("last_of_epoch", _bytes(50, 8, 8, 1), 3, 7, _SHUFFLED, _PIXELS),
            ("in_order", _bytes(50, 8, 8, 1), 7, 7, _IN_ORDER, _PIXELS),
            ("part", _bytes(50, 8, 8, 1), 4, 7, _PART, _PIXELS),
            ("ragged", _bytes(13, 5, 3, 3), 4, 4, _SHUFFLED, _CENTRED),
            ("beyond_the_last", _bytes(5, 3, 4), 11, 11, _SHUFFLED, _CENTRED),
            ("chunks", _bytes(3, 65, 64, 1), 2, 2, _SHUFFLED, _CENTRED),
            ("ragged_chunks", _bytes(3, 4099), 2, 2, _SHUFFLED, _PIXELS),
            ("floats", real(20, 6, 6, 3), 8, 8, _SHUFFLED, _AS_THEY_ARE),
            ("floats_ragged", real(20, 5, 3), 8, 8, _SHUFFLED, _CENTRED),
            ("floats_in_order", real(20, 5, 3), 8, 8, _IN_ORDER, _AS_THEY_ARE),
        )
    ]
    + [
        Case(name, (images, _NUMBER, _NUMBER), {"rows": size, "batch_size": size} | _SHUFFLED | _PIXELS, bench=True)
        for name, (images, size) in _GATHERED_BENCH.items()
    ],
    prefer=("gather",),
    flops=lambda images, epoch, batch, *, rows, **_: 2 * rows * math.prod(images.shape[1:]),
    ulps=1,
)
def gather_images(
    images: Array,
    epoch: Array,
    batch: Array,
    *,
    rows: Natural,
    first: Natural,
    batch_size: Count,
    seed: Seed,
    stream: Seed,
    shuffle: bool,
    scale: float,
    offset: float,
) -> Array:
    """Gather the images of a batch, or of a part of it, scaled and shifted.

    Row i is images[order[(batch · batch_size + first + i) mod n]] · scale + offset. The order is
    `random.permutation(n, seed, epoch, stream)`, or 0 … n - 1 without `shuffle`. After the last
    sample the order starts again, so the last batch may have full size, or as many rows as are
    left. Bytes are scaled as if exactly and rounded once: scale = 1 / 255 and offset = 0 give
    float32(k / 255) to the bit, which a product with the float32 of 1 / 255 does for only half of
    the bytes.

    images         (n, …) uint8 or float32
    epoch          (1,) int64: number of the epoch
    batch          (1,) int64, 0 or more: number of the batch in the epoch
    rows           how many rows of this batch to gather
    first          the row of the batch to begin with
    batch_size     rows of all batches except the last
    seed, stream   numbers that choose the order
    shuffle        whether the samples are shuffled
    scale, offset  factor and summand for each value
    →              (rows, …) float32
    """
    chosen = images[_samples(len(images), epoch, batch, rows, first, batch_size, seed, stream, shuffle)]
    if images.dtype == np.uint8:
        return (chosen * np.float64(scale) + offset).astype(np.float32)
    return chosen * scale + offset


def _labels_outputs(labels: Spec, epoch: Spec, batch: Spec, *, rows: int, **order: Any) -> Spec:
    _check_batch("gather_labels", labels, epoch, batch, rows=rows, **order)
    return labels.like(rows, *labels.shape[1:])


@op(
    outputs=_labels_outputs,
    cases=[
        Case(name, (labels, _NUMBER, _NUMBER), {"rows": rows, "batch_size": size} | order)
        for name, labels, rows, size, order in (
            ("one", integers(1, high=10), 1, 1, _SHUFFLED),
            ("classes", integers(100, high=10), 32, 32, _SHUFFLED),
            ("last_of_epoch", integers(100, high=10), 4, 32, _SHUFFLED),
            ("part", integers(100, high=10), 11, 32, _PART),
            ("in_order", integers(100, high=10), 32, 32, _IN_ORDER),
            ("beyond_the_last", integers(5, high=10), 11, 11, _SHUFFLED),
            ("blocks", integers(700, high=10), 600, 600, _SHUFFLED),
            ("weights", real(100), 32, 32, _SHUFFLED),
            ("one_hot", real(50, 10), 20, 20, _SHUFFLED),
            ("one_hot_blocks", real(300, 10), 250, 250, _SHUFFLED),
            ("wide", real(20, 1500), 3, 3, _SHUFFLED),
            ("chunks", real(3, 4100), 2, 2, _SHUFFLED),
            ("masks", integers(20, 5, 3, high=10), 7, 7, _SHUFFLED),
        )
    ]
    + [
        Case(name, (labels, _NUMBER, _NUMBER), {"rows": 512, "batch_size": 512} | _SHUFFLED, bench=True)
        for name, labels in (("cifar", integers(50000, high=10)), ("cifar_one_hot", real(50000, 10)))
    ],
    prefer=("gather",),
    ulps=0,
)
def gather_labels(
    labels: Array,
    epoch: Array,
    batch: Array,
    *,
    rows: Natural,
    first: Natural,
    batch_size: Count,
    seed: Seed,
    stream: Seed,
    shuffle: bool,
) -> Array:
    """Gather the labels of a batch or a part of it: row i is labels[order[(batch · batch_size + first + i) mod n]].

    labels  (n, …) int32 or float32: class numbers, rows of outputs, or sample weights
    epoch   (1,) int64: number of the epoch
    batch   (1,) int64, 0 or more: number of the batch in the epoch
    →       (rows, …), same dtype as labels

    The parameters are those of `gather_images`: with the same ones, row i belongs to row i of the
    images.
    """
    return labels[_samples(len(labels), epoch, batch, rows, first, batch_size, seed, stream, shuffle)]


def _advance_outputs(counters: Spec, *, steps: int) -> Spec:
    if counters.shape not in ((2,), (3,)) or counters.dtype != np.int64:
        raise ShapeError(f"advance: counters must be 2 or 3 int64 numbers and are {counters.shape} {counters.dtype}")
    if steps < 1:
        raise ArgumentError(f"advance: steps={steps} is out of range: use 1 or more")
    return counters


@op(
    outputs=_advance_outputs,
    cases=[
        Case("within_an_epoch", (integers(2, low=4, high=5, dtype="int64"),), {"steps": 6}),
        Case("at_its_end", (integers(2, low=4, high=5, dtype="int64"),), {"steps": 5}),
        Case("one_step", (integers(2, high=1, dtype="int64"),), {"steps": 1}),
        Case("different", (integers(3, high=1000, dtype="int64"),), {"steps": 2000}),
        Case("with_a_total", (integers(3, low=4, high=5, dtype="int64"),), {"steps": 5}),
        Case("far", (integers(3, low=2**40, high=2**40 + 1, dtype="int64"),), {"steps": 2**40 + 9}),
    ],
    prefer=("counter",),
    inplace=(0,),
)
def advance(counters: Array, *, steps: Seed) -> Array:
    """Count one batch: (batch, epoch) becomes (batch + 1, epoch), or (0, epoch + 1) after the last.

    counters  (2,) or (3,) int64, changed in place: batch, epoch and, if present, all calls
    steps     batches of an epoch
    →         counters
    """
    counters[0] += 1
    if counters[0] >= steps:
        counters[0] = 0
        counters[1] += 1
    counters[2:] += 1
    return counters


def _count_outputs(scores: Spec, labels: Spec) -> Spec:
    if len(scores.shape) != 2 or not scores.shape[1]:
        raise ShapeError(f"count_correct: scores need two axes (N, K) and have shape {scores.shape}")
    if labels.shape == scores.shape and labels.dtype.kind == "f":
        return Spec((1,), _COUNT)
    if labels.shape != scores.shape[:1] or labels.dtype.kind not in "iu":
        raise ShapeError(
            f"count_correct: labels must be integers (N,) or shares of the shape of scores {scores.shape} and are "
            f"{labels.shape} {labels.dtype}"
        )
    return Spec((1,), _COUNT)


_SCORES = {
    "one": (1, 1),
    "two_classes": (9, 2),
    "ragged": (7, 5),
    "mnist": (128, 10),
    "blocks": (1027, 10),
    "warp": (40, 32),
    "wide": (33, 1000),
}
_SCORES_BENCH = {"cifar": (512, 10), "test_set": (10000, 10), "imagenet": (256, 1000)}


_STRANGE = (-math.inf, -1.0, -0.0, 0.0, math.inf, math.nan)


def _ties(n: int, k: int) -> Draw:
    """Scores of three values only, so that the largest often occurs twice."""
    return Draw((n, k), "integers", 0, 3, "float32")


@op(
    outputs=_count_outputs,
    cases=[
        case
        for shapes in (_SCORES, _SCORES_BENCH)
        for name, (n, k) in shapes.items()
        for case in (
            Case(name, (_ties(n, k), integers(n, high=min(k, 3))), {}, shapes is _SCORES_BENCH),
            Case(f"{name}_one_hot", (_ties(n, k), _ties(n, k)), {}, shapes is _SCORES_BENCH),
        )
    ]
    + [
        Case("nan_and_infinity", (among(200, 5, values=_STRANGE), integers(200, high=3)), {}),
        Case("nan_and_infinity_one_hot", (among(200, 5, values=_STRANGE), among(200, 5, values=_STRANGE)), {}),
    ],
    prefer=("rows",),
    flops=lambda scores, labels: math.prod(scores.shape),
)
def count_correct(scores: Array, labels: Array) -> Array:
    """Count the rows whose largest score is at their label.

    Of equal scores the first counts, and NaN is the largest.

    scores  (N, K): a score for each of K classes
    labels  (N,) int32 class numbers, or (N, K) float32 shares, of which the largest is the label
    →       (1,) int32
    """
    classes = labels.argmax(axis=1) if labels.ndim == 2 else labels
    return np.array([np.count_nonzero(scores.argmax(axis=1) == classes)], np.int32)


def _binary_outputs(scores: Spec, labels: Spec, *, threshold: float) -> Spec:
    if labels.shape not in (scores.shape, scores.shape[:-1] if scores.shape[-1:] == (1,) else scores.shape):
        raise ShapeError(f"count_correct_binary: labels have shape {labels.shape} and scores {scores.shape}")
    return Spec((1,), _COUNT)


@op(
    outputs=_binary_outputs,
    cases=[
        Case(name, (real(*shape, low=0.0), labels), {"threshold": 0.5}, bench)
        for name, shape, labels, bench in (
            ("one", (1, 1), integers(1, high=2), False),
            ("column", (77, 1), integers(77, high=2), False),
            ("alike", (77, 1), integers(77, 1, high=2), False),
            ("floats", (1027, 1), integers(1027, 1, high=2, dtype="float32"), False),
            ("outputs", (33, 7), integers(33, 7, high=2, dtype="float32"), False),
            ("beyond_the_grid", (300_001,), integers(300_001, high=2), False),
            ("batch", (512, 1), integers(512, high=2), True),
            ("masks", (64, 256, 256), integers(64, 256, 256, high=2), True),
        )
    ],
    prefer=("rows",),
    flops=lambda scores, labels, **_: math.prod(scores.shape),
)
def count_correct_binary(scores: Array, labels: Array, *, threshold: float) -> Array:
    """Count the values for which score > threshold is true if the label is 1 and false if it is 0.

    scores     any shape
    labels     same shape, or without the last axis if that is 1; int32 or float32 numbers, 0 or 1
    threshold  rounded to float32 before the comparison
    →          (1,) int32
    """
    above = scores.reshape(-1) > np.float32(threshold)
    return np.array([np.count_nonzero(above == labels.reshape(-1))], np.int32)
