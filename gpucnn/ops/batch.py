"""Batches on the device: gathering images and labels, counting steps and correct predictions.

The numbers of the batch and of the epoch are operands, so that a captured step can be replayed, and
the next ones are a result. The samples of an epoch are in the order of
`random.permutation`, which a kernel can compute for each position separately.
"""

from __future__ import annotations

import math

import numpy as np

from .. import random
from ..arguments import Count, Natural, Seed
from ..dispatch.case import Array, Case, Draw, Spec, among, integers, real
from ..dispatch.op import op
from ..errors import ArgumentError, ShapeError

_COUNT = np.dtype(np.int32)


def _batch_outputs(
    counters: Spec,
    images: Spec,
    labels: Spec | None,
    weights: Spec | None,
    table: Spec | None,
    *,
    rows: Natural,
    first: Natural,
    batch_size: Count,
    steps: Seed,
    ring: Natural,
    seed: Seed,
    stream: Seed,
    shuffle: bool,
) -> tuple[Spec, ...]:
    name = "gather_batch"
    if counters.shape != (3,) or counters.dtype != np.int64:
        raise ShapeError(f"{name}: counters must be 3 int64 numbers and are {counters.shape} {counters.dtype}")
    if images.dtype.kind != "f" and images.dtype != np.uint8:
        raise ShapeError(f"{name}: images are {images.dtype} and must be uint8 or floating-point numbers")
    if first + rows > batch_size:
        raise ArgumentError(
            f"{name}: first={first}, rows={rows} of batch_size={batch_size} is out of range: first + rows must not be "
            "larger than batch_size"
        )
    if steps < 1:
        raise ArgumentError(f"{name}: steps={steps} is out of range: use 1 or more")
    of_samples = [array for array in (labels, weights) if array is not None]
    for array in (images, *of_samples, *([] if table is None else [table])):
        if not array.shape or not array.shape[0]:
            raise ShapeError(f"{name}: there must be one sample or more along the first axis: {array.shape}")
    if len({array.shape[0] for array in (*of_samples, *([] if ring else [images]))}) > 1:
        shapes = [array.shape for array in (images, *of_samples)]
        raise ShapeError(f"{name}: images, labels and weights must have as many samples as each other: {shapes}")
    if table is not None and len(table.shape) != 2:
        raise ShapeError(f"{name}: table needs two axes (steps, columns) and has shape {table.shape}")
    x = Spec((rows, *images.shape[1:]), images.dtype if images.dtype.kind == "f" else np.dtype(np.float32))
    gathered = [array.like(rows, *array.shape[1:]) for array in of_samples]
    return (x, counters, *gathered, *([] if table is None else [table.like(table.shape[1])]))


def _bytes(*shape: int) -> Draw:
    return integers(*shape, high=256, dtype="uint8")


_COUNTERS = integers(3, high=7, dtype="int64")
_SHUFFLED = {"seed": 1234567890123, "stream": 3, "shuffle": True, "first": 0, "ring": 0}
_IN_ORDER = {"seed": 0, "stream": 0, "shuffle": False, "first": 0, "ring": 0}
_RANK, _RING = _SHUFFLED | {"first": 4}, {"ring": 6}
_GATHERED_BENCH = {
    "mnist": (_bytes(60000, 28, 28, 1), 128),
    "cifar": (_bytes(50000, 32, 32, 3), 512),
    "imagenet": (_bytes(300, 224, 224, 3), 256),
}


