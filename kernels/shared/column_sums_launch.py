"""How to launch the kernels that use `column_sums.cuh`: a matrix's rows added up in slices, then
the slices."""

from __future__ import annotations

from gpucnn.devices.launch import ceil_div

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


def count_of_slices(rows, columns):
    """Into how many slices to cut the sums over the rows of a matrix."""
    return min(max(BLOCKS // tiles(columns), FEWEST), ceil_div(rows, SHORTEST))


def tiles(columns):
    """Into how many tiles of at most LINE columns a matrix is cut."""
    return ceil_div(columns, LINE)


def sum_slices(function, sums, matrix):
    """sums (slices, columns), each row of them from as many rows of matrix (rows, columns)."""
    (rows, columns), slices = matrix.shape, sums.shape[0]
    width = ceil_div(columns, tiles(columns))
    function[slices * tiles(columns), THREADS, 4 * THREADS](sums, matrix, rows, columns, width, ceil_div(rows, slices))


def join(function, total, sums):
    """total (columns,) of sums (slices, columns)."""
    slices, columns = sums.shape
    width = ceil_div(columns, tiles(columns))
    function[tiles(columns), JOINING, 4 * JOINING](total, sums, slices, columns, width, slices)
