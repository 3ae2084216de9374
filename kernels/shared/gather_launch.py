"""The arrays of a launch that gathers a batch, those that are absent included."""

import math
from typing import Any, NamedTuple

from gpucnn.devices.launch import ceil_div

CHUNK = 4096
"""Values of one image that a block copies: four vectors for each of 256 threads."""


class Plan(NamedTuple):
    """Results and operands of `gather_batch` by name, and extents.

    values  of an image
    chunks  blocks of an image
    """

    y: Any
    factors: Any
    row: Any
    counters: Any
    images: Any
    labels: Any
    weights: Any
    table: Any
    values: int
    chunks: int

    @property
    def samples(self) -> int:
        """How many there are to choose from."""
        of_samples = self.weights if self.labels is None else self.labels
        return (self.images if of_samples is None else of_samples).shape[0]

    @property
    def extents(self) -> tuple[int, ...]:
        """Images, samples, values, chunks; values of a label and of a weight; columns and rows of the
        table: 0 for what is absent."""
        of_label, of_weight, columns = map(_inner, (self.labels, self.weights, self.table))
        rows_of_table = 0 if self.table is None else self.table.shape[0]
        return (
            self.images.shape[0],
            self.samples,
            self.values,
            self.chunks,
            of_label,
            of_weight,
            columns,
            rows_of_table,
        )


def plan_of(x, arrays):
    """From the arrays of a launch behind x and the next counters."""
    *results, counters, images, labels, weights, table = arrays
    results = iter(results)
    y, factors, row = (None if array is None else next(results) for array in (labels, weights, table))
    values = _inner(x)
    return Plan(y, factors, row, counters, images, labels, weights, table, values, ceil_div(values, CHUNK))


def supports(counters, images, labels, weights, table, **_):
    """Whether the dtypes are those that kernels are written for."""
    kinds = [None if spec is None else spec.dtype.name for spec in (images, labels, weights, table)]
    allowed = ("uint8", "float32"), ("int32", "float32", None), ("float32", None), ("float32", None)
    return all(kind in names for kind, names in zip(kinds, allowed, strict=True))


def _inner(array):
    """The elements of one of the array's rows."""
    return 0 if array is None else math.prod(array.shape[1:])