@op(
    outputs=_batch_outputs,
    cases=[
        Case(name, (_COUNTERS, images, *others), {"rows": rows, "batch_size": size, "steps": steps} | order)
        for name, images, others, rows, size, steps, order in (
            ("one", _bytes(1, 1), (integers(1, high=10), real(1), real(1, 1)), 1, 1, 7, _SHUFFLED),
            ("two", _bytes(2, 3), (None, None, None), 2, 2, 1, _SHUFFLED),
            ("classes", _bytes(50, 8, 8, 1), (integers(50, high=10), None, real(9, 5)), 7, 7, 9, _SHUFFLED),
            ("last_of_epoch", _bytes(50, 8, 8, 1), (integers(50, high=10), real(50), None), 3, 7, 8, _SHUFFLED),
            ("in_order", _bytes(50, 8, 8, 1), (integers(50, high=10), None, real(7, 2)), 7, 7, 7, _IN_ORDER),
            ("beyond_the_last", _bytes(5, 3, 4), (integers(5, high=9), real(5, 2), real(3, 4)), 11, 11, 1, _SHUFFLED),
            ("one_hot", real(20, 6, 6, 3), (real(20, 10), None, real(2, 400)), 8, 8, 7, _SHUFFLED),
            ("masks", real(20, 5, 3), (integers(20, 5, 3, high=10), real(20, 5, 3), None), 8, 8, 5, _IN_ORDER),
            ("wide_labels", _bytes(6, 5), (real(6, 1500), None, None), 3, 3, 7, _SHUFFLED),
            ("chunks", _bytes(3, 65, 64, 1), (integers(3, high=3), None, None), 2, 2, 7, _SHUFFLED),
            ("ragged_chunks", _bytes(3, 4099), (None, real(3), None), 2, 2, 7, _SHUFFLED),
            ("float_chunks", real(3, 4100), (integers(3, high=3), None, None), 2, 2, 7, _SHUFFLED),
            ("ring", _bytes(12, 4, 4, 1), (integers(50, high=10), real(50), real(9, 3)), 6, 6, 8, _SHUFFLED | _RING),
            ("ring_of_a_rank", _bytes(12, 3), (integers(50, high=10), real(50), None), 5, 9, 8, _RANK | _RING),
            ("rank", _bytes(50, 8), (integers(50, high=10), real(50, 2), real(8, 3)), 4, 9, 8, _RANK),
            ("ring_in_order", real(12, 5), (integers(50, high=10), None, None), 5, 6, 8, _IN_ORDER | _RING),
        )
    ]
    + [
        Case(
            name,
            (_COUNTERS, images, integers(images.shape[0], high=10), None, real(400, 6)),
            {"rows": size, "batch_size": size, "steps": 400} | _SHUFFLED,
            bench=True,
        )
        for name, (images, size) in _GATHERED_BENCH.items()
    ],
    prefer=("gather",),
    ulps=0,
)
def gather_batch(
    counters: Array,
    images: Array,
    labels: Array | None,
    weights: Array | None,
    table: Array | None,
    *,
    rows: Natural,
    first: Natural,
    batch_size: Count,
    steps: Seed,
    ring: Natural,
    seed: Seed,
    stream: Seed,
    shuffle: bool,
) -> tuple[Array, ...]:
    """All that a step takes from the data set on the device: its images, labels and weights, its row
    of a table, and the counters of the next step.

    Row i is sample order[(batch · batch_size + first + i) mod n]. The order is
    `random.permutation(n, seed, epoch, stream)`, or 0 … n - 1 without `shuffle`. After the last
    sample the order starts again, so the last batch may have full size, or as many rows as are
    left.

    counters      (3,) int64: number of the batch in the epoch, number of the epoch, number of all steps
    images        (n, …) uint8 or float32
    labels        (n, …) int32 or float32, or None: class numbers or rows of outputs
    weights       (n, …) float32, or None
    table         (steps, columns) float32, or None: what varies from step to step, such as rates
    rows          rows of this batch, or of a part of it
    first         the row of the batch that is row 0
    batch_size    rows of all batches except the last
    steps         batches of an epoch
    seed, stream  numbers that choose the order
    shuffle       whether the samples are shuffled
    ring          0, or how many images of each batch lie in a ring that the host fills in the order in which
                  they are taken: row i is then image (batch · ring + i) mod n, and the number of the
                  images need not be that of the labels
    →             x (rows, …) float32; the next counters (3,), where the batch after the last one of an
                  epoch is the first of the next; then the rows of labels and of weights and the row
                  (columns,) of the table, those that are there
    """
    batch, epoch, total = map(int, counters)

    def chosen(array: Array) -> Array:
        n = len(array)
        positions = (batch * batch_size + first + np.arange(rows)) % n
        return array[random.permutation(n, seed=seed, epoch=epoch, stream=stream)[positions] if shuffle else positions]

    x = images[(batch * ring + np.arange(rows)) % len(images)] if ring else chosen(images)
    last = batch + 1 >= steps
    following = np.array([0 if last else batch + 1, epoch + last, total + 1], np.int64)
    gathered = [chosen(array) for array in (labels, weights) if array is not None]
    row = [] if table is None else [table[batch % len(table)]]
    return x.astype(np.float32) if x.dtype == np.uint8 else x, following, *gathered, *row


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
