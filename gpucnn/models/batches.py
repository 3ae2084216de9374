"""x, y and sample_weight as float32 batches; errors name the classic mistakes."""

from __future__ import annotations

import inspect
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from .. import random
from ..arguments import Natural, NotNegative, numbers, wrong
from ..devices.cpu import CPU
from ..errors import ArgumentError, DataError, ShapeError, warn
from ..layers.layer import Shape
from ..losses.labels import class_numbers
from .stored import BLOCK, NEAR, StoredImages

_AHEAD, _READERS = 4, 2
"""Batches that are read before they are due, and the threads that read."""

ClassWeight = dict[Natural, NotNegative] | None
"""How much the samples of a class weigh, by its number."""


class Batch(NamedTuple):
    """One batch: x float32 (n, …), y or None, weights float32 (n,) or None."""

    x: np.ndarray
    y: np.ndarray | None
    weight: np.ndarray | None


class Arrays:
    """Whole arrays, cut into batches of `batch_size`, the last one shorter."""

    def __init__(self, x: np.ndarray, y: np.ndarray | None, weight: np.ndarray | None, batch_size: int | None) -> None:
        self.x, self.y, self.weight = x, y, weight
        self.batch_size = int(batch_size or 32)
        self.steps: int | None = -(-len(x) // self.batch_size)

    def of_each_size(self) -> Arrays:
        """The first samples, in batches of the same sizes as all of them."""
        count = len(self.x) if len(self.x) < self.batch_size else self.batch_size + len(self.x) % self.batch_size
        x, y, weight = (None if array is None else array[:count] for array in (self.x, self.y, self.weight))
        assert x is not None
        return Arrays(x, y, weight, self.batch_size)

    def epoch(
        self, order: np.ndarray | None, first: int = 0, own: Callable[[int], slice] | None = None
    ) -> Iterator[Batch]:
        """The batches of an epoch from number `first` on; the samples in this order, if any.

        own  chooses the rows that x holds, from how many the batch has; y and weight hold all
        """
        for number in range(first, -(-len(self.x) // self.batch_size)):
            yield self.batch(number, order, own)

    def batch(self, number: int, order: np.ndarray | None, own: Callable[[int], slice] | None = None) -> Batch:
        """One batch; the arguments are those of `epoch`."""
        start = number * self.batch_size
        stop = min(start + self.batch_size, len(self.x))
        rows = slice(start, stop) if order is None else order[start:stop]
        if own is None:
            return _batch(self.x, self.y, self.weight, rows)
        part = own(stop - start)
        rows_of_x = slice(start + part.start, start + part.stop) if order is None else order[start:stop][part]
        labels, weights = chosen_labels(self.y, rows), chosen_labels(self.weight, rows)
        return Batch(_rows(self.x, rows_of_x, np.float32), labels, weights)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """(N,): the samples in the order in which a shuffled epoch takes them."""
        return random.permutation(len(self.x), seed=seed, epoch=epoch)


class StoredArrays(Arrays):
    """Images in a file, with labels and weights in memory. Threads read the batches that come next."""

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """(N,): near images shuffled, then near blocks of them."""
        return random.near_permutation(len(self.x), BLOCK, NEAR, seed=seed, epoch=epoch)

    def epoch(
        self, order: np.ndarray | None, first: int = 0, own: Callable[[int], slice] | None = None
    ) -> Iterator[Batch]:
        """The batches of an epoch, read ahead of their use."""
        pending: deque[Future[Batch]] = deque()
        numbers = iter(range(first, -(-len(self.x) // self.batch_size)))
        with ThreadPoolExecutor(_READERS, "gpucnn-reader") as readers:
            try:
                for number in islice(numbers, _AHEAD):
                    pending.append(readers.submit(self.batch, number, order, own))
                while pending:
                    batch = pending.popleft().result()
                    for number in islice(numbers, 1):
                        pending.append(readers.submit(self.batch, number, order, own))
                    yield batch
            finally:
                for future in pending:
                    future.cancel()


class Stream:
    """A generator or another iterable of batches x, (x, y) or (x, y, sample_weight).

    At each epoch a generator resumes where it stopped; any other iterable starts again. `batch_size`
    is that of the latest batch.
    """

    def __init__(self, source: Iterable[Any], steps: int | None, expected: Shape | None) -> None:
        self.source = source
        self.expected = expected
        self.steps = steps
        if steps is None and isinstance(source, Sized):
            self.steps = len(source)
        self._begun = inspect.isgenerator(source) and inspect.getgeneratorstate(source) != inspect.GEN_CREATED
        self.batch_size = 0

    def epoch(self, order: np.ndarray | None, first: int = 0, own: Any = None) -> Iterator[Batch]:
        """The batches of one epoch from number `first` on; `order` and `own` do not apply to a stream."""
        if not isinstance(self.source, Iterator):
            items = itertools.islice(self.source, first, self.steps)
        else:
            items = itertools.islice(self.source, None if self.steps is None else self.steps - first)
        for item in items:
            parts = item if isinstance(item, (tuple, list)) else (item,)
            if not 1 <= len(parts) <= 3:
                raise DataError(f"a batch must be x, (x, y) or (x, y, sample_weight) and has {len(parts)} parts")
            x, y, weight = (*(None if p is None else numbers("x", p) for p in parts), None, None)[:3]
            assert x is not None
            if self.expected is not None:
                check_input(x, self.expected)
            check_lengths(x, y, weight)
            self.batch_size = len(x)
            yield _batch(x, y, weight, slice(None))

    @property
    def kind(self) -> str:
        """What the source is called in messages."""
        return "generator" if isinstance(self.source, Iterator) else "iterable"

    def skip(self, count: int) -> None:
        """Pass over the batches that were used before a training is resumed.

        Only a generator or another iterator needs it, unless it has begun: then it is the one that
        was in use.
        """
        if self._begun or not isinstance(self.source, Iterator):
            return
        there = sum(1 for _ in itertools.islice(self.source, count))
        if there < count:
            raise ArgumentError(
                f"the generator ended after {there} batches, and {count} were trained before: give the same data again"
            )

    def first(self) -> Batch:
        """The first batch, put back in front of the others."""
        if isinstance(self.source, Iterator):
            item = next(self.source, None)
            if item is None:
                raise DataError("the generator gave no batch: create a new one for each call")
            self.source = itertools.chain([item], self.source)
            return next(Stream([item], 1, self.expected).epoch(None))
        batch = next(self.epoch(None), None)
        if batch is None:
            raise DataError("x, an iterable of batches, is empty")
        return batch


Batches = Arrays | Stream

_PROTOCOLS = ("__array__", "__dlpack__", "__cuda_array_interface__")
"""What arrays of any library have, one or the other."""


def as_batches(
    x: Any, y: Any, weight: Any, batch_size: int | None, steps: int | None, expected: Shape | None
) -> Batches:
    """Arrays or a stream, checked against the model's input shape unless it is unknown."""
    if x is None:
        raise ArgumentError("x is missing: give arrays, a generator or an iterable of batches")
    if isinstance(x, StoredImages) or _is_array(x):
        array: Any = x if isinstance(x, StoredImages) else numbers("x", x)
        labels, weights = (None if a is None else numbers(n, a) for n, a in (("y", y), ("sample_weight", weight)))
        check_lengths(array, labels, weights)
        if expected is not None:
            check_input(array, expected)
        arrays = (StoredArrays if array is x and isinstance(x, StoredImages) else Arrays)(
            array, labels, weights, batch_size
        )
        if steps is not None:
            arrays.steps = min(steps, arrays.steps or steps)
        return arrays
    if y is not None or weight is not None:
        raise ArgumentError(
            "y and sample_weight belong in the batches (x, y, sample_weight) of a generator or iterable"
        )
    if batch_size is not None:
        raise ArgumentError("batch_size does not apply to a generator or iterable: its batches have their own size")
    if not isinstance(x, Iterable):
        raise wrong("the data", "x", x, "arrays, a generator or an iterable of batches")
    return Stream(x, steps, expected)


def one_batch(x: Any) -> tuple[np.ndarray, int | None]:
    """x as an array, and the size of the batch that holds all of it; None if it holds nothing."""
    array = numbers("x", x)
    return array, len(np.atleast_1d(array)) or None


def check_lengths(x: np.ndarray, y: np.ndarray | None, weight: np.ndarray | None) -> None:
    """x, y and sample_weight must have one row for each sample, and at least one."""
    if x.ndim == 0 or len(x) == 0:
        raise DataError(f"x has shape {x.shape}: it holds no sample")
    for name, array in (("y", y), ("sample_weight", weight)):
        if array is not None and (array.ndim == 0 or len(array) != len(x)):
            raise DataError(f"x has {len(x)} samples and {name} has shape {array.shape}: give one row for each sample")


def check_input(x: np.ndarray, expected: Shape) -> None:
    """Raise `ShapeError`, naming mistake and cure, unless x (n, …) fits the input shape."""
    sample, got = expected[1:], x.shape[1:]
    if _fits(got, sample):
        return
    mismatch = f"the model takes x of shape {('n', *sample)} and got {x.shape}".replace("'n'", "n")
    if _fits(x.shape, sample):
        raise ShapeError(f"{mismatch}: the batch axis is missing; give x[None] for one image")
    if _fits((*got, 1), sample):
        raise ShapeError(f"{mismatch}: the channel axis is missing; give x[..., None]")
    if _fits((*x.shape, 1), sample):
        raise ShapeError(f"{mismatch}: batch and channel axis are missing; give x[None, ..., None] for one image")
    if len(got) > 1 and _fits((*got[1:], got[0]), sample):
        raise ShapeError(f"{mismatch}: the channels come first; gpucnn has them last, give np.moveaxis(x, 1, -1)")
    if math.prod(got) == math.prod(e or 1 for e in sample):
        raise ShapeError(f"{mismatch}: the number of values fits; give x.reshape(-1, {', '.join(map(str, sample))})")
    if len(got) == 0:
        raise ShapeError(f"{mismatch}: it holds one number for each sample; are x and y exchanged?")
    if len(got) > 1 and len(got) == len(sample) and _fits(got[:-1], sample[:-1]):
        change = "x.mean(-1, keepdims=True)" if sample[-1] == 1 else f"np.repeat(x, {sample[-1]}, axis=-1)"
        fix = f"give {change}, or " if 1 in (got[-1], sample[-1]) else ""
        raise ShapeError(f"{mismatch}: another number of channels; {fix}build the model for input_shape={got}")
    raise ShapeError(f"{mismatch}: resize the images or build the model for input_shape={got}")


def warn_if_unscaled(x: np.ndarray, kind: str = "") -> bool:
    """Warn if images look unscaled ("training ", "validation " or all alike): such training often collapses.

    Returns whether it warned.
    """
    sample = x[: min(len(x), 256)]
    if x.ndim < 3 or x.dtype == bool or not sample.size:
        return False
    highest = float(sample.max())
    if not 2.0 < highest <= 255.0:
        return False
    lowest = float(sample.min())
    if lowest < 0.0:
        return False
    warn(
        f"the {kind}images look unscaled (values {lowest:g} to {highest:g}): most models train badly on that; "
        "divide by 255 first, or put layers.Rescaling(1 / 255) in front"
    )
    return True


def split_off(fraction: float, x: Any, y: Any, weight: Any) -> tuple[tuple, tuple]:
    """Keras' validation_split: hold out the last `fraction` of the samples, unshuffled."""
    if not 0.0 < fraction < 1.0:
        raise ArgumentError(f"validation_split={fraction} is out of range: use a fraction between 0 and 1")
    if not _is_array(x):
        raise ArgumentError("validation_split needs arrays: with a generator give validation_data=")
    x = numbers("x", x)
    y, weight = (None if a is None else numbers(n, a) for n, a in (("y", y), ("sample_weight", weight)))
    check_lengths(x, y, weight)
    n = len(x)
    cut = math.floor(n * (1.0 - fraction))
    if not 0 < cut < n:
        raise ArgumentError(f"validation_split={fraction} of {n} samples leaves an empty part: use another fraction")
    if y is not None:
        _warn_if_class_missing(y, cut)
    parts = slice(cut), slice(cut, None)
    head, tail = (tuple(None if a is None else a[part] for a in (x, y, weight)) for part in parts)
    return head, tail


def class_weights(class_weight: Any, y: np.ndarray) -> np.ndarray:
    """The weight of each sample by its class; classes not in `class_weight` weigh 1."""
    classes = class_numbers(y)
    if classes is None:
        raise ArgumentError("class_weight needs class numbers or one-hot rows in y")
    table = np.ones(int(classes.max()) + 1, np.float32)
    for number, weight in class_weight.items():
        if number < len(table):
            table[number] = weight
    return table[classes]


def _warn_if_class_missing(y: np.ndarray, cut: int) -> None:
    classes = class_numbers(y)
    if classes is None or len(np.unique(classes)) > 1000:
        return
    missing = sorted(set(np.unique(classes[:cut])) - set(np.unique(classes[cut:])))
    if missing:
        warn(
            f"validation_split holds out the last {len(y) - cut} samples, and class {', '.join(map(str, missing))} "
            "is not among them: shuffle x and y together first, or give validation_data="
        )


def _is_array(x: Any) -> bool:
    return any(hasattr(x, protocol) for protocol in _PROTOCOLS) or _is_list_of_samples(x)


def _is_list_of_samples(x: Any) -> bool:
    return isinstance(x, Sequence) and len(x) > 0 and not isinstance(x[0], (tuple, str)) and not _holds_batches(x)


def _holds_batches(x: Sequence) -> bool:
    return isinstance(x[0], np.ndarray) and x[0].ndim > 3


def _fits(shape: Sequence[int], expected: Sequence[int | None]) -> bool:
    return len(shape) == len(expected) and all(e is None or s == e for s, e in zip(shape, expected, strict=True))


def chosen_labels(array: np.ndarray | None, rows: Any) -> np.ndarray | None:
    """The chosen labels or weights: as float32 but integers of one or two axes."""
    if array is None:
        return None
    return _rows(array, rows, np.float32 if array.dtype.kind == "f" or array.ndim > 2 else array.dtype)


def _batch(x: np.ndarray, y: np.ndarray | None, weight: np.ndarray | None, rows: Any) -> Batch:
    return Batch(_rows(x, rows, np.float32), chosen_labels(y, rows), chosen_labels(weight, rows))


def _rows(array: np.ndarray, rows: Any, dtype: Any) -> np.ndarray:
    """The chosen rows as a contiguous array of this type."""
    in_memory = isinstance(array, np.ndarray) and array.flags.c_contiguous
    if in_memory and array.dtype == dtype == np.float32 and isinstance(rows, np.ndarray):
        out = CPU.empty((len(rows), *array.shape[1:]), np.float32)
        return np.take(array, rows, axis=0, out=out, mode="clip")
    return np.ascontiguousarray(array[rows], dtype)
