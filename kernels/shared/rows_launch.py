"""How the rows of an array (N, K) are shared out: a few lanes for a short row, a block for a long
one."""

from __future__ import annotations

from gpucnn.devices.launch import ceil_div

THREADS = 256
"""Threads of a block, unless its one row is very long."""

MOST_THREADS = 1024
WARP = 32
SHORT, LONG = 8 * WARP, 32 * THREADS
"""Columns up to which a part of a warp takes a row, and above which a block takes all the threads
there are."""


def over_rows(N: int, K: int) -> tuple[tuple[int], tuple[int, int]]:
    """Grid and block for N rows of K columns; the block is (threads of a row, rows).

    The threads of a row are a power of two, and neighbours, so that a warp reads one stretch of
    memory: with K = 10, eight lanes to a row and four rows to a warp.
    """
    threads = MOST_THREADS if K > LONG else THREADS if K > SHORT else min(WARP, 1 << (K.bit_length() - 1))
    rows = max(1, THREADS // threads)
    return (ceil_div(N, rows),), (threads, rows)
