"""How to launch the kernels that use `column_sums.cuh`: a matrix's rows added up in slices, then
the slices."""

from __future__ import annotations

import math

from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch.case import Spec

LINE = 32
"""Columns of a block: the floats of a line of memory."""

THREADS = 1024
"""Threads of a block: one block of each tile adds up all slices, and must have many loads in
flight."""

RESIDENT_BLOCKS = 2
"""Blocks that a multiprocessor must be able to hold: all threads of an A100 or H100."""

BLOCKS = 132 * RESIDENT_BLOCKS
"""Blocks that keep a large GPU busy: what the 132 multiprocessors of an H100 hold at a time."""

FEWEST, SHORTEST = 32, 128
"""Slices even of very wide matrices, for short chains of additions; and the rows that make a slice
worth while: four for each lane of a full line."""

ONE_BLOCK = 512
"""Rows that one block adds up sooner than it can wait for another."""

MOST_COUNTERS = 1024
"""Tiles whose blocks can be counted; wider matrices fill a GPU with one block for each tile."""

DEFINES = {"THREADS": THREADS, "RESIDENT_BLOCKS": RESIDENT_BLOCKS, "MOST_COUNTERS": MOST_COUNTERS}


def count_of_slices(rows, columns):
    """Into how many slices to cut the sums over the rows of a matrix."""
    if rows <= ONE_BLOCK or tiles(columns) > MOST_COUNTERS:
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


def column_totals(function, total, sums, rows, *arrays, end=()):
    """total (columns,), each the sum over the rows, by a kernel that uses `column_totals.cuh`; sums
    (slices, columns) is None where one slice has all of them. The kernel takes `end` last."""
    slices = 1 if sums is None else sums.shape[0]
    _launch(function, slices, rows, total.size, total, sums, *arrays, end=end)


def join(function, total, sums):
    """total (columns,) of sums (slices, columns), by a kernel that uses `column_sums.cuh`."""
    slices, columns = sums.shape
    _launch(function, 1, slices, columns, total, sums)


def _launch(function, slices, rows, columns, *arrays, end=()):
    width = ceil_div(columns, tiles(columns))
    launch = function[slices * tiles(columns), THREADS, 4 * THREADS]
    launch(*arrays, rows, columns, width, ceil_div(rows, slices), *end)
