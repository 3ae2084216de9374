"""How to launch the kernels that use `column_sums.cuh`: a matrix's rows added up in slices, then
the slices."""

from __future__ import annotations

import math

from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch.case import Spec

LINE = 32
"""Columns of a block: the floats of a line of memory."""

THREADS = 256
"""Threads of a block that sums a slice: few, so that many slices are in work on a
multiprocessor."""

JOINING = 1024
"""Threads of a block that joins slices: a few blocks must do it, with many loads in flight."""

BLOCKS = 1024
"""Blocks that keep a large GPU busy: an H100's 132 multiprocessors hold eight each."""

FEWEST, SHORTEST = 32, 64
"""Slices even of very wide matrices, for short chains of additions; and the rows that make a slice
worth while."""


ONE_BLOCK = 512
"""Rows that one block adds up sooner than a second launch begins: four loads for each of its
threads."""


def count_of_slices(rows, columns):
    """Into how many slices to cut the sums over the rows of a matrix."""
    if rows <= ONE_BLOCK:
        return 1
    return min(max(BLOCKS // tiles(columns), FEWEST), ceil_div(rows, SHORTEST))


def sums_of_slices(values: Spec, *_: Spec) -> tuple[Spec, ...]:
    """The workspace: the sums of the slices of values (…, columns), if there are several slices."""
    *rows, columns = values.shape
    slices = count_of_slices(math.prod(rows), columns)
    return (values.like(slices, columns),) if slices > 1 else ()


def tiles(columns):
    """Into how many tiles of at most LINE columns a matrix is cut."""
    return ceil_div(columns, LINE)


def sum_rows(function, join_slices, total, sums, rows, *others):
    """total (columns,), each the sum over the rows; sums (slices, columns) is None where one slice
    has all of them.

    function  takes where the sums of its slices go, the arrays `others`, and the numbers of
              `column_sums.cuh`
    """
    columns = total.size
    if sums is None:
        _launch(function, JOINING, 1, rows, columns, total, *others)
    else:
        _launch(function, THREADS, sums.shape[0], rows, columns, sums, *others)
        join(join_slices, total, sums)


def join(function, total, sums):
    """total (columns,) of sums (slices, columns)."""
    slices, columns = sums.shape
    _launch(function, JOINING, 1, slices, columns, total, sums)


def _launch(function, threads, slices, rows, columns, *arrays):
    width = ceil_div(columns, tiles(columns))
    function[slices * tiles(columns), threads, 4 * threads](*arrays, rows, columns, width, ceil_div(rows, slices))
